"""What commands print: JSON for machines on stdout, words for people, errors in one clear message."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence

import click

from flowkit.cli.exits import Exit, exit_for_error
from flowkit.codec import Json
from flowkit.errors import FlowkitError
from flowkit.notes import notes_of


def emit(document: Json, *, in_a_line: bool = False) -> None:
    """Print a JSON document to stdout: the one of a command, or one of those that come in a line each."""
    click.echo(json.dumps(document, indent=None if in_a_line else 2, ensure_ascii=False, allow_nan=True))


def say(text: str = "", *, style: Mapping[str, object] | None = None) -> None:
    """Tell a person something, on stderr."""
    click.echo(click.style(text, **dict(style)) if style else text, err=True)  # type: ignore[arg-type]  # click's own options


def complain(message: str) -> None:
    """Tell a person what is wrong, on stderr."""
    click.echo(f"{click.style('Error:', fg='red', bold=True)} {message}", err=True)


def fail(error: BaseException, *, as_json: bool, exit_code: Exit | None = None, in_a_line: bool = False) -> Exit:
    """Report an error that ended a command; returns the exit code."""
    code = exit_for_error(error) if exit_code is None else exit_code
    if as_json:
        emit({"error": error_document(error), "exit_code": int(code)}, in_a_line=in_a_line)
    else:
        complain(str(error))
        for note in notes_of(error):
            say(f"  {note}")
    return code


def error_document(error: BaseException) -> dict[str, Json]:
    """An error as machines read it."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    notes: list[Json] = list(notes_of(error))
    return {"type": name, "message": str(error), "notes": notes}


@contextlib.contextmanager
def reported(*, as_json: bool, in_a_line: bool = False) -> Iterator[None]:
    """Turn flowkit's errors into a message and an exit code; a mistake of flowkit's own still shows its traceback."""
    try:
        yield
    except FlowkitError as error:
        sys.exit(fail(error, as_json=as_json, in_a_line=in_a_line))


@contextlib.contextmanager
def quiet_stdout(*, wanted: bool) -> Iterator[None]:
    """Send what a task prints to stderr, its subprocesses included, so that stdout holds the JSON document alone."""
    if not wanted:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr), _descriptor_1_to_stderr():
        yield


@contextlib.contextmanager
def _descriptor_1_to_stderr() -> Iterator[None]:
    try:
        real = sys.__stdout__ is not None and sys.__stdout__.fileno() == 1
        saved = os.dup(1) if real else None
    except (OSError, io.UnsupportedOperation):  # stdout is closed, or not a file
        saved = None
    if saved is None:
        yield
        return
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def one_line(values: Sequence[str], most: int = 12) -> str:
    """A list for a sentence, cut off where it gets long."""
    shown = ", ".join(values[:most])
    return f"{shown}, ... ({len(values) - most} more)" if len(values) > most else shown
