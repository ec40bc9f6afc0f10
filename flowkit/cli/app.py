"""The `flowkit` command and its parts; a part is imported when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

import click

from flowkit.cli.exits import HELP


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    parts: Mapping[str, str] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which they are declared."""
        del ctx
        return list(self.parts)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command by its name."""
        del ctx
        if cmd_name not in self.parts:
            return None
        module, _, name = self.parts[cmd_name].partition(":")
        return cast("click.Command", getattr(importlib.import_module(module), name))


class _Commands(LazyGroup):
    parts: Mapping[str, str] = {
        "run": "flowkit.cli.run_command:run",
        "worker": "flowkit.cli.worker_command:worker",
        "runs": "flowkit.cli.runs_command:runs",
        "doctor": "flowkit.cli.doctor_command:doctor",
    }


@click.group(cls=_Commands, epilog=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="flowkit-durable", prog_name="flowkit")
def cli() -> None:
    """Durable workflows: run them, look at them, mend them.

    A run that was interrupted is resumed by running it again under the same run id; only what had not completed runs.
    """
