"""What a retry of a failed or blocked run goes on with (rule X2)."""

from __future__ import annotations

from flowkit.codec import Codec
from flowkit.entries import RUN_KEY, decode
from flowkit.errors import RunFinished, RunRolledBack
from flowkit.records import RunStatus, Snapshot


def keys_to_retry(codec: Codec, snapshot: Snapshot) -> tuple[str, ...]:
    """The operations that a retry of this run forgets, so that they run again (rule X2).

    Raises:
        RunFinished: it neither failed nor is blocked.
        RunRolledBack: something was done about the failure already, so going on from there would contradict it.
    """
    header = snapshot.header
    if header.status is RunStatus.BLOCKED:
        return ()
    if header.status is not RunStatus.FAILED:
        raise RunFinished(f"run {header.run_id!r} is {header.status}; only failed and blocked runs can be retried")
    last = decode(codec, snapshot.entries[-1]) if snapshot.entries else None
    again = last.data.get("again") if last is not None and isinstance(last.data, dict) else None
    if last is None or last.key != RUN_KEY or not isinstance(again, list):
        raise RunRolledBack(
            f"run {header.run_id!r} did something about its failure before it ended (compensation, or steps in an "
            "`except` block), so it cannot go on from there; flow.fork(run_id) starts it afresh"
        )
    return tuple(str(key) for key in again)
