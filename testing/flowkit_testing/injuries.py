"""What a test asks to go wrong: in a step, to a process, in the storage."""

from __future__ import annotations

from collections.abc import Callable

from flowkit.durations import Duration, seconds
from flowkit_testing.faults import AT, OUTCOMES, At, Delay, Fail, Mock, Outcome, StorageFault, Strike, Timeout, When
from flowkit_testing.injector import Injector
from flowkit_testing.lab import Lab
from flowkit_testing.process import Moment
from flowkit_testing.trace import What
from flowkit_testing.which import StepRef, which

_STORAGE_OPERATIONS = frozenset({"submit", "claim", "commit", "renew", "send", "load", "list_runs", "stats", "purge"})


class Injuries:
    """The part of `Harness` that injures.

    Args:
        faults: what makes them happen.
        lab: what they happen in.
    """

    def __init__(self, faults: Injector, lab: Lab) -> None:
        self._faults = faults
        self._lab = lab

    # ---- faults in steps --------------------------------------------------------------------------------------

    def fail(
        self,
        step: StepRef,
        error: BaseException | type[BaseException] = RuntimeError,
        times: int | None = None,
        *,
        when: When | None = None,
    ) -> None:
        """Attempts of a step raise instead of running its body.

        Args:
            step: its name, `"name#2"` for its second call in a run (of calls made at once: the second to begin),
                `"name[key]"`, the step, or its function.
            error: what they raise.
            times: how many attempts; None: every one.
            when: only attempts whose arguments it is true of.
        """
        if not (isinstance(error, BaseException) or (isinstance(error, type) and issubclass(error, BaseException))):
            raise TypeError(f"harness.fail(error={error!r}) takes an exception, or a class of them")
        self._faults.steps.append(Fail(which(step), _times(times), when, error=error))

    def mock(self, step: StepRef, result: object, times: int | None = None, *, when: When | None = None) -> None:
        """Attempts of a step return a result instead of running its body."""
        self._faults.steps.append(Mock(which(step), _times(times), when, result=result))

    def timeout(self, step: StepRef, times: int | None = None, *, when: When | None = None) -> None:
        """Attempts of a step take longer than they may."""
        self._faults.steps.append(Timeout(which(step), _times(times), when))

    def delay(
        self,
        step: StepRef,
        duration: Duration,
        times: int | None = None,
        *,
        when: When | None = None,
    ) -> None:
        """Attempts of a step take so much longer, in virtual time."""
        self._faults.steps.append(Delay(which(step), _times(times), when, delay_s=seconds(duration, "harness.delay")))

    # ---- faults of processes ----------------------------------------------------------------------------------

    def crash(self, step: StepRef, at: At = "after_effect", *, when: When | None = None) -> None:
        """The process dies at a point of a step, once; the run is resumed by another one when the lease has ended.

        Args:
            step: the step, or the task itself (its commit is the end of the run).
            at: before or after the step's effect, before or after its commit.
            when: only a call whose arguments it is true of.
        """
        self._strike(step, at, _die, "crash", when)

    def lose_lease(self, step: StepRef, at: At = "before_commit", *, when: When | None = None) -> None:
        """Another process takes the run over at a point of a step; this one does not know, and goes on."""
        self._strike(step, at, self._take_over, "lose_lease", when)

    def _strike(
        self, step: StepRef, at: At, act: Callable[[Moment, Strike], None], name: str, when: When | None
    ) -> None:
        if at not in AT:
            raise ValueError(f"harness.{name}(at={at!r}): write one of {', '.join(AT)}")
        self._faults.strikes.append(Strike(which(step), at, act, name, when))

    def _take_over(self, moment: Moment, _strike: Strike) -> None:
        self._lab.take_over(moment.run.id)

    # ---- faults of the storage --------------------------------------------------------------------------------

    def storage_fault(self, operation: str, nth: int = 1, outcome: Outcome = "not_applied") -> None:
        """The storage does not answer the nth call of an operation, counted from here.

        Args:
            operation: "commit", "submit", "claim", "load", "send" or another method of the storage.
            nth: which of its calls, from 1.
            outcome: "not_applied", or "applied_ack_lost" if only the answer is lost.
        """
        if operation not in _STORAGE_OPERATIONS:
            raise ValueError(f"harness.storage_fault({operation!r}): one of {', '.join(sorted(_STORAGE_OPERATIONS))}")
        if outcome not in OUTCOMES:
            raise ValueError(f"harness.storage_fault(outcome={outcome!r}): write one of {', '.join(OUTCOMES)}")
        if nth < 1:
            raise ValueError(f"harness.storage_fault(nth={nth}): calls are counted from 1")
        self._faults.storage.append(StorageFault(operation, nth, outcome))


def _times(times: int | None) -> int | None:
    if times is None or (isinstance(times, int) and times > 0):
        return times
    raise ValueError(f"times={times!r}: write how many attempts, from 1, or None for every one")


def _die(moment: Moment, strike: Strike) -> None:
    moment.process.world.trace.add(What.INJECTED, moment.call, str(strike))
    raise moment.process.die(str(strike))
