"""Wait for triggered runs: a wait suspends, outcomes travel in messages, and the record tells who had ended (rule E3).

How a run has ended is a fact that is recorded once, under that run's id; a wait records which runs had ended when it
was over. So a second wait for the same runs costs little, and a replay decides the same, whatever has ended since.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from attrs import define, evolve, field

from flowkit.codec import Json
from flowkit.documents import phase_of, result_json
from flowkit.effects import Inquire, Listen, Operation, Record, Standing
from flowkit.entries import Entry, Kind, Phase, RunEnd, encode_end
from flowkit.errors import ResultTimeout, RunNotFound
from flowkit.frozen import frozen
from flowkit.journal import Past
from flowkit.kinship import cancel_children, child_run_id
from flowkit.lines import Scope
from flowkit.mailbox import Mailbox
from flowkit.operations import cancellation, encode_within_cap, fail_operation, instead
from flowkit.run import Run

MOST_BYTES = 4 * 1024 * 1024  # of outcomes in one change
SHORTEST_LOOK_MS, LONGEST_LOOK_MS = 1_000, 60_000  # between two looks at a run that will send no message


@frozen
class Goal:
    """When a wait for several runs is over before all of them have ended."""

    min_successful: int | None = None
    tolerated_failures: int | None = None

    def missing(self, running: int, succeeded: int, failed: int) -> int:
        """How many more must end, at the least, before the wait can be over; 0: it is."""
        counts = [running]
        if self.min_successful is not None:
            counts.append(max(0, self.min_successful - succeeded))
        if self.tolerated_failures is not None:
            counts.append(max(0, self.tolerated_failures + 1 - failed))
        return min(counts)


@frozen
class JoinCall:
    """One wait: all that was known when it was begun."""

    key: str
    name: str
    run_ids: tuple[str, ...]
    past: Past | None
    goal: Goal = Goal()
    timeout_ms: int | None = None


@frozen
class _End:
    """How a run has ended, by whichever way that was found out."""

    succeeded: bool
    result: bytes | None = None  # as its storage has it; None: it is recorded already
    task: str = ""  # if that was found out too
    message_id: str | None = None  # the message that told it


@define(eq=False)
class _Ends:
    """The runs that a wait is for, and which of them have ended (see `effects.Wanted`)."""

    run: Run
    call: JoinCall
    ends: dict[str, _End] = field(factory=dict)
    running: dict[str, None] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        known = self.run.journal.ends
        for run_id in self.call.run_ids:
            if run_id in known:
                self.ends[run_id] = _End(known[run_id].phase == Phase.DONE)
            else:
                self.running[run_id] = None

    def told(self, run_id: str, result: bytes, task: str, message_id: str | None = None) -> None:
        """One more has ended."""
        del self.running[run_id]
        self.ends[run_id] = _End("error" not in result_json(self.run.codec, result), result, task, message_id)

    def take(self, mailbox: Mailbox) -> dict[str, _End] | None:
        """Those that have ended, once they are enough."""
        heard = mailbox.ends()
        if heard:
            for run_id in [run_id for run_id in self.running if run_id in heard]:
                child = self.run.children.get(run_id)
                task = self.call.name if child is None else child.task
                self.told(run_id, heard[run_id].payload, task, heard[run_id].id)
        return None if self.missing(mailbox) else self.ends

    def missing(self, _mailbox: Mailbox) -> int:
        """How many more must end, at the least."""
        succeeded = sum(end.succeeded for end in self.ends.values())
        return self.call.goal.missing(len(self.running), succeeded, len(self.ends) - succeeded)


def join_operation(run: Run, scope: Scope, call: JoinCall) -> Operation[object]:
    """Wait until enough of the runs have ended; the answer is their places among those waited for (None: all)."""
    key, name = call.key, call.name
    if (other := instead(run, scope, scope.saga, Kind.WAIT, key, name)) is not None:
        yield from other
    wanted = _Ends(run, call)
    if run.cancel_wanted(scope):
        yield from _cancel(run, scope, call, wanted)
    until_ms = yield from _begin(run, call)
    reopen = key in run.journal.reopened
    while True:
        look_again_ms = yield from _ask_about_strangers(run, scope, call, wanted, reopen=reopen)
        wake_ms = min((each for each in (until_ms, look_again_ms) if each is not None), default=None)
        if (yield Listen(name, key, wanted, wake_ms)) is not None:
            return (yield from _record(run, scope, call, wanted))
        if run.cancel_wanted(scope):
            yield from _cancel(run, scope, call, wanted)
        if until_ms is not None and run.clock.now_ms() >= until_ms:
            error = ResultTimeout(
                f"{len(wanted.running)} run(s) that run {run.id!r} waited for are not finished; they go on"
            )
            yield from fail_operation(run, scope, Kind.WAIT, key, name, error, 1)
        reopen = False


def _begin(run: Run, call: JoinCall) -> Operation[int | None]:
    """Until when to wait; recorded, so that the time does not start over (rule E4)."""
    if call.past is not None and call.past.begun is not None:
        assert isinstance(call.past.begun.data, int)  # written below
        return call.past.begun.data
    if call.timeout_ms is None:
        return None
    now_ms = run.clock.now_ms()
    entry = Entry(Kind.WAIT, Phase.BEGUN, call.key, call.name, now_ms, "", now_ms + call.timeout_ms)
    yield Record(entry.kind, entry.phase, call.name, call.key, (encode_within_cap(run, entry),))
    return now_ms + call.timeout_ms


def _ask_about_strangers(
    run: Run, scope: Scope, call: JoinCall, wanted: _Ends, *, reopen: bool
) -> Operation[int | None]:
    """Look at the runs that may send no message; the answer is when to look again, if ever.

    A child that this run has made tells its end by a message. A run that was there before, or is another's, does not:
    it is looked at now and then, less often the longer it takes. A failed child goes on if its parent is being retried.
    """
    own = child_run_id(run.id, "")
    strangers = tuple(run_id for run_id in wanted.running if reopen or not run_id.startswith(own))
    if not strangers:
        return None
    try:
        standings: Mapping[str, Standing] = yield Inquire(call.name, call.key, strangers, reopen)
    except RunNotFound as error:
        return (yield from fail_operation(run, scope, Kind.WAIT, call.key, call.name, error, 1))
    for run_id, standing in standings.items():
        if standing.result is not None:
            wanted.told(run_id, standing.result, standing.task)
    if all(standing.result is not None or standing.tells for standing in standings.values()):
        return None
    now_ms = run.clock.now_ms()
    return now_ms + min(LONGEST_LOOK_MS, max(SHORTEST_LOOK_MS, now_ms - scope.now_ms))


# ---- the end of a wait ----------------------------------------------------------------------------------------------


def _record(run: Run, scope: Scope, call: JoinCall, wanted: _Ends) -> Operation[object]:
    """Record how those have ended of whom that was not known, take their messages, and say who had ended by now."""
    ended: list[Json] | None = None
    if wanted.running:
        ended = [place for place, run_id in enumerate(call.run_ids) if run_id in wanted.ends]
    entry = Entry(Kind.WAIT, Phase.DONE, call.key, call.name, run.clock.now_ms(), "", ended)
    yield from _record_with_ends(run, scope, call, wanted, entry)
    return ended


def _record_with_ends(run: Run, scope: Scope, call: JoinCall, wanted: _Ends, last: Entry) -> Operation[None]:
    """In one change as a rule; very large outcomes take several, each of which leaves the record true."""
    entries: list[bytes] = []
    consume: list[str] = []
    size = 0
    for run_id, end in wanted.ends.items():
        if end.message_id is not None:
            consume.append(end.message_id)
        if end.result is None or run_id in run.journal.ends:
            continue
        fact = RunEnd(phase_of(run.codec, end.result), run_id, end.task, run.clock.now_ms(), end.result)
        run.journal.ends[run_id] = fact
        entries.append(encode_end(fact))
        size += len(entries[-1])
        if size > MOST_BYTES:
            yield Record(Kind.END, fact.phase, call.name, call.key, tuple(entries), tuple(consume))
            entries, consume, size = [], [], 0
    entries.append(encode_within_cap(run, last))
    scope.position = yield Record(last.kind, last.phase, call.name, call.key, tuple(entries), tuple(consume))
    scope.now_ms = last.at_ms


def _cancel(run: Run, scope: Scope, call: JoinCall, wanted: _Ends) -> Operation[NoReturn]:
    """The run is cancelled: first its children, then those it waits for have ended, then the body hears of it (E2)."""
    scope.cancel_delivered = True
    yield Record(Kind.WAIT, Phase.BEGUN, call.name, call.key, (), send=cancel_children(run))
    own = child_run_id(run.id, "")
    mine = tuple(run_id for run_id in wanted.running if run_id.startswith(own) or run_id in run.children)
    every = _Ends(run, evolve(call, run_ids=mine, goal=Goal()))
    while every.running:
        if (yield Listen(call.name, call.key, every)) is not None:
            break
    entry = Entry(Kind.WAIT, Phase.CANCELLED, call.key, call.name, run.clock.now_ms())
    yield from _record_with_ends(run, scope, call, every, entry)
    raise cancellation(run, scope)
