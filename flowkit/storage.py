"""The Storage protocol: a small set of atomic changes, and how a URL becomes a storage.

Synchronous on purpose, so that a third party writes one class with blocking calls. The committer in front of it
batches for everyone. Policy (retry, order, retention) lives in the core; a storage keeps bytes and changes them
atomically.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from flowkit.config import redact
from flowkit.errors import ConfigurationError
from flowkit.records import (
    AnyOf,
    Capabilities,
    Claimed,
    Commit,
    Counts,
    Delivery,
    Done,
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

ENTRY_POINT_GROUP = "flowkit.storage"


@runtime_checkable
class Storage(Protocol):
    """What flowkit needs of a store. Every method may be called from any thread.

    Every method that looks at the clock takes `now_ms`; None means the storage's own clock. Any exception other than
    a `FlowkitError` means "unknown, ask again": callers send the same call again, so every change is idempotent.
    """

    def open(self) -> Capabilities:
        """Get ready for use; called before anything else. Opening an open storage is harmless."""

    def close(self) -> None:
        """Let go of everything and wake whoever waits in `wait_for_work` or `wait_for_run`. Idempotent."""

    def submit(self, runs: Sequence[NewRun], *, now_ms: int | None = None) -> list[Submitted]:
        """Create runs, all in one change. One whose id exists is left as it is and answered `Exists`."""

    def claim(self, grant: Grant, want: Want, limit: int, *, now_ms: int | None = None) -> Claimed:
        """Lease up to `limit` runs that are ready, due, or whose owner is gone (rule X1).

        Highest priority first, then oldest. The same grant token asked again gets the same leases while they last.
        A run taken over from an owner that did not hand it back counts a crash. No claim grants more than the `Limit`
        of a run allows, also not by its id; counting the places and taking one is a single atomic change.
        """

    def commit(self, commits: Sequence[Commit], *, now_ms: int | None = None) -> list[Verdict]:
        """Apply changes, each atomic for its run, in the order given; one verdict each."""

    def renew(
        self, worker: str, leases: Sequence[Lease], lease_ms: int, *, now_ms: int | None = None
    ) -> list[LeaseState]:
        """Extend leases that are still held; tell of cancel marks and inboxes."""

    def send(self, run_id: str, message: Message, *, now_ms: int | None = None) -> Delivery:
        """Deliver a message, mark a run to be cancelled, or reopen it."""

    def load(self, run_id: str, after: int = 0, limit: int | None = None) -> Snapshot | None:
        """Read a run with its journal entries after position `after` (at most `limit` of them; None: all)."""

    def wait_for_work(self, want: AnyOf, timeout_s: float) -> None:
        """Return when a claim may find something, or after the timeout. A hint: may return early."""

    def wait_for_run(self, run_id: str, revision: int, timeout_s: float) -> RunHeader | None:
        """Return the header once its revision is above `revision`, or as it is after the timeout; None: no such run."""

    def list_runs(self, query: RunQuery, cursor: str | None = None, limit: int = 100) -> Page:
        """List runs, newest first. A cursor from an earlier page goes on where that page ended."""

    def stats(self) -> Counts:
        """Count runs by status, and ready and leased runs by queue and task where there are any."""

    def purge(self, before_ms: int, limit: int = 1000) -> int:
        """Forget at most `limit` runs that finished before that time; unfinished ones never. Returns how many."""

    def get(self, key: str) -> tuple[bytes, int] | None:
        """Read a small shared value and its revision."""

    def compare_and_set(self, key: str, revision: int, value: bytes) -> int | None:
        """Write a shared value if its revision is still this (0: if there is none); the new revision, or None."""


@runtime_checkable
class Prompt(Protocol):
    """What a storage may offer besides: commits that nobody has to wait for, so that an event loop can make them."""

    def commit_at_once(self, commit: Commit, *, now_ms: int | None = None) -> Done | None:
        """Apply a commit if that takes neither a lock that someone has nor a sync of the disk.

        None: it was not applied, or whether it was is unknown; the same one is then given to `Storage.commit`.
        """


StorageFactory = Callable[[str], Storage]


def open_storage(url: str) -> Storage:
    """Make the storage that a URL names (not opened yet).

    Args:
        url: `scheme:rest`, for example `memory:` or `disk:./state`. The scheme is looked up among the entry points of
            group `flowkit.storage`; the factory found there gets the whole URL.

    Raises:
        ConfigurationError: if the scheme is missing, unknown, or needs an extra that is not installed.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415  # a tenth of the time that `import flowkit` may take

    scheme, colon, _ = url.partition(":")
    known = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    if not colon or scheme not in known:
        raise ConfigurationError(
            f"storage URL {redact(url)!r} has no known scheme; "
            f"write one of: {', '.join(f'{name}:' for name in sorted(known))}"
        )
    try:
        factory: StorageFactory = known[scheme].load()
    except ImportError as error:
        raise ConfigurationError(
            f"storage {scheme!r} needs a package that is not installed ({error.name}): "
            f"pip install 'flowkit-durable[{scheme.partition('+')[0].replace('rediss', 'redis')}]'"
        ) from error
    return factory(url)
