"""Under which id a sequencer is run: its name, as long as there is one sequencer of that name.

Every method makes another sequencer of the same name. The one that extends the bearer of the name takes the name over,
so at the end of a chain of methods the whole of it bears the name. One that is extended in a second direction, or kept
and run beside what was made of it, gets an id of its own: the name and a digest of its shape, which is the same in
every process that builds it. A sequencer that has been run keeps its id.
"""

from __future__ import annotations

import sys
import threading
import weakref
from hashlib import blake2s
from pathlib import Path
from types import FrameType

from attrs import evolve

from flowkit.digest import ArgumentDigest
from flowkit.errors import ConfigurationError
from flowkit.registry import TaskSpec, tasks
from flowkit.sequencer.chain import Chain
from flowkit.sequencer.perform import perform, perform_async

_lock = threading.RLock()
_bearers: dict[str, weakref.ref[Form]] = {}
_origins: dict[str, tuple[str, str]] = {}


class Form:
    """A chain, and the id under which it is run."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.id = chain.name
        self.used = False  # it has been run, or looked at by something that may run it
        self.spec = _spec_of(chain, chain.name)

    def rename(self, to: str) -> None:
        """Be known by another id."""
        self.id = to
        self.spec = _spec_of(self.chain, to)


def first_form(chain: Chain) -> Form:
    """The form that begins a name.

    Raises:
        ConfigurationError: the name is taken by a sequencer begun elsewhere, or by a task.
    """
    with _lock:
        _require_free(chain)
        form = Form(chain)
        _origins[chain.name] = chain.origin
        module = chain.origin[0]
        _stamps[module] = _stamp_of(getattr(sys.modules.get(module), "__file__", ""))
        _bear(form)
        return form


def next_form(parent: Form, chain: Chain) -> Form:
    """The form of a chain that extends another one."""
    with _lock:
        form = Form(chain)
        bearer = _bearers.get(chain.name)
        if bearer is not None and bearer() is parent and not parent.used:
            _stand_beside(parent)
            _bear(form)
        else:
            _stand_beside(form)
        return form


def _bear(form: Form) -> None:
    form.rename(form.chain.name)
    _bearers[form.id] = weakref.ref(form)
    tasks.add(form.spec, replace=True)


def _stand_beside(form: Form) -> None:
    """Known by its shape for as long as anybody holds it."""
    shape, number = f"{form.chain.name}@{_shape(form.chain)}", 1
    while (taken := _bearers.get(shape if number == 1 else f"{shape}.{number}")) is not None and taken() is not None:
        number += 1
    form.rename(shape if number == 1 else f"{shape}.{number}")
    _bearers[form.id] = weakref.ref(form)
    tasks.add(form.spec, replace=True)
    weakref.finalize(form, _forget, form.id, form.spec).atexit = False


def _forget(form_id: str, spec: TaskSpec) -> None:
    """Nobody can run it any more; one that has been run is kept by what keeps its runs."""
    with _lock:
        if tasks.find(form_id) is spec and form_id not in _kept:
            tasks.remove(form_id)
            _bearers.pop(form_id, None)


_kept: set[str] = set()


def keep(form: Form) -> TaskSpec:
    """Its definition, for whoever runs it: from now on it keeps its id."""
    if not form.used:
        with _lock:
            form.used = True
            _kept.add(form.id)
    return form.spec


def _require_free(chain: Chain) -> None:
    name, known = chain.name, tasks.find(chain.name)
    origin = _origins.get(name)
    if known is None or origin == chain.origin:
        return
    if origin is None:
        raise ConfigurationError(f"sequencer {name!r}: that id is taken by a task, {'.'.join(known.origin)}")
    if origin[1] == chain.origin[1] or _defined_again(origin[0], chain.origin[0]):
        return  # a file that runs as `__main__` and is imported as well; a cell, a reload
    raise ConfigurationError(
        f"sequencer {name!r}: that name is taken by the one begun at {':'.join(origin)}; this one, at "
        f"{':'.join(chain.origin)}, needs another"
    )


def _defined_again(before: str, now: str) -> bool:
    """Whether a module is being executed again, edited: in a notebook, at the prompt, by a reload."""
    module = sys.modules.get(now)
    return before == now and (
        getattr(module, "__file__", None) is None or _stamps.get(now) != _stamp_of(getattr(module, "__file__", ""))
    )


_stamps: dict[str, int] = {}


def _stamp_of(file: object) -> int:
    try:
        return Path(str(file)).stat().st_mtime_ns
    except OSError:
        return 0


def origin_of(frame: FrameType) -> tuple[str, str]:
    """Where a name is given: the same place, come to again, gives it anew."""
    code = frame.f_code
    return str(frame.f_globals.get("__name__", "")), f"{code.co_filename}:{frame.f_lineno}"


def caller(depth: int) -> FrameType:
    """The frame of whoever called the caller."""
    return sys._getframe(depth + 1)  # noqa: SLF001  # the only way to tell where a name was given


def _shape(chain: Chain) -> str:
    """A digest of what the chain is made of, down to names; the same in every process."""
    text = "|".join(
        f"{node.kind}:{node.name}:{','.join(block.name for block in node.blocks())}" for node in chain.nodes
    )
    return blake2s(f"{len(chain.before)}|{text}".encode(), digest_size=4).hexdigest()


def _spec_of(chain: Chain, task_id: str) -> TaskSpec:
    def body(value: object) -> object:
        return perform(chain.run(value))

    async def body_async(value: object) -> object:
        return await perform_async(chain.run(value))

    fn = body_async if chain.is_async else body
    fn.__module__ = chain.origin[0]
    fn.__qualname__ = fn.__name__ = chain.name
    spec = TaskSpec(task_id, fn, chain.is_async, ArgumentDigest(fn), {"value": chain.takes}, chain.result_hint)
    return evolve(spec, policy=chain.policy or spec.policy, timeout_s=chain.timeout_s)
