"""Read `--input` and make the task's arguments of it, as its annotations say."""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
from pathlib import Path
from typing import cast

from attrs import field, frozen

from flowkit.codec import Codec, Json
from flowkit.conformance import mismatch
from flowkit.errors import ConfigurationError, SerializationError
from flowkit.registry import TaskSpec, hint_for

_WIDEST = 200  # columns of a line with a mistake, which a terminal may break
_LINE = 80  # characters of a value


@frozen
class Arguments:
    """What a task is called with."""

    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = field(factory=dict)


def read_input(given: str) -> Json:
    """The JSON of `--input`.

    Args:
        given: JSON itself, `@file` with JSON in it, or `-` for stdin.

    Raises:
        ConfigurationError: it cannot be read, or is no JSON; the message shows the place.
    """
    text, where = _text_of(given)
    try:
        return cast("Json", json.loads(text))
    except json.JSONDecodeError as error:
        line = (text.splitlines() or [""])[error.lineno - 1 : error.lineno]
        shown = ""
        if line and error.colno <= _WIDEST:
            shown = f"\n  {line[0].rstrip()[:_WIDEST]}\n  {' ' * (error.colno - 1)}^"
        hint = "" if text.strip() else "; it is empty"
        raise ConfigurationError(
            f"{where} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}{hint}{shown}\n"
            "  Text needs double quotes inside the shell's own: --input '\"text\"'"
        ) from None


def _text_of(given: str) -> tuple[str, str]:
    try:
        if given == "-":
            return sys.stdin.read(), "the input on stdin"
        if given.startswith("@"):
            return Path(given[1:]).read_text(encoding="utf-8"), given[1:]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(f"--input {given}: cannot be read ({reason})") from None
    return given, "--input"


def arguments(spec: TaskSpec, data: Json, codec: Codec) -> Arguments:
    """The arguments that an input stands for: an object holds them by name, an array in order; else it is the only one.

    Raises:
        ConfigurationError: they do not fit the task's signature or annotations.
    """
    if isinstance(data, dict):
        found = Arguments((), {name: _value(spec, name, value, codec) for name, value in data.items()})
    else:
        items = data if isinstance(data, list) else [data]
        names = list(inspect.signature(spec.fn).parameters)
        found = Arguments(
            tuple(
                _value(spec, names[i] if i < len(names) else str(i + 1), value, codec, i)
                for i, value in enumerate(items)
            )
        )
    return checked(spec, found)


def checked(spec: TaskSpec, found: Arguments) -> Arguments:
    """The same arguments, if the task can be called with them.

    Raises:
        ConfigurationError: it cannot; the message shows the signature and how to write the input.
    """
    signature = inspect.signature(spec.fn)
    try:
        signature.bind(*found.args, **found.kwargs)
    except TypeError as error:
        raise ConfigurationError(
            f"task {spec.id!r} cannot be called with this input: {error}.\n"
            f"  It takes ({', '.join(_parameter(each) for each in signature.parameters.values())})\n"
            f"  --input holds its arguments by name, {_by_name(signature)}, or in order, [...]; "
            "one argument that is a list is [[...]]"
        ) from None
    return found


def _value(spec: TaskSpec, name: str, value: Json, codec: Codec, position: int | None = None) -> object:
    hint = spec.parameters.get(name, object) if position is None else hint_for(spec, position)
    try:
        decoded = codec.from_json(value, hint)
    except SerializationError as error:
        raise ConfigurationError(_unfit(spec, name, value, hint, f": {error}")) from None
    if not fits(decoded, hint):
        raise ConfigurationError(_unfit(spec, name, value, hint, ""))
    if wrong := mismatch(decoded, hint):
        raise ConfigurationError(_unfit(spec, name, value, hint, f": {wrong}"))
    return decoded


def _unfit(spec: TaskSpec, name: str, value: Json, hint: object, why: str) -> str:
    text = json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= _LINE else f"{text[: _LINE - 3]}..."
    return f"argument {name!r} of task {spec.id!r} must be {_hint_text(hint)}, which {text} is not{why}"


def fits(value: object, hint: object) -> bool:
    """False if the value is plainly no value of the annotation; only its outside is looked at."""
    if hint is None or hint is type(None):
        return value is None
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return fits(value, typing.get_args(hint)[0])
    if origin in {typing.Union, types.UnionType}:
        return any(fits(value, each) for each in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    wanted = hint if origin is None else origin
    try:
        return not isinstance(wanted, type) or isinstance(value, wanted)
    except TypeError:  # a TypedDict or a Protocol, which cannot be asked
        return True


def _hint_text(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else _module_names(str(hint))


def _module_names(text: str) -> str:
    return text.replace("typing.", "").replace("pathlib._local.", "pathlib.")  # where Python 3.13 has its paths


def _parameter(parameter: inspect.Parameter) -> str:
    """A parameter as in the source, with annotations that are still text unquoted."""
    hint, empty = parameter.annotation, inspect.Parameter.empty
    shown = str(parameter.replace(annotation=empty, default=empty))
    if hint is not empty:
        shown += f": {hint if isinstance(hint, str) else _hint_text(hint)}"
    return shown if parameter.default is empty else f"{shown} = {parameter.default!r}"


def _by_name(signature: inspect.Signature) -> str:
    return "{" + ", ".join(f'"{name}": ...' for name in signature.parameters) + "}"
