"""Under which id a sequencer is run: its name, as long as there is one sequencer of that name.

Every method makes another sequencer of the same name. Of those that anybody holds, the oldest bears the name: so the
whole of a chain of methods does, as nobody holds its links, and a sequencer that others are made of keeps it. The
others have the name and a digest of their shape, which is the same in every process that builds them. One that has
been run keeps its id, whatever becomes of the others.
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
from flowkit.sequencer.outline import outline
from flowkit.sequencer.perform import perform, perform_async

_lock = threading.RLock()
_families: dict[str, list[_Known]] = {}  # by name: those that anybody holds or has run, oldest first
_origins: dict[str, tuple[str, str]] = {}


class _Known:
    """What is known of a form without holding it."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.id = ""
        self.used = False  # it has been run, or looked at by something that may run it
        self.spec = _spec_of(chain, chain.name)


class Form:
    """A chain, and the id under which it is run. Alive as long as anybody can run it."""

    def __init__(self, known: _Known) -> None:
        self._known = known
        self.chain = known.chain

    @property
    def id(self) -> str:
        """The id under which it is run."""
        return self._known.id

    @property
    def spec(self) -> TaskSpec:
        """Its definition as a task, to be read."""
        return self._known.spec

    def keep(self) -> TaskSpec:
        """Its definition, for whoever runs it: from now on it keeps its id."""
        if not self._known.used:
            with _lock:
                self._known.used = True
        return self._known.spec


def first_form(chain: Chain) -> Form:
    """The form that begins a name.

    Raises:
        ConfigurationError: the name is taken by a sequencer begun elsewhere, or by a task.
    """
    with _lock:
        _require_free(chain)
        module = chain.origin[0]
        _origins[chain.name] = chain.origin
        _stamps[module] = _stamp_of(getattr(sys.modules.get(module), "__file__", ""))
        _families[chain.name] = []
        return _born(chain)


def next_form(chain: Chain) -> Form:
    """The form of a chain that extends another one of its name."""
    with _lock:
        return _born(chain)


def _born(chain: Chain) -> Form:
    known = _Known(chain)
    family = _families.setdefault(chain.name, [])
    family.append(known)
    _call(known, chain.name if len(family) == 1 else _beside(family, chain))
    form = Form(known)
    weakref.finalize(form, _gone, family, known).atexit = False
    return form


def _call(known: _Known, task_id: str) -> None:
    """Be known by an id."""
    if known.id and tasks.find(known.id) is known.spec:
        tasks.remove(known.id)
    known.id, known.spec = task_id, evolve(known.spec, id=task_id)
    tasks.add(known.spec, replace=True)


def _beside(family: list[_Known], chain: Chain) -> str:
    """The id of one that does not bear the name."""
    shape, number, taken = f"{chain.name}@{_shape(chain)}", 1, {known.id for known in family}
    while (task_id := shape if number == 1 else f"{shape}.{number}") in taken:
        number += 1
    return task_id


def _gone(family: list[_Known], known: _Known) -> None:
    """Nobody can run it any more; one that has been run is kept, so that its runs can be resumed."""
    with _lock:
        if known.used:
            return
        family.remove(known)
        if tasks.find(known.id) is known.spec:
            tasks.remove(known.id)
        if known.id == known.chain.name and family and not family[0].used and _families.get(known.id) is family:
            _call(family[0], known.id)


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
    fn.__annotations__ = {"value": chain.takes, "return": chain.result_hint}
    spec = TaskSpec(task_id, fn, chain.is_async, ArgumentDigest(fn), {"value": chain.takes}, chain.result_hint)
    return evolve(
        spec, policy=chain.policy or spec.policy, timeout_s=chain.timeout_s, outline=outline(chain), cron=chain.cron
    )
