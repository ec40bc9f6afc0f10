"""What an operation may ask of the world. Drivers perform these; each has a before and an after, where it may crash."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol, TypeVar

from attrs import field

from flowkit.frozen import frozen, hot_record
from flowkit.mailbox import Mailbox
from flowkit.records import GO, Go, Message, NewRun, Send, Then

_T = TypeVar("_T")


@hot_record
class Invoke:
    """Run the user's function once; the answer is a `Returned` or a `Raised`, never an exception."""

    name: str
    key: str
    attempt: int
    fn: Callable[..., object]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    timeout_s: float | None = None
    threaded: bool = False  # a sync function in async code, to be run on a thread
    undoable: bool = False  # once it is completed, a rollback undoes it; for whoever watches


@frozen
class RunBody:
    """Run the task's own function from its start; the answer is a `Returned` or a `Raised`."""

    name: str
    fn: Callable[..., object]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]
    key: str = ""


@hot_record
class Record:
    """Make entries durable (rule D1); the answer is the position of the last one in the journal."""

    kind: str
    phase: str
    name: str
    key: str
    entries: tuple[bytes, ...]
    consume: tuple[str, ...] = ()
    spawn: tuple[NewRun, ...] = ()
    send: tuple[Send, ...] = ()
    go: Go = GO


@frozen
class Post:
    """Write entries soon, in order with what is recorded after them, without waiting for that."""

    kind: str
    phase: str
    name: str
    key: str
    entries: tuple[bytes, ...]


@frozen
class End:
    """Let go of the run, for good or for a while, with the last entries of this incarnation."""

    name: str
    then: Then
    entries: tuple[bytes, ...] = ()
    consume: tuple[str, ...] = ()
    send: tuple[Send, ...] = ()
    key: str = ""


@frozen
class Reload:
    """Read the journal again, before the body starts over; the answer is the `Journal`."""

    name: str
    key: str = ""


@frozen
class Pause:
    """Wait until a time: in place if that is soon, else by letting go of the run (rules R2, E4).

    The answer is True if cancellation was asked for meanwhile.
    """

    name: str
    key: str
    until_ms: int


class Wanted(Protocol):
    """What someone waits for in the inbox."""

    def take(self, mailbox: Mailbox) -> object:
        """What was waited for; None if it is not all there."""

    def missing(self, mailbox: Mailbox) -> int:
        """How many messages must come, at the least, before it can be."""


@frozen
class Listen:
    """Wait for messages; the answer is what `wanted` takes from the mailbox.

    None once `until_ms` has passed without it, or when cancellation was asked for.
    """

    name: str
    key: str
    wanted: Wanted
    until_ms: int | None = None


@frozen
class Inquire:
    """Look at other runs; failed ones are reopened if asked.

    The answer is a `Standing` for each; `RunNotFound` or, for `same`, `RunConflict` is raised.
    """

    name: str
    key: str
    run_ids: tuple[str, ...]
    reopen: bool = False
    same: tuple[NewRun, ...] = ()  # what those that are there already must be


@frozen
class Standing:
    """What is known of another run."""

    task: str
    result: bytes | None  # its stored outcome, once it has ended
    tells: bool  # it is a child, and will send a message when it ends


@frozen
class Advance:
    """Run a child in the place of its parent (rule E3); the answer is a `ChildEnded` or a `ChildWaits`."""

    name: str
    key: str
    run: NewRun
    reopen: bool = False  # a failed child goes on: its parent is being retried


@frozen
class Tell:
    """Send another run a message now; sent twice with one id it is received once."""

    name: str
    key: str
    run_id: str
    message: Message


Effect = Invoke | RunBody | Record | Post | End | Reload | Pause | Listen | Tell | Inquire | Advance
Operation = Generator[Effect, Any, _T]  # what an effect answers differs by effect, so the answer is Any here


@hot_record
class Returned:
    """The function returned."""

    value: object


@hot_record
class Raised:
    """The function raised."""

    error: BaseException = field(eq=False)


Outcome = Returned | Raised


@frozen
class ChildEnded:
    """The child is finished; `result` is its stored outcome."""

    result: bytes


@frozen
class ChildWaits:
    """The child was suspended or is being run elsewhere; it sends its parent this message when it ends."""

    message_id: str
    wake_at_ms: int | None = None  # when it comes due by itself, so that its parent can go on advancing it


ChildAnswer = ChildEnded | ChildWaits
