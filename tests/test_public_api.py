"""The public API, name by name: what users rely on changes on purpose or not at all.

`python tests/test_public_api.py` writes the snapshot anew; the difference is for the reviewer to read.
"""

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import flowkit

SNAPSHOT = Path(__file__).with_name("public_api.txt")


def parameters(function: Callable[..., object]) -> str:
    """What a caller writes: the parameters without their types."""
    signature = inspect.signature(function)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def members(cls: type) -> dict[str, object]:
    """What flowkit itself puts into a class, its own bases included."""
    own = [base for base in reversed(cls.__mro__) if base.__module__.startswith("flowkit")]
    return {name: value for base in own for name, value in vars(base).items()}


def described(name: str, thing: object) -> Iterator[str]:
    """The lines that the snapshot keeps of one public name."""
    if not isinstance(thing, type):
        yield f"{name}{parameters(thing)}" if callable(thing) else name
        return
    bases = [base.__name__ for base in thing.__bases__ if base is not object and not base.__name__.startswith("_")]
    yield f"class {name}({', '.join(bases)})" if bases else f"class {name}"
    for member, value in sorted(members(thing).items()):
        function = value if inspect.isfunction(value) else getattr(value, "__func__", None)
        if member in ("__call__", "__init__") and function is not None:
            yield f"{name}.{member}{parameters(function)}"
        elif not member.startswith("_"):
            yield f"{name}.{member}{parameters(function) if function else ''}"


def public_api() -> Iterator[str]:
    """All lines of the snapshot."""
    for name in sorted(flowkit.__all__):
        yield from described(name, getattr(flowkit, name))
    for name in sorted(flowkit.aio.__all__):
        yield from described(f"aio.{name}", getattr(flowkit.aio, name))


def test_public_api_is_what_it_was() -> None:
    """Every public name, with its members and parameters, is as in the snapshot."""
    assert list(public_api()) == SNAPSHOT.read_text().splitlines()


if __name__ == "__main__":
    SNAPSHOT.write_text("".join(f"{line}\n" for line in public_api()))
