"""How a run and the runs that it has started know one another: their ids, and what a cancellation tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flowkit.codec import Json
from flowkit.entries import Kind
from flowkit.records import Message, MessageKind, Send
from flowkit.run import Run


def child_run_id(run_id: str, key: str) -> str:
    """The id of a child follows from its parent's run and key, so that a replay finds it again (rule E3)."""
    return f"{run_id}/{key}"


def reply_id(run: Run, key: str) -> str:
    """The id of the message by which the child tells its end."""
    return f"child:{run.id}/{key}"


def ids_of_batch(run_id: str, key: str, count: int, given: Mapping[int, str]) -> tuple[str, ...]:
    """The ids of the children of a batch: the n-th one's follows from the batch's, unless it was given one."""
    base = child_run_id(run_id, key)
    return tuple(given.get(number) or f"{base}.{number}" for number in range(count))


def batch_json(run_ids: Sequence[str], base: str) -> Json:
    """What is recorded of a batch: how many children it has, and the ids that do not follow from its own."""
    given: dict[str, Json] = {
        str(number): run_id for number, run_id in enumerate(run_ids) if run_id != f"{base}.{number}"
    }
    return {"base": base, "count": len(run_ids), "given": given}


def batch_from_json(data: Json) -> tuple[str, ...]:
    """The ids of the children of a recorded batch."""
    assert isinstance(data, dict)  # written by batch_json
    base, count, given = data["base"], data["count"], data["given"]
    assert isinstance(count, int)
    assert isinstance(given, dict)
    return tuple(str(given.get(str(number), f"{base}.{number}")) for number in range(count))


def started_by(run: Run) -> Iterator[str]:
    """The ids of the runs that it has triggered, as far as its record tells."""
    for past in run.journal.past.values():
        if past.kind == Kind.TRIGGER and past.outcome is not None and isinstance(past.outcome.data, str):
            yield past.outcome.data
        elif past.kind == Kind.BATCH:
            entry = past.outcome or past.begun
            if entry is not None and isinstance(entry.data, dict) and "base" in entry.data:
                yield from batch_from_json(entry.data)


def cancel_children(run: Run) -> tuple[Send, ...]:
    """What tells the runs that it has triggered, and that have not ended as far as it knows, to stop (rule E2)."""
    known, heard = run.journal.ends, run.mailbox.ends()
    ids = dict.fromkeys((*started_by(run), *run.children))
    stop = Message(f"cancel:{run.id}", MessageKind.CANCEL)
    return tuple(Send(run_id, stop) for run_id in ids if run_id not in known and run_id not in heard)
