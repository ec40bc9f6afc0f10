"""How often a piece of work is tried, and how long to wait in between."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from attrs import field

from flowkit.durations import seconds
from flowkit.errors import (
    ConfigurationError,
    NonRetryable,
    RunBlocked,
    SerializationError,
    StepInterrupted,
    UsageError,
)
from flowkit.frozen import frozen
from flowkit.notes import add_note, attribute_of, line_of

NEVER_RETRIED = (NonRetryable, SerializationError, StepInterrupted, RunBlocked, UsageError)


@frozen
class Retry:
    """Exponential back-off with jitter.

    Args:
        attempts: tries in all, the first included.
        delay: seconds before the second try.
        backoff: factor by which the delay grows with each further try.
        max_delay: seconds that no delay exceeds.
        jitter: each delay varies by up to this fraction of itself, either way.
        on: errors of these classes are tried again; all others are final.

    Example:
        >>> Retry(attempts=5, delay=0.2, jitter=0).delay_after(ConnectionError(), 2)
        0.4
    """

    attempts: int = field(default=3)
    delay: float = field(default=0.2)
    backoff: float = field(default=2.0)
    max_delay: float = field(default=30.0)
    jitter: float = field(default=0.1)
    on: tuple[type[BaseException], ...] = field(default=(Exception,))

    @attempts.validator
    def _at_least_one(self, _attribute: object, value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigurationError(f"attempts={value!r}: write a whole number of tries in all, 1 or more")

    @delay.validator
    @backoff.validator
    @max_delay.validator
    @jitter.validator
    def _not_negative(self, attribute: object, value: object) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or math.isnan(float(str(value))) or float(str(value)) < 0:
            name = getattr(attribute, "name", "value")
            raise ConfigurationError(f"Retry({name}={value!r}): write a number of 0 or more")

    @on.validator
    def _error_classes(self, _attribute: object, value: object) -> None:
        for kind in value if isinstance(value, tuple) else (value,):
            if not isinstance(kind, type) or not issubclass(kind, BaseException):
                raise ConfigurationError(f"Retry(on={value!r}): write error classes, as in on=(ConnectionError,)")

    def delay_after(self, error: BaseException, attempt: int) -> float | None:
        """Seconds to wait after the given failed attempt (from 1), or None if that was the last."""
        return _drawn(self, error, attempt, random.uniform)


RetryPolicy = Retry | Callable[[BaseException, int], float | None]
"""A `Retry`, or a function from the error and the number of failed attempts to seconds (None: give up)."""


def policy_from(attempts: int | None, retry: RetryPolicy | None, where: str) -> RetryPolicy | None:
    """Join the two ways of saying it; None if neither was used.

    Raises:
        ConfigurationError: if both are given and disagree, or one is not what it should be.
    """
    if attempts is None and retry is None:
        return None
    if retry is None:
        return Retry(attempts=attempts if attempts is not None else 3)
    if not isinstance(retry, Retry) and not callable(retry):
        raise ConfigurationError(
            f"{where}: retry={retry!r} is neither a Retry nor a function (error, attempt) -> delay"
        )
    if attempts is not None:
        raise ConfigurationError(f"{where}: give either attempts= or retry=, not both")
    return retry


def delay_after(policy: RetryPolicy, error: BaseException, attempt: int, seed: str) -> float | None:
    """Seconds until the next attempt, or None if the error is final (rule R4).

    The jitter follows from the seed, a run and its operation: what many runs try again is spread, and a run takes the
    same time whenever a test runs it.
    """
    if isinstance(error, NEVER_RETRIED) or not isinstance(error, Exception):
        return None
    if isinstance(policy, Retry):
        delay = _drawn(policy, error, attempt, random.Random(f"{seed}:{attempt}").uniform)
    else:
        delay = _answer(policy, error, attempt)
    if delay is None:
        return None
    asked = attribute_of(error, "retry_after")  # R4: a server that says when to come back is believed
    if isinstance(asked, int | float) and not isinstance(asked, bool) and asked >= 0 and math.isfinite(asked):
        return float(asked)
    return max(0.0, delay)


def _answer(policy: Callable[[BaseException, int], float | None], error: BaseException, attempt: int) -> float | None:
    """What a user's function says; one that fails has given up, and the error that it was asked about tells of it.

    It must not get any further: a run whose policy fails would be taken up, and fail there, again and again.
    """
    try:
        delay = policy(error, attempt)
        return None if delay is None else seconds(max(0.0, delay), "the delay that it gave")
    except Exception as failure:  # noqa: BLE001  # any code at all
        add_note(error, f"not tried again, since its retry= function failed: {line_of(failure)}")
        return None


def _drawn(policy: Retry, error: BaseException, attempt: int, between: Callable[[float, float], float]) -> float | None:
    """The policy's delay, with jitter drawn from this."""
    if attempt >= policy.attempts or not isinstance(error, policy.on):
        return None
    # the exponent is capped so that a large attempt count cannot overflow a float
    delay = min(policy.delay * policy.backoff ** min(attempt - 1, 64), policy.max_delay)
    return delay * (1 + policy.jitter * between(-1, 1)) if policy.jitter else delay
