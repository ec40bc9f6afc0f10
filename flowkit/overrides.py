"""Options of one run that differ from its task's: they travel with the run, to whoever advances it."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from flowkit.codec import Json
from flowkit.codec.base import ClassNotFound
from flowkit.codec.names import class_name, find_class
from flowkit.errors import ConfigurationError, RunBlocked, SerializationError
from flowkit.frozen import frozen
from flowkit.retry import Retry, RetryPolicy

_NUMBERS = ("attempts", "delay", "backoff", "max_delay", "jitter")


@frozen
class Overrides:
    """What was given with `.options(...)` and is asked for when the run is advanced."""

    policy: Retry | None = None
    timeout_s: float | None = None


NONE = Overrides()


def overridden(before: Overrides, policy: RetryPolicy | None, timeout_s: float | None, where: str) -> Overrides:
    """The options of before, with those that were given now.

    Raises:
        ConfigurationError: the policy is a function, which cannot be stored with a run.
    """
    if policy is not None and not isinstance(policy, Retry):
        raise ConfigurationError(
            f"{where}: options(retry={policy!r}): a function cannot be kept with a run; give it to @task(retry=...), "
            "or write a Retry(...)"
        )
    if policy is not None:
        before = evolve(before, policy=policy)
    return before if timeout_s is None else evolve(before, timeout_s=timeout_s)


def overrides_to_json(given: Overrides) -> Json:
    """As part of a run's stored input; None if there are none."""
    document: dict[str, Json] = {}
    if given.policy is not None:
        numbers: dict[str, Json] = {name: getattr(given.policy, name) for name in _NUMBERS}
        document["retry"] = {**numbers, "on": [class_name(cls) for cls in given.policy.on]}
    if given.timeout_s is not None:
        document["timeout_s"] = given.timeout_s
    return document or None


def overrides_from_json(document: Json) -> Overrides:
    """Read them back.

    Raises:
        SerializationError: they are damaged.
        RunBlocked: a class of errors is not imported here; the message names it.
    """
    if document is None:
        return NONE
    if not isinstance(document, Mapping):
        raise SerializationError(f"a run's stored options are damaged: {document!r}")
    retry, timeout_s = document.get("retry"), document.get("timeout_s")
    limit_s = float(timeout_s) if isinstance(timeout_s, int | float) else None
    return Overrides(None if retry is None else _policy(retry), limit_s)


def _policy(document: Json) -> Retry:
    damaged = SerializationError(f"a run's stored options are damaged: {document!r}")
    if not isinstance(document, Mapping) or not isinstance(on := document.get("on"), list):
        raise damaged
    try:
        numbers = {name: document[name] for name in _NUMBERS}
        return Retry(**numbers, on=tuple(find_class(str(name)) for name in on))  # type: ignore[arg-type]  # validated by Retry
    except ClassNotFound as error:
        raise RunBlocked(f"its options retry errors of a class that is not known here: {error}") from error
    except (KeyError, ConfigurationError) as error:
        raise damaged from error
