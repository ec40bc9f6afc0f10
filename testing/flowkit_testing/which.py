"""How a test says which step it means: by name, by function, or by call."""

from __future__ import annotations

from collections.abc import Callable

from attrs import field, frozen

from flowkit.functions import function_name
from flowkit.operations import StepSpec
from flowkit.registry import TaskSpec
from flowkit_testing.trace import Call

StepRef = str | Callable[..., object]
"""`"charge"`, its second call `"charge#2"`, the call with a key `"charge[order-7]"`, the step or its function.

An undo goes by its function, that function's name, or `"undo of charge"`.
"""


@frozen
class Which:
    """The steps that a test means."""

    text: str
    name: str
    number: int | None = None  # which call of that name in its run
    key: str | None = None  # the name that the call was given by options(key=...)
    fn: Callable[..., object] | None = field(default=None, eq=False)

    def __str__(self) -> str:
        return self.text

    def __call__(self, call: Call) -> bool:
        """True if this call is meant."""
        if self.fn is not None and call.fn is not None:
            if call.fn is not self.fn:
                return False
        elif self.name not in {call.name, f"undo of {call.undoes}"}:
            return False
        if self.key is not None:
            return call.key.rpartition(".")[2] == f"={self.key}"
        return self.number is None or call.number == self.number


def which(ref: StepRef) -> Which:
    """Read a reference to a step.

    Raises:
        TypeError: it is neither a name nor a function.
    """
    if isinstance(ref, str):
        return _by_text(ref)
    spec: object = getattr(ref, "spec", None)
    if isinstance(spec, StepSpec):
        return Which(spec.name, spec.name, key=spec.key, fn=spec.fn)
    if isinstance(spec, TaskSpec):
        return Which(spec.id, spec.id)
    if callable(ref):
        return Which(function_name(ref), function_name(ref), fn=ref)
    raise TypeError(f"a step is named by its name, the step itself or its function, not by {ref!r}")


def _by_text(text: str) -> Which:
    name, mark, number = text.rpartition("#")
    if mark and number.isdecimal():
        return Which(text, name, number=int(number))
    name, mark, key = text.removesuffix("]").partition("[")
    if mark and text.endswith("]"):
        return Which(text, name, key=key)
    return Which(text, text)
