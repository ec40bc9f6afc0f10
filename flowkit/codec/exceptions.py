"""How one exception is taken apart and put together again, without its causes and without a line of its own code."""

from __future__ import annotations

from contextvars import ContextVar
from types import GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import cast

from flowkit.codec.base import ClassNotFound, Codec, Json, Unencodable
from flowkit.codec.names import class_name, find_class, reachable
from flowkit.errors import SerializationError
from flowkit.notes import dict_of, text_of

Descriptor = GetSetDescriptorType | MemberDescriptorType

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: set for classes that are defined in Python
_LONGEST_TEXT = 1000
_DEEPEST = 20
_UNSET = object()

# What a subclass may have redefined is read and set past it, by what the interpreter itself uses.
_ARGS = cast("GetSetDescriptorType", BaseException.__dict__["args"])
_CAUSE = cast("GetSetDescriptorType", BaseException.__dict__["__cause__"])
_TRACEBACK = cast("GetSetDescriptorType", BaseException.__dict__["__traceback__"])

_open: ContextVar[tuple[int, ...]] = ContextVar("_open", default=())
"""The exceptions that are being encoded: one may hold another in its args, and that one the first."""


def encode_exception(codec: Codec, error: BaseException) -> tuple[dict[str, Json], bool]:
    """Class, args and encodable attributes; and whether that is all of the exception.

    The exceptions in a group are left to the caller; `group` in the document is the group's message.

    Raises:
        SerializationError: the class cannot be found by its name, or an arg cannot be stored.
    """
    cls = type(error)
    if not reachable(cls):
        msg = f"the class {class_name(cls)} cannot be found again by its name"
        raise SerializationError(msg)
    if id(error) in _open.get() or len(_open.get()) > _DEEPEST:
        msg = f"a {cls.__qualname__} contains itself"
        raise SerializationError(msg)
    token = _open.set((*_open.get(), id(error)))
    try:
        return _encode(codec, error, cls)
    finally:
        _open.reset(token)


def decode_exception(codec: Codec, data: Json, inner: list[BaseException]) -> BaseException:
    """The exception that `encode_exception` was given.

    Raises:
        ClassNotFound: its class is not imported.
    """
    document = cast("dict[str, Json]", data)
    name = cast("str", document["error"])
    cls = find_class(name)
    if not issubclass(cls, BaseException):
        # D5: a name in the data leads to exceptions only.
        raise ClassNotFound(name, f"{name} is stored here as an error, but it is no exception class (any more)")
    args = tuple(cast("list[object]", codec.from_json(document["args"]))) if "args" in document else None
    error = make(cls, (document["group"], inner) if "group" in document else args or ())
    if args is not None:
        _ARGS.__set__(error, args)  # an OSError with an `__init__` of its own leaves them to that
    slots = cast("dict[str, Json]", document.get("slots", {}))
    for key, value in slots.items():
        _descriptors(cls)[key].__set__(error, codec.from_json(value))
    attributes = cast("dict[str, Json]", document.get("attrs", {}))
    dict_of(error).update({key: codec.from_json(value) for key, value in attributes.items()})
    return error


def encode_as_value(codec: Codec, error: BaseException) -> Json:
    """An exception that is a value, or part of one: an arg of another exception, say."""
    try:
        document, _ = encode_exception(codec, error)
        if "group" in document:
            group = cast("BaseExceptionGroup[BaseException]", error)
            document["inner"] = [encode_as_value(codec, each) for each in group.exceptions]
    except Unencodable:
        raise
    except SerializationError as reason:
        raise Unencodable(error, f"cannot be stored ({reason})") from None
    return cast("Json", document)


def decode_as_value(codec: Codec, data: Json) -> BaseException:
    """The exception that `encode_as_value` was given."""
    document = cast("dict[str, Json]", data)
    inner = [decode_as_value(codec, each) for each in cast("list[Json]", document.get("inner", []))]
    return decode_exception(codec, data, inner)


def make(cls: type[BaseException], args: tuple[object, ...]) -> BaseException:
    """A new exception, made by the builtin class that it derives from."""
    for base in cls.__mro__:
        if not base.__flags__ & _HEAP_TYPE and issubclass(base, BaseException):
            try:
                return base.__new__(cls, *args)
            except TypeError:  # another builtin class among the bases decides the layout
                continue
    msg = f"a {cls.__qualname__} cannot be made from its args"
    raise SerializationError(msg)


def cause_of(error: BaseException) -> BaseException | None:
    """Its `__cause__`."""
    return cast("BaseException | None", _CAUSE.__get__(error, type(error)))


def traceback_of(error: BaseException) -> TracebackType | None:
    """Its `__traceback__`."""
    return cast("TracebackType | None", _TRACEBACK.__get__(error, type(error)))


def _args_of(error: BaseException) -> tuple[object, ...]:
    return cast("tuple[object, ...]", _ARGS.__get__(error, type(error)))


def _encode(codec: Codec, error: BaseException, cls: type[BaseException]) -> tuple[dict[str, Json], bool]:
    args, text = _args_of(error), text_of(error)
    document: dict[str, Json] = {"error": class_name(cls)}
    if isinstance(error, BaseExceptionGroup):
        document["group"] = error.message
        blank = make(cls, (error.message, list(error.exceptions)))
        own_args = _are_of_group(args, error)
    else:
        blank, own_args = make(cls, args), False
    if not own_args:
        document["args"] = codec.to_json(list(args))
    if text and args != (text,):
        document["text"] = text[:_LONGEST_TEXT]
    complete = True
    for place, found in (("slots", _slots(error, blank)), ("attrs", dict_of(error))):
        kept = _encodable(codec, found)
        complete = complete and len(kept) == len(found)
        if kept:
            document[place] = cast("Json", kept)
    return document, complete


def _are_of_group(args: tuple[object, ...], error: BaseExceptionGroup[BaseException]) -> bool:
    """Whether a group's args are just its message and its exceptions, as they are unless its class is unusual."""
    match args:
        case (str() as message, list() | tuple() as inner) if message is error.message:
            return list(map(id, inner)) == list(map(id, error.exceptions))
    return False


def _encodable(codec: Codec, attributes: dict[str, object]) -> dict[str, Json]:
    kept: dict[str, Json] = {}
    for name, value in attributes.items():
        try:
            kept[name] = codec.to_json(value)
        except SerializationError:
            continue
    return kept


# ---- attributes outside `__dict__`: those of builtin exceptions, and slots -------------------------------------------


def _descriptors(cls: type) -> dict[str, Descriptor]:
    return {
        name: value
        for base in reversed(cls.__mro__)
        if base not in {object, BaseException, BaseExceptionGroup}
        for name, value in vars(base).items()
        if isinstance(value, (GetSetDescriptorType, MemberDescriptorType)) and not name.startswith("__")
    }


def _slots(error: BaseException, blank: BaseException) -> dict[str, object]:
    """Those that `__new__` alone does not set to what they are."""
    found: dict[str, object] = {}
    for name, descriptor in _descriptors(type(error)).items():
        value = _get(descriptor, error)
        if value is not _UNSET and value is not _get(descriptor, blank):
            found[name] = value
    return found


def _get(descriptor: Descriptor, error: BaseException) -> object:
    try:
        return cast("object", descriptor.__get__(error, type(error)))
    except (AttributeError, TypeError):  # what is not set: builtin exceptions raise the one or the other
        return _UNSET
