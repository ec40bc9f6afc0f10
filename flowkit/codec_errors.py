"""Exceptions in stored data (rule D6).

An exception comes back as its class, its args and its attributes, put together without its `__init__`: the `__new__` of
the builtin class that it derives from makes it, and no code of the class itself runs. Whether that gives the same
exception again is tried when it is recorded, and recorded too; if not, a `StepError` stands for it ever after.
"""

from __future__ import annotations

import json
from types import GetSetDescriptorType, MemberDescriptorType
from typing import cast

from flowkit.codec_base import ClassNotFound, Codec, Json
from flowkit.codec_names import class_name, find_class, reachable
from flowkit.errors import RunBlocked, SerializationError, StepError

_CAUSES = 8  # how many causes of causes are kept
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: set for classes that a program defines


def error_to_json(codec: Codec, error: BaseException) -> Json:
    """The exception as a JSON document; never fails, whatever the exception is like.

    Args:
        codec: encodes the args and attributes.
        error: the exception; its cause is kept too, its traceback and context are not.
    """
    return _record(codec, error, _CAUSES)[0]


def live_error(codec: Codec, error: BaseException) -> tuple[Json, BaseException]:
    """What to record of an exception, and the exception that a replay will raise.

    The second is `error` itself where nothing of it is lost; otherwise what the record gives, with the traceback of
    `error`: the same class without the attributes that cannot be stored, or a `StepError`, whose cause is `error`.
    """
    document, complete = _record(codec, error, _CAUSES)
    if complete:
        return document, error
    seen = error_from_json(codec, document)
    if isinstance(seen, StepError) and type(error) is not StepError:
        seen.__cause__ = error
        return document, seen
    return document, seen.with_traceback(error.__traceback__)


def error_from_json(codec: Codec, data: Json) -> BaseException:
    """The exception that `error_to_json` was given, or the `StepError` that stands for it.

    Raises:
        RunBlocked: its class is not imported in this process; the message names the module to import.
        SerializationError: the data does not come from `error_to_json`.
    """
    try:
        return _read(codec, data, _CAUSES)
    except ClassNotFound as error:
        msg = f"a recorded error cannot be raised again: {error}"
        raise RunBlocked(msg) from None
    except SerializationError:
        raise
    except Exception as error:  # D5: data is untrusted, so anything can be wrong with it
        msg = f"stored data does not make an error: {type(error).__name__}: {error}"
        raise SerializationError(msg) from error


def error_text(data: Json) -> str:
    """A recorded exception in one line, as `ValueError: too large`, without importing or making anything."""
    if not isinstance(data, dict):
        return "unknown error"
    name = str(data.get("error") or data.get("lost") or "unknown error").removeprefix("builtins:")
    text = data.get("text")
    return f"{name.rpartition(':')[2]}: {text}" if text else name


# ---- one exception, without its causes --------------------------------------------------------------------------------


def encode_error(codec: Codec, error: BaseException) -> tuple[dict[str, Json], bool]:
    """Class, args and attributes, untried; and whether that is all of the exception.

    Raises:
        SerializationError: the class cannot be found by its name, or an arg cannot be stored.
    """
    cls = type(error)
    if not reachable(cls):
        msg = f"the class {class_name(cls)} cannot be found again by its name"
        raise SerializationError(msg)
    document: dict[str, Json] = {"error": class_name(cls), "text": _text_of(error)}
    complete = True
    if isinstance(error, BaseExceptionGroup):
        inner = [_record(codec, each, _CAUSES) for each in error.exceptions]
        document["group"] = [error.message, [each for each, _ in inner]]
        complete = all(whole for _, whole in inner)
        blank = _make(cls, (error.message, list(error.exceptions)))
        args = None if _is_groups_own(error) else error.args
    else:
        blank = _make(cls, error.args)
        args = error.args
    if args is not None:
        document["args"] = [codec.to_json(arg) for arg in args]
    for place, found in (("attrs", dict(vars(error))), ("slots", _slots(error, blank))):
        kept = _encodable(codec, found)
        complete = complete and len(kept) == len(found)
        if kept:
            document[place] = kept
    return document, complete


def decode_error(codec: Codec, data: Json) -> BaseException:
    """The exception that `encode_error` was given.

    Raises:
        ClassNotFound: its class is not imported.
    """
    document = cast("dict[str, Json]", data)
    name = cast("str", document["error"])
    cls = find_class(name)
    if not issubclass(cls, BaseException):
        # D5: a name in the data leads to exceptions only.
        raise ClassNotFound(name, f"{name} is stored here as an error, but it is no exception class (any more)")
    args = tuple([codec.from_json(arg) for arg in cast("list[Json]", document.get("args", []))])
    if "group" in document:
        message, inner = cast("tuple[str, list[Json]]", document["group"])
        error = _make(cls, (message, [_read(codec, each, _CAUSES) for each in inner]))
        if "args" in document:
            error.args = args
    else:
        error = _make(cls, args)
    for key, slot in cast("dict[str, Json]", document.get("slots", {})).items():
        _descriptors(cls)[key].__set__(error, codec.from_json(slot))
    attributes = cast("dict[str, Json]", document.get("attrs", {}))
    vars(error).update({key: codec.from_json(value) for key, value in attributes.items()})
    return error


def _make(cls: type[BaseException], args: tuple[object, ...]) -> BaseException:
    """A new exception, made by the builtin class that it derives from."""
    for base in cls.__mro__:
        if not base.__flags__ & _HEAP_TYPE and issubclass(base, BaseException):
            try:
                return cast("BaseException", base.__new__(cls, *args))  # type: ignore[call-overload]  # each its own
            except TypeError:  # not the builtin class that decides the layout: the next one is
                continue
    msg = f"{cls.__qualname__} cannot be made from its args"
    raise SerializationError(msg)


def _descriptors(cls: type) -> dict[str, GetSetDescriptorType | MemberDescriptorType]:
    """The attributes that lie outside `__dict__`: those of builtin exceptions, and `__slots__`."""
    return {
        name: value
        for base in reversed(cls.__mro__)
        if base not in (object, BaseException, BaseExceptionGroup)
        for name, value in vars(base).items()
        if isinstance(value, (GetSetDescriptorType, MemberDescriptorType)) and not name.startswith("__")
    }


def _slots(error: BaseException, blank: BaseException) -> dict[str, object]:
    """Those of them that `__new__` alone would not set to what they are."""
    found: dict[str, object] = {}
    for name, descriptor in _descriptors(type(error)).items():
        value = _get(descriptor, error)
        if value is not _UNSET and value is not _get(descriptor, blank):
            found[name] = value
    return found


_UNSET = object()


def _get(descriptor: GetSetDescriptorType | MemberDescriptorType, error: BaseException) -> object:
    try:
        return cast("object", descriptor.__get__(error, type(error)))
    except (AttributeError, TypeError):  # builtin exceptions raise either for what is not set
        return _UNSET


def _is_groups_own(error: BaseExceptionGroup[BaseException]) -> bool:
    """Whether a group's args are just its message and its exceptions."""
    if len(error.args) != 2 or error.args[0] is not error.message:  # noqa: PLR2004  # message, exceptions
        return False
    inner = error.args[1]
    return isinstance(inner, (list, tuple)) and len(inner) == len(error.exceptions) and all(
        one is other for one, other in zip(inner, error.exceptions, strict=True)
    )


def _encodable(codec: Codec, attributes: dict[str, object]) -> dict[str, Json]:
    kept: dict[str, Json] = {}
    for name, value in attributes.items():
        try:
            kept[name] = codec.to_json(value)
        except SerializationError:
            continue
    return kept


def _text_of(error: BaseException) -> str:
    try:
        return str.__str__(str(error))
    except Exception:  # noqa: BLE001  # D6: a broken exception must not break its recording
        return f"(no text: its __str__ fails)"


# ---- recorded ---------------------------------------------------------------------------------------------------------


def _record(codec: Codec, error: BaseException, causes: int) -> tuple[dict[str, Json], bool]:
    """The document of an exception, and whether it gives the very same one."""
    try:
        document, complete = encode_error(codec, error)
        again, _ = encode_error(codec, decode_error(codec, codec.loads(codec.dumps(document))))
        if _comparable(again) != _comparable(document):
            msg = "it does not come back the same"
            raise SerializationError(msg)  # noqa: TRY301  # one way out for all reasons
    except Exception as reason:  # noqa: BLE001  # D6: whatever is wrong with it, there is a record of it
        return _lost(error, reason), False
    cause = error.__cause__
    if cause is not None and causes:
        document["cause"] = _record(codec, cause, causes - 1)[0]
    return document, complete


def _lost(error: BaseException, reason: Exception) -> dict[str, Json]:
    return {"lost": class_name(type(error)), "text": _text_of(error), "why": _text_of(reason)}


def _comparable(document: dict[str, Json]) -> str:
    return json.dumps({key: value for key, value in document.items() if key != "text"}, sort_keys=True)


def _read(codec: Codec, data: Json, causes: int) -> BaseException:
    document = cast("dict[str, Json]", data)
    if "lost" in document:
        name, text, why = (cast("str", document[key]) for key in ("lost", "text", "why"))
        return StepError(f"{name.rpartition(':')[2]}: {text} (it cannot be raised again as itself: {why})", name, text)
    error = decode_error(codec, data)
    if "cause" in document and causes:
        error.__cause__ = _read(codec, document["cause"], causes - 1)
    return error
