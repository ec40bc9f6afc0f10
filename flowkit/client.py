"""Runs as they are seen from outside: created, read, told and reopened. Nothing is advanced here."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence

from flowkit.children import portions
from flowkit.clock import Clock
from flowkit.codec import Codec, Json
from flowkit.documents import ReplyTo, RunInput, decode_input, decode_result, encode_input
from flowkit.effects import Inquire, Outcome, Standing
from flowkit.errors import RunConflict, RunNotFound, RunRolledBack, SerializationError
from flowkit.incarnations import Start, start_from
from flowkit.limits import limit_of
from flowkit.overrides import overrides_to_json
from flowkit.patience import PatientStorage
from flowkit.records import (
    Exists,
    Grant,
    Lease,
    Message,
    MessageKind,
    NewRun,
    RunStatus,
    Snapshot,
)
from flowkit.registry import TaskSpec, hint_for, signature_of, tasks
from flowkit.reopening import keys_to_retry
from flowkit.run import Run


class Client:
    """One storage, with what turns values into bytes and tells the time.

    Args:
        storage: where the runs are.
        codec: how values become bytes.
        clock: the time.
        worker_id: under which name leases are asked for.
        lease_ms: how long they last.
    """

    def __init__(self, storage: PatientStorage, codec: Codec, clock: Clock, worker_id: str, lease_ms: int) -> None:
        self.storage = storage
        self.codec = codec
        self.clock = clock
        self.worker_id = worker_id
        self.lease_ms = lease_ms

    # ---- time and reading -------------------------------------------------------------------------------------

    def now_arg(self) -> int | None:
        """What to tell the storage about time: nothing, unless the clock is a virtual one."""
        return self.clock.now_ms() if self.clock.virtual else None

    def load(self, run_id: str) -> Snapshot:
        """Read a run with all that belongs to it.

        Raises:
            RunNotFound: there is none of that id.
        """
        return self.snapshot(run_id, None)

    def snapshot(self, run_id: str, limit: int | None = 0) -> Snapshot:
        """Read a run; `limit` journal entries at the most (None: all)."""
        snapshot = self.storage.load(run_id, 0, limit)
        if snapshot is None:
            raise RunNotFound(f"there is no run {run_id!r} in this storage (runs are forgotten after the retention)")
        return snapshot

    def inbox(self, run_id: str) -> Sequence[Message]:
        """Read what has been sent to a run, oldest first."""
        return self.snapshot(run_id).inbox

    def grant(self) -> Grant:
        """A new request for leases."""
        return Grant(self.worker_id, uuid.uuid4().hex, self.lease_ms)

    # ---- creating runs ----------------------------------------------------------------------------------------

    def new_run(
        self,
        spec: TaskSpec,
        args: tuple[object, ...],
        kwargs: Mapping[str, object],
        *,
        run_id: str | None = None,
        parent: str | None = None,
        reply: ReplyTo | None = None,
        grant: Grant | None = None,
    ) -> NewRun:
        """A run of the task with these arguments, not yet submitted.

        Raises:
            TypeError: the arguments do not fit the task's signature.
            SerializationError: one of them cannot be stored.
        """
        try:
            signature_of(spec.fn).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"task {spec.id!r}: {error}") from None
        now_ms = self.clock.now_ms()
        starts_at_ms = None if not spec.delay_s else now_ms + round(spec.delay_s * 1000)
        given = RunInput(
            tuple(self._argument(spec, hint_for(spec, i), f"argument {i + 1}", arg) for i, arg in enumerate(args)),
            {
                name: self._argument(spec, spec.parameters.get(name, object), f"argument {name}", value)
                for name, value in kwargs.items()
            },
            spec.digest(args, kwargs, self.codec),
            uuid.uuid4().hex,
            None if spec.expires_s is None else now_ms + round(spec.expires_s * 1000),
            reply,
            spec.outline,
            overrides_to_json(spec.overrides),
            starts_at_ms,
        )
        return NewRun(
            run_id or spec.run_id or uuid.uuid4().hex,
            spec.id,
            encode_input(self.codec, given),
            spec.queue,
            spec.priority,
            spec.tags,
            parent,
            start_at_ms=starts_at_ms,
            grant=grant,
            limit=limit_of(spec.concurrency, spec.id, args, kwargs),
        )

    def create(self, new: NewRun) -> None:
        """Put a new run into its queue; the same one given twice is one run.

        Raises:
            RunConflict: the id is taken by a run of another task or with other arguments.
        """
        self.create_all([new])

    def create_all(self, runs: Sequence[NewRun]) -> None:
        """Put new runs into their queues, all in one change, or in a few if they are very many.

        Raises:
            RunConflict: an id is taken by a run of another task or with other arguments.
        """
        for portion in portions(runs):
            submitted = self.storage.submit(portion, now_ms=self.now_arg())
            for new, answer in zip(portion, submitted, strict=True):
                if isinstance(answer, Exists):
                    self.check_same(new, self.snapshot(new.run_id))

    def _argument(self, spec: TaskSpec, hint: object, which: str, value: object) -> Json:
        try:
            return self.codec.to_json(value, hint)
        except SerializationError as error:
            raise SerializationError(f"{which} of task {spec.id!r} cannot be stored: {error}") from error

    def check_same(self, new: NewRun, snapshot: Snapshot) -> None:
        """Hold a run id given again against the run that has it.

        Raises:
            RunConflict: it has another task or other arguments.
        """
        header = snapshot.header
        if header.task != new.task:
            raise RunConflict(f"run id {new.run_id!r} is taken by a run of task {header.task!r}, not {new.task!r}")
        theirs, ours = decode_input(self.codec, snapshot.input).digest, decode_input(self.codec, new.input).digest
        if theirs and ours and theirs != ours:
            raise RunConflict(
                f"run id {new.run_id!r} is taken by a run of {new.task!r} with other arguments; use another id, or "
                "none, for other work"
            )

    # ---- runs that exist ------------------------------------------------------------------------------------------

    def inquire(self, parent: Run, question: Inquire) -> Mapping[str, Standing]:
        """Look at runs that a run waits for, or is about to start.

        Raises:
            RunNotFound: one that is waited for is not there.
            RunConflict: one that is about to be started is there, and is something else.
        """
        standings = {}
        for run_id in question.run_ids:
            snapshot = self.storage.load(run_id, 0, None if question.reopen else 0)
            if snapshot is not None:
                standings[run_id] = self._standing(parent, snapshot, reopen=question.reopen)
            elif not question.same:
                raise RunNotFound(
                    f"run {parent.id!r} waits for run {run_id!r}, which is not in this storage (any more)"
                )
        for new in question.same:
            if new.run_id in standings:
                self.check_same(new, self.snapshot(new.run_id))
        return standings

    def _standing(self, parent: Run, snapshot: Snapshot, *, reopen: bool) -> Standing:
        header = snapshot.header
        tells = header.parent == parent.id
        if reopen and header.status is RunStatus.FAILED:
            with contextlib.suppress(RunRolledBack):
                self.reopen(snapshot, keys_to_retry(self.codec, snapshot))
                return Standing(header.task, None, tells)
        return Standing(header.task, snapshot.result if header.status.finished else None, tells)

    def outcome_of(self, task_id: str, result: bytes) -> Outcome:
        """A stored result as what the run returned or raised."""
        spec = tasks.find(task_id)
        return decode_result(self.codec, result, object if spec is None else spec.hint)

    def reopen(self, snapshot: Snapshot, again: tuple[str, ...] = ()) -> object:
        """Put a failed or blocked run back into its queue; the operations named run again."""
        header = snapshot.header
        message = Message(f"reopen:{header.revision}", MessageKind.REOPEN, "retry", self.codec.dumps(list(again)))
        return self.storage.send(header.run_id, message, now_ms=self.now_arg())

    def start_of(self, lease: Lease) -> Start:
        """Read a run that has just been claimed."""
        return start_from(lease, self.load(lease.run_id))
