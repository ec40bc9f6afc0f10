"""The memory storage behind its lock: what the protocol asks for, who waits, and what is too large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition

from flowkit.clock import system_now_ms
from flowkit.errors import ConfigurationError, StorageError
from flowkit.memory import claims, listing
from flowkit.memory.run import Lane
from flowkit.memory.state import State
from flowkit.payloads import SizeLimit
from flowkit.records import (
    AnyOf,
    Capabilities,
    Claimed,
    Commit,
    Counts,
    Created,
    Delivery,
    Durability,
    Exists,
    Grant,
    Lease,
    LeaseState,
    Message,
    NewRun,
    Page,
    RunHeader,
    RunQuery,
    Snapshot,
    Submitted,
    Verdict,
    Want,
)

LIMIT = SizeLimit("memory")  # to find mistakes with: others have one too
_named: dict[str, State] = {}


def memory_storage(url: str) -> MemoryStorage:
    """Make the storage that a `memory:` URL names.

    Args:
        url: `memory:` for a store of its own, `memory:name` for one that this process shares under that name.

    Raises:
        ConfigurationError: if the URL says more than a name.
    """
    name = url.removeprefix("memory:")
    if name == url or "/" in name or "?" in name:
        raise ConfigurationError(f"storage URL {url!r} is no memory storage; write memory: or memory:name")
    return MemoryStorage(_named.setdefault(name, State()) if name else None)


class MemoryStorage:
    """Keeps runs in this process; the `Storage` protocol says what each method promises.

    Args:
        state: what to share with other instances; None for a store of its own. It outlives `close`.

    Every method may be called from any thread. Those that the protocol does not allow to wait never do.
    """

    def __init__(self, state: State | None = None) -> None:
        self._state = State() if state is None else state
        self._lock = self._state.lock
        self._open = False

    def sibling(self) -> MemoryStorage:
        """Another storage on the same data, as a second process would have one on disk."""
        return MemoryStorage(self._state)

    def open(self) -> Capabilities:
        """Get ready for use."""
        with self._lock:
            self._open = True
        return Capabilities(Durability.MEMORY, LIMIT.max_bytes, instant=True)

    def close(self) -> None:
        """Wake whoever waits. What was stored stays, for the next `open`."""
        with self._lock:
            self._open = False
            self._state.work.notify_all()
            for watchers in self._state.watchers.values():
                for watcher in watchers:
                    watcher.notify()

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs whose ids are free."""
        LIMIT.check_runs(runs)
        with self._opened() as state:
            now = _now(now_ms)
            return [_submit(state, new, now) for new in runs]

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease runs that are ready, due, or left by their owner."""
        with self._opened() as state:
            return claims.claim(state, grant, want, limit, _now(now_ms))

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, each atomic for its run."""
        LIMIT.check_commits(commits)
        with self._lock:
            if not self._open:
                raise _closed()
            now = system_now_ms() if now_ms is None else now_ms
            apply = self._state.commit
            return [apply(commit, now) for commit in commits]

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases that are still held."""
        del worker  # a process is alive as long as this storage is
        with self._opened() as state:
            return claims.renew(state, leases, lease_ms, _now(now_ms))

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message, mark a run to be cancelled, or reopen it."""
        LIMIT.check(message.payload, "a message", run_id)
        with self._opened() as state:
            return state.deliver(run_id, message, _now(now_ms))

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run."""
        with self._opened() as state:
            run = state.runs.get(run_id)
            return None if run is None else run.snapshot(after, limit, system_now_ms())

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Return when a run is ready, or when a timer was set that no claim has known, or that this one did not.

        Or when a task has its first run: whoever waits may have come to know the task meanwhile.
        """
        with self._opened() as state:
            before, known = _timers(claims.lanes_of(state, want)), len(state.lanes)

            def something_new() -> bool:
                if not self._open or len(state.lanes) != known:
                    return True
                lanes = claims.lanes_of(state, want)
                news = any(lane.ready or lane.timers_told < lane.timers_set for lane in lanes)
                return news or _timers(lanes) != before

            state.work.wait_for(something_new, timeout_s)

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Return the header once it has changed, or as it is after the timeout."""
        with self._opened() as state:

            def changed() -> bool:
                run = state.runs.get(run_id)
                return not self._open or run is None or run.revision > revision

            with _watching(state, run_id) as watcher:
                watcher.wait_for(changed, timeout_s)
            if not self._open:
                raise _closed()
            run = state.runs.get(run_id)
            return None if run is None else run.header()

    def list_runs(self, query: RunQuery, cursor: str | None = None, limit: int = 100) -> Page:
        """List runs, newest first."""
        with self._opened() as state:
            return listing.page(state, query, cursor, limit)

    def stats(self) -> Counts:
        """Count runs by status, and ready and leased runs by queue and task."""
        with self._opened() as state:
            return listing.counts(state)

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """Forget runs that finished before that time."""
        with self._opened() as state:
            return listing.purge(state, before_ms, limit)

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Read a small shared value and its revision."""
        with self._opened() as state:
            return state.values.get(key)

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """Write a shared value if its revision is still this."""
        LIMIT.check(value, "the shared value", key)
        with self._opened() as state:
            known = state.values.get(key)
            if revision != (0 if known is None else known[1]):
                return None
            state.values[key] = (value, revision + 1)
            return revision + 1

    @contextmanager
    def _opened(self) -> Iterator[State]:
        with self._lock:
            if not self._open:
                raise _closed()
            yield self._state


def _submit(state: State, new: NewRun, now_ms: int) -> Submitted:
    run = state.runs.get(new.run_id)
    if run is None:
        run = state.create(new, now_ms)
    elif new.grant is None or run.owner != new.grant.token:  # D7: the first answer may have been lost
        return Exists(run.header(), now_ms)
    return Created(run.lease(run.owner) if new.grant is not None and run.owner is not None else None, now_ms)


def _timers(lanes: Iterable[Lane]) -> int:
    return sum(lane.timers_set for lane in lanes)


@contextmanager
def _watching(state: State, run_id: str) -> Iterator[Condition]:
    watcher = Condition(state.lock)
    watchers = state.watchers.setdefault(run_id, set())
    watchers.add(watcher)
    try:
        yield watcher
    finally:
        watchers.discard(watcher)
        if not watchers:
            state.watchers.pop(run_id, None)


def _now(now_ms: int | None) -> int:
    return system_now_ms() if now_ms is None else now_ms


def _closed() -> StorageError:
    return StorageError("the memory storage is not open")
