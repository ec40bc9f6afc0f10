"""What a storage keeps and what it is asked to change: frozen records of bytes, names and times.

Payloads are opaque bytes here. Times are whole milliseconds since the epoch, UTC (`_ms` last in the name).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from flowkit.frozen import frozen, hot_record


class RunStatus(StrEnum):
    """Where a run stands (rule X6)."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    COMPENSATING = "compensating"
    BLOCKED = "blocked"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """True once the run has ended for good (`flow.retry` of a failed run excepted)."""
        return self in _FINISHED


_FINISHED = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})


class Durability(StrEnum):
    """What an acknowledged write survives, weakest first."""

    MEMORY = "memory"  # nothing: gone with the process
    PROCESS = "process"  # a killed process, not a power cut
    DISK = "disk"  # a power cut
    REPLICATED = "replicated"  # the loss of a machine

    @property
    def rank(self) -> int:
        """Its place in the order, so that levels can be compared."""
        return list(Durability).index(self)


@frozen
class Capabilities:
    """What an opened storage can do."""

    durability: Durability
    max_value_bytes: int  # the largest single payload (input, entry, result, message)
    server_time: bool = False  # `now_ms` is a server's clock, not this machine's
    instant: bool = False  # calls never wait, so they may be made on an event loop
    now_ms: int | None = None  # with `server_time`: what it was when the storage was opened
    advice: tuple[str, ...] = ()  # what would make it more durable, for `flowkit doctor`

    @property
    def ends_with_process(self) -> bool:
        """Nothing is left once this process has ended; a server that keeps nothing on disk outlives its clients."""
        return self.durability is Durability.MEMORY and not self.server_time


# ---- leases ---------------------------------------------------------------------------------------------------------


@frozen
class Grant:
    """Who asks for leases. The same token asked again gets the same answer."""

    worker: str  # stable for one opened storage in one process
    token: str  # unique to this request; becomes the owner of what is granted
    lease_ms: int


@frozen
class Lease:
    """The right to advance one run, until another claim takes it over. Expiry alone revokes nothing."""

    run_id: str
    owner: str  # the grant's token
    fence: int  # grows with every claim of the run
    crashes: int = 0  # takeovers in a row without a new entry (rule R4)


@frozen
class AnyOf:
    """Claim whatever is ready in these queues, among these tasks."""

    tasks: tuple[str, ...]
    queues: tuple[str, ...] = ("default",)


@frozen
class Exactly:
    """Claim this one run if it is ready, due, or its owner is gone."""

    run_id: str


Want = AnyOf | Exactly


@frozen
class Claimed:
    """The answer to a claim."""

    leases: tuple[Lease, ...]
    next_due_ms: int | None  # when the next timer or lease of the wanted tasks comes due, if any is known
    now_ms: int


@frozen
class LeaseState:
    """The answer to a renewal, one for each lease asked about."""

    held: bool
    cancel: bool = False
    inbox: int = 0  # messages waiting


# ---- runs -----------------------------------------------------------------------------------------------------------


@frozen
class Limit:
    """How many runs may be leased at a time among those of one queue, one task and one key.

    A run holds a place while it is leased and its lease has not ended. Whatever ends that frees the place: a commit
    that lets go of the run, or time. A late owner that renews holds its place again, as it holds its lease again. A
    run that is ready or due while its limit has no room stays that, but is not granted. The limit that a run was
    created with holds for it; so do the places of the others of its key, whatever limits these were created with.

    Among the runs of one key the first in the order of claims is next, and the others stand behind it: a run that
    has no room must not hide runs of other keys or tasks, nor be looked at again by every claim (rule X4). So a
    storage keeps the runs of a key that may be claimed in an order of their own, and offers only the first of them to
    claims, and only while there is room.
    """

    places: int  # 1 or more
    key: str = ""


@frozen
class NewRun:
    """A run to create. With a grant it is born claimed, unless its limit has no room: then it is born ready."""

    run_id: str
    task: str
    input: bytes
    queue: str = "default"
    priority: int = 0  # higher first
    tags: tuple[str, ...] = ()
    parent: str | None = None
    entries: tuple[bytes, ...] = ()  # a fork brings its journal along
    start_at_ms: int | None = None  # not claimable before (ignored when born claimed)
    grant: Grant | None = None
    limit: Limit | None = None


@frozen
class RunHeader:
    """What is known of a run without reading its payloads."""

    run_id: str
    task: str
    status: RunStatus
    queue: str
    priority: int
    tags: tuple[str, ...]
    parent: str | None
    created_at_ms: int
    updated_at_ms: int
    finished_at_ms: int | None
    wake_at_ms: int | None  # when a waiting or delayed run comes due by itself
    length: int  # entries in the journal
    inbox: int  # messages not yet consumed
    crashes: int
    cancel: bool  # cancellation was asked for
    worker: str | None  # who holds the lease, if anyone
    revision: int  # grows with every change
    limit: Limit | None = None

    @property
    def id(self) -> str:
        """The run's id, under the name that it has on a handle."""
        return self.run_id


@frozen
class Created:
    """The run was created by this call, or by an earlier sending of it with the same grant."""

    lease: Lease | None  # None without a grant, or if its limit has no room
    now_ms: int


@frozen
class Exists:
    """A run of this id was there already; nothing was changed."""

    header: RunHeader
    now_ms: int


Submitted = Created | Exists


# ---- messages -------------------------------------------------------------------------------------------------------


class MessageKind(StrEnum):
    """What a message is for. All but CANCEL and REOPEN lie in the inbox until a commit consumes them."""

    EVENT = "event"
    CHILD = "child"
    CANCEL = "cancel"  # sets the run's cancel mark and wakes it; never in the inbox
    REOPEN = "reopen"  # puts a failed or blocked run back into its queue; its payload lies in the inbox


@frozen
class Message:
    """Something for a run. Sent twice with one id, it is received once."""

    id: str
    kind: MessageKind
    name: str = ""
    payload: bytes = b""


@frozen
class Send:
    """A message and whom it is for."""

    run_id: str
    message: Message


class Delivery(StrEnum):
    """What became of a message."""

    DELIVERED = "delivered"
    DUPLICATE = "duplicate"  # this id was delivered before
    CLOSED = "closed"  # the run is finished (or, for REOPEN, is neither failed nor blocked)
    MISSING = "missing"


# ---- the one hot operation ------------------------------------------------------------------------------------------


@hot_record
class Go:
    """The run goes on under the same lease."""

    status: RunStatus = RunStatus.RUNNING  # RUNNING or COMPENSATING


GO: Final = Go()


@frozen
class Yield:
    """Hand the run back to its queue at once; not a crash."""


@frozen
class Suspend:
    """Let go of the run until a time comes or the inbox holds enough. A cancel mark wakes it too.

    With a wake time in the past, enough in the inbox, or a cancel mark already set, it goes straight back to ready.
    """

    wake_at_ms: int | None = None
    inbox_at_least: int | None = None
    cancel_seen: bool = False  # the body has heard of the mark and waits all the same, in a `finally` say


@frozen
class Block:
    """Park the run until it is reopened; `reason` is kept as its result."""

    reason: bytes


@frozen
class Finish:
    """The run has ended. `result` is its outcome, value or error."""

    status: RunStatus  # SUCCEEDED, FAILED or CANCELLED
    result: bytes


Then = Go | Yield | Suspend | Block | Finish


@hot_record
class Commit:
    """One atomic change of one run (rules D1, D4, D7).

    The storage looks at `commit_id` first: the id of the run's last applied commit is answered `Done` again. Then the
    owner and fence must be the run's, and `base` its journal length. Only then is everything applied, or nothing.
    """

    run_id: str
    owner: str
    fence: int
    commit_id: str
    base: int
    entries: tuple[bytes, ...] = ()
    consume: tuple[str, ...] = ()  # message ids; an id not in the inbox is marked received, so it never arrives later
    spawn: tuple[NewRun, ...] = ()  # existing ids are left as they are
    send: tuple[Send, ...] = ()
    then: Then = GO


@hot_record
class Done:
    """Applied, now or by an earlier sending."""

    length: int  # the journal's length after it
    cancel: bool
    inbox: int
    now_ms: int


@frozen
class Fenced:
    """Someone else owns the run; nothing was applied."""


@frozen
class Gap:
    """The journal is not as long as the writer believes; nothing was applied."""

    length: int


@frozen
class Missing:
    """There is no such run; nothing was applied."""


Verdict = Done | Fenced | Gap | Missing


# ---- reading --------------------------------------------------------------------------------------------------------


@frozen
class Snapshot:
    """A run with its payloads, read at one moment. `entries` start after the `after` that was asked for."""

    header: RunHeader
    input: bytes
    result: bytes | None  # a finished run's outcome, a blocked run's reason
    entries: tuple[bytes, ...]
    inbox: tuple[Message, ...]  # oldest first
    now_ms: int


@frozen
class RunQuery:
    """Which runs to list; a field that is None does not narrow."""

    status: RunStatus | None = None
    task: str | None = None
    tag: str | None = None


@frozen
class Page:
    """Some runs, newest first, and where the next page begins."""

    headers: tuple[RunHeader, ...]
    cursor: str | None


@frozen
class QueueCount:
    """Ready and leased runs of one task in one queue."""

    queue: str
    task: str
    ready: int
    leased: int = 0


@frozen
class Counts:
    """How many runs there are, by status, and what waits in each queue."""

    by_status: dict[RunStatus, int]
    queues: tuple[QueueCount, ...]
