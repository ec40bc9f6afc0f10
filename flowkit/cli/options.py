"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def storage_option(command: F) -> F:
    """`--storage URL`."""
    return click.option(
        "--storage",
        metavar="URL",
        help="Where runs are kept: disk:PATH, memory:, redis://... "
        "[default: FLOWKIT_STORAGE, else pyproject.toml, else disk:.flowkit]",
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document to stdout, and nothing else.")(
        command
    )


def app_option(command: F) -> F:
    """`--app FILE_OR_MODULE`, any number of times."""
    return click.option(
        "--app",
        "apps",
        multiple=True,
        metavar="FILE_OR_MODULE",
        help="Code whose tasks are known, to tell which runs have none (may be given several times).",
    )(command)
