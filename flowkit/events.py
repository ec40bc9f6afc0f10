"""`wait_for_event`: a run waits for something that only the world outside can tell it (rule E5)."""

from __future__ import annotations

import uuid
from collections.abc import Coroutine
from itertools import count
from typing import Any, Final, TypeVar, cast, overload

from attrs import field

from flowkit.calls import (
    perform_call,
    perform_call_async,
    recall,
    refuse_foreign_task,
    require_async,
    take_key,
)
from flowkit.codec import Codec, Json
from flowkit.conformance import mismatch
from flowkit.durations import Duration, seconds
from flowkit.effects import Listen, Operation, Record
from flowkit.entries import Entry, Kind, Phase
from flowkit.errors import (
    ConfigurationError,
    EventTimeout,
    NotAllowedInStep,
    OutsideRun,
    SerializationError,
    WrongColour,
)
from flowkit.frozen import frozen
from flowkit.journal import Past
from flowkit.lines import Scope
from flowkit.mailbox import Mailbox
from flowkit.operations import cancel_here, encode_within_cap, fail_operation, instead
from flowkit.records import Message, MessageKind
from flowkit.run import Frame, Run, current

T = TypeVar("T")
FORMAT: Final = 1

# ---- what is sent ---------------------------------------------------------------------------------------------------


def new_event_id(name: str) -> str:
    """An id for an event without one: inside a run the same on every replay, and in a step in every attempt."""
    frame = current.get()
    if frame is None:
        return uuid.uuid4().hex
    if frame.step_key is None:
        return str(frame.run.uuid4(frame.scope))
    attempt = f"{frame.step_key}@{frame.attempt}:event:{name}"
    return f"{frame.run.id}:{frame.step_key}:{name}:{next(frame.run.numbers.setdefault(attempt, count(1)))}"


def event_message(codec: Codec, name: str, payload: object, event_id: str, at_ms: int) -> Message:
    """An event as it is sent. Sent twice with one id, it is received once.

    Raises:
        SerializationError: the payload cannot be stored.
    """
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"send_event(name={name!r}): the name of an event is a text that is not empty")
    if not isinstance(event_id, str) or not event_id:
        raise ConfigurationError(f"send_event(id={event_id!r}): the id of an event is a text that is not empty")
    try:
        document: Json = {"v": FORMAT, "at": at_ms, "payload": codec.to_json(payload)}
    except SerializationError as error:
        raise SerializationError(f"the payload of event {name!r} cannot be stored: {error}") from error
    return Message(f"event:{event_id}", MessageKind.EVENT, name, codec.dumps(document))


def _document(codec: Codec, message: Message) -> dict[str, Json]:
    document = codec.loads(message.payload)
    if not isinstance(document, dict) or document.get("v") != FORMAT:
        raise SerializationError(f"event {message.name!r} ({message.id}) is damaged, or was sent by a newer flowkit")
    return document


# ---- waiting --------------------------------------------------------------------------------------------------------


@frozen
class _NextEvent:
    """The oldest event of a name, for one wait; once its time is over, only one that was sent before that (E5)."""

    run: Run = field(repr=False)
    name: str
    key: str
    until_ms: int | None

    def take(self, mailbox: Mailbox) -> Message | None:
        """The event, if it is there."""
        for message in mailbox.events(self.name, self.key):
            if not self._too_late(message):
                mailbox.keep(message, self.key)
                return message
        return None

    def missing(self, _mailbox: Mailbox) -> int:
        """How many messages must come at the least before it is worth looking again."""
        return 1

    def _too_late(self, message: Message) -> bool:
        if self.until_ms is None or self.run.clock.now_ms() < self.until_ms:
            return False
        try:
            at_ms = _document(self.run.codec, message).get("at")
        except SerializationError:
            return False  # whoever takes it is told
        return isinstance(at_ms, int) and at_ms > self.until_ms


@frozen
class _Wait:
    """One call of `wait_for_event`."""

    name: str
    key: str
    hint: object
    timeout_ms: int | None
    past: Past | None


def event_operation(run: Run, scope: Scope, call: _Wait) -> Operation[object]:
    """Record until when to wait, then wait; a wait that was recorded already keeps its time (rule E4)."""
    name, key, past = call.name, call.key, call.past
    if (other := instead(run, scope, scope.saga, Kind.EVENT, key, name)) is not None:
        yield from other
    if past is not None and past.begun is not None:
        until_ms = cast("int | None", past.begun.data)  # written below
    else:
        began_ms = run.clock.now_ms()
        until_ms = None if call.timeout_ms is None else began_ms + call.timeout_ms
        yield _record(run, Entry(Kind.EVENT, Phase.BEGUN, key, name, began_ms, "", until_ms))
    message: Message | None = yield Listen(name, key, _NextEvent(run, name, key, until_ms), until_ms)
    if message is not None:
        return (yield from _receive(run, scope, call, message))
    if run.cancel_wanted(scope):
        yield from cancel_here(run, scope, Kind.EVENT, key, name)
    error = EventTimeout(f"no event {name!r} came to run {run.id!r} in time")
    return (yield from fail_operation(run, scope, Kind.EVENT, key, name, error, 1))


def _receive(run: Run, scope: Scope, call: _Wait, message: Message) -> Operation[object]:
    """Record the payload and take the event out of the inbox, in one change."""
    try:
        data = _document(run.codec, message).get("payload")
        value = _typed(run.codec.from_json(data, call.hint), call.hint)
    except SerializationError as error:
        unfit = SerializationError(f"event {call.name!r} ({message.id}) has brought what was not asked for: {error}")
        kind, consume = Kind.EVENT, (message.id,)
        yield from fail_operation(run, scope, kind, call.key, call.name, unfit, 1, consume=consume)
    entry = Entry(Kind.EVENT, Phase.DONE, call.key, call.name, run.clock.now_ms(), "", data)
    scope.position = yield _record(run, entry, consume=(message.id,))
    scope.now_ms = entry.at_ms
    return value


def _typed(value: object, hint: object) -> object:
    wrong = mismatch(value, hint)  # all through: "no" for a bool deep inside would count as a yes
    if wrong is not None:
        raise SerializationError(wrong)
    return value


def _record(run: Run, entry: Entry, consume: tuple[str, ...] = ()) -> Record:
    return Record(entry.kind, entry.phase, entry.name, entry.key, (encode_within_cap(run, entry),), consume)


# ---- for tasks ------------------------------------------------------------------------------------------------------


@overload
def wait_for_event(name: str, *, timeout: Duration | None = None, type: type[T]) -> T: ...
@overload
def wait_for_event(name: str, *, timeout: Duration | None = None) -> object: ...


def wait_for_event(name: str, *, timeout: Duration | None = None, type: type[Any] | None = None) -> object:
    """Wait for an event that `flow.send_event` sends to this run, and return its payload.

    Events of a name come in the order in which they were sent, one for each wait; one that was sent before it is waited
    for is kept. A run that waits holds no thread and no memory, however long it takes.

    Args:
        name: of the event.
        timeout: how long to wait, counted from when the wait began, also across restarts: seconds, `timedelta` or text.
        type: of the payload; what comes must be one.

    Raises:
        EventTimeout: none came in time. One that comes later is for the next wait.
        SerializationError: the payload is not of that type.

    Example:
        >>> from flowkit import Flow, task, wait_for_event
        >>> @task(id="docs-approval")
        ... def publish(text: str) -> str:
        ...     editor = wait_for_event("approval", timeout="7d", type=str)
        ...     return f"{text}, approved by {editor}"
        >>> with Flow("memory:") as flow:
        ...     handle = flow.start(publish, "news")
        ...     flow.send_event(handle.id, "approval", "Ada")
        ...     handle.result()
        True
        'news, approved by Ada'
    """
    frame = _frame("wait_for_event")
    run, scope = frame.run, frame.scope
    if run.is_async:
        raise WrongColour(
            "wait_for_event in an async task would block its event loop: write `await flowkit.aio.wait_for_event(...)`"
        )
    call = _call(frame, name, timeout, type)
    return perform_call(run, scope, call.past, call.hint, lambda: event_operation(run, scope, call))


@overload
def wait_for_event_async(name: str, *, timeout: Duration | None = None, type: type[T]) -> Coroutine[Any, Any, T]: ...
@overload
def wait_for_event_async(name: str, *, timeout: Duration | None = None) -> Coroutine[Any, Any, object]: ...


def wait_for_event_async(
    name: str, *, timeout: Duration | None = None, type: type[Any] | None = None
) -> Coroutine[Any, Any, object]:
    """`wait_for_event`, awaitable."""
    frame = _frame("aio.wait_for_event")
    run, scope = frame.run, frame.scope
    require_async(run, "wait_for_event")
    call = _call(frame, name, timeout, type)
    assert run.body is not None  # the calling task is the body's
    run.body.created += 1
    return perform_call_async(run, scope, call.past, call.hint, lambda: event_operation(run, scope, call))


def _call(frame: Frame, name: str, timeout: Duration | None, hint: object) -> _Wait:
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"wait_for_event({name!r}): the name of an event is a text that is not empty")
    timeout_ms = None if timeout is None else round(seconds(timeout, f"wait_for_event({name!r}, timeout=...)") * 1000)
    key = take_key(frame, None)
    return _Wait(name, key, object if hint is None else hint, timeout_ms, recall(frame.run, Kind.EVENT, key, name))


def _frame(what: str) -> Frame:
    frame = current.get()
    if frame is None:
        raise OutsideRun(f"flowkit.{what}() works only inside a task: outside of one nothing can be sent to it")
    if frame.step_key is not None:
        raise NotAllowedInStep(
            f"flowkit.{what}() was called inside step {frame.step_name!r}; call it in the task, between steps"
        )
    if not frame.owned_here():
        refuse_foreign_task(what)
    return frame
