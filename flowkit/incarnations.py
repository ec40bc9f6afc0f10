"""From a claimed run, as it was read, to an incarnation of it that can be advanced."""

from __future__ import annotations

from typing import Protocol

from flowkit.body import BodyCall
from flowkit.changes import Writer
from flowkit.documents import RunInput, decode_input
from flowkit.errors import RunBlocked, SerializationError
from flowkit.frozen import frozen
from flowkit.journal import Journal
from flowkit.mailbox import Mailbox
from flowkit.overrides import NONE, Overrides, overrides_from_json
from flowkit.reasons import Blocked, Reason
from flowkit.records import Lease, Message, MessageKind, Snapshot
from flowkit.registry import TaskSpec, hint_for
from flowkit.run import Probe, Run, Services


@frozen
class Start:
    """A claimed run, as it was read: where an incarnation begins."""

    lease: Lease
    task: str
    input: bytes
    created_at_ms: int
    entries: tuple[bytes, ...] = ()
    inbox: tuple[Message, ...] = ()
    length: int = 0
    cancel: bool = False


class Host(Services, Protocol):
    """The engine that advances it."""

    @property
    def max_crashes(self) -> int:
        """How often in a row a run may lose its worker without recording anything new (rule R4)."""

    @property
    def probe(self) -> Probe | None:
        """Who watches its effects."""


def start_from(lease: Lease, snapshot: Snapshot) -> Start:
    """The start of an incarnation, from what was read after the claim."""
    header = snapshot.header
    return Start(
        lease,
        header.task,
        snapshot.input,
        header.created_at_ms,
        snapshot.entries,
        snapshot.inbox,
        header.length,
        header.cancel,
    )


def incarnation(host: Host, start: Start, spec: TaskSpec, *, for_worker: bool) -> tuple[Run, BodyCall]:
    """The run, and what is to be called in it; what cannot be read blocks it."""
    refuse = _refusal(host, start)
    journal, given, overrides = Journal(), RunInput((), {}, "", ""), NONE
    args: tuple[object, ...] = ()
    kwargs: dict[str, object] = {}
    try:
        given = decode_input(host.codec, start.input)
        args = tuple(host.codec.from_json(arg, hint_for(spec, i)) for i, arg in enumerate(given.args))
        kwargs = {
            name: host.codec.from_json(value, spec.parameters.get(name, object)) for name, value in given.kwargs.items()
        }
        overrides = overrides_from_json(given.options)
        journal = Journal.read(host.codec, start.entries)
    except (SerializationError, RunBlocked) as error:
        blocked = RunBlocked(f"run {start.lease.run_id!r} cannot be read in this process: {error}")
        blocked.__cause__ = error
        refuse = Blocked(blocked)
    reopen = next((message for message in start.inbox if message.kind is MessageKind.REOPEN), None)
    unstarted = _cancelled_unstarted(host, start, given)
    call = BodyCall(spec.fn, args, kwargs, spec.hint, given.reply, reopen, refuse, unstarted, for_worker)
    return _run(host, start, spec, overrides, journal, given), call


def _run(host: Host, start: Start, spec: TaskSpec, overrides: Overrides, journal: Journal, given: RunInput) -> Run:
    timeout_s = spec.timeout_s if overrides.timeout_s is None else overrides.timeout_s
    writer = Writer(start.lease, start.length, start.cancel, len(start.inbox))
    run = Run(
        start.lease.run_id,
        spec.id,
        host,
        journal,
        writer,
        overrides.policy or spec.policy,
        given.seed,
        start.created_at_ms,
        spec.is_async,
        host.codec,
        host.clock,
        host.max_value_bytes,
        spec.fn.__module__,
        None if timeout_s is None else (given.starts_at_ms or start.created_at_ms) + round(timeout_s * 1000),
        host.probe,
        mailbox=Mailbox(start.inbox),
    )
    writer.on_news = run.news
    return run


def _refusal(host: Host, start: Start) -> Reason | None:
    if start.lease.crashes < host.max_crashes:
        return None
    return Blocked(
        RunBlocked(  # R4
            f"run {start.lease.run_id!r} lost its worker {start.lease.crashes} times in a row without recording "
            "anything new: something in it may be killing the process. flow.retry(run_id) tries again"
        )
    )


def _cancelled_unstarted(host: Host, start: Start, given: RunInput) -> str | None:
    if start.length or start.lease.crashes:
        return None
    if start.cancel:
        return f"run {start.lease.run_id!r} was cancelled before it started"
    if given.expires_at_ms is not None and given.expires_at_ms <= host.clock.now_ms():
        return f"run {start.lease.run_id!r} expired before it started"
    return None
