"""Runs as JSON documents: what `--json` prints. Times are whole milliseconds since the epoch, UTC."""

from __future__ import annotations

import json

from flowkit.cli.chains import links_of
from flowkit.cli.times import local_time
from flowkit.codec import Codec, Json
from flowkit.documents import decode_input, result_json
from flowkit.errors import SerializationError
from flowkit.following import StoredItem
from flowkit.inspection import RecordedCall, recorded_calls, rollbacks
from flowkit.records import RunHeader, Snapshot


def header_view(header: RunHeader) -> dict[str, Json]:
    """A run without its payloads."""
    return {
        "run_id": header.run_id,
        "task": header.task,
        "status": str(header.status),
        "queue": header.queue,
        "priority": header.priority,
        "tags": list(header.tags),
        "parent": header.parent,
        "created_at_ms": header.created_at_ms,
        "updated_at_ms": header.updated_at_ms,
        "finished_at_ms": header.finished_at_ms,
        "wake_at_ms": header.wake_at_ms,
        "entries": header.length,
        "inbox": header.inbox,
        "crashes": header.crashes,
        "cancel_asked": header.cancel,
        "worker": header.worker,
    }


def run_view(codec: Codec, snapshot: Snapshot) -> dict[str, Json]:
    """A run with its input, its outcome and its timeline."""
    input_, unreadable = input_of(codec, snapshot)
    outcome, unreadable_result = outcome_of(codec, snapshot)
    recorded = recorded_calls(codec, snapshot)
    calls: list[Json] = [_call_view(call) for call in recorded]
    chain: list[Json] = [
        {"depth": link.depth, "method": link.method, "name": link.name, "state": link.state, "times": link.times}
        for link in links_of(codec, snapshot, recorded)
    ]
    return {
        **header_view(snapshot.header),
        "input": input_,
        "value": outcome.get("value"),
        "error": outcome.get("error"),
        "unreadable": unreadable or unreadable_result,
        "chain": chain,
        "timeline": calls,
        "rollbacks": [
            {
                "name": rollback.name,
                "cause": rollback.cause,
                "undone": list(rollback.undone),
                "failed": list(rollback.failed),
                "left": list(rollback.left),
            }
            for rollback in rollbacks(codec, snapshot)
        ],
    }


def input_of(codec: Codec, snapshot: Snapshot) -> tuple[dict[str, Json], str | None]:
    """What the run was started with, as stored; and why it cannot be read, if so."""
    try:
        given = decode_input(codec, snapshot.input)
    except SerializationError as error:
        return {}, str(error)
    return {"args": list(given.args), "kwargs": dict(given.kwargs)}, None


def outcome_of(codec: Codec, snapshot: Snapshot) -> tuple[dict[str, Json], str | None]:
    """How the run ended, as stored: `value` or `error`, or neither; and why it cannot be read, if so."""
    if snapshot.result is None:
        return {}, None
    try:
        return result_json(codec, snapshot.result), None
    except SerializationError as error:
        return {}, str(error)


def _call_view(call: RecordedCall) -> dict[str, Json]:
    return {
        "kind": call.kind,
        "name": call.name,
        "key": call.key,
        "state": call.phase,
        "began_at_ms": call.began_at_ms,
        "ended_at_ms": call.ended_at_ms,
        "attempts": call.attempts,
        "errors": list(call.errors),
        "value": call.value,
    }


def item_view(item: StoredItem) -> dict[str, Json]:
    """An item of a run, its data as stored."""
    return {"seq": item.seq, "type": str(item.type), "name": item.name, "data": item.data, "at_ms": item.at_ms}


def item_text(item: StoredItem) -> str:
    """An item of a run in one line."""
    data = "" if item.data is None else f"  {json.dumps(item.data, ensure_ascii=False)}"
    return f"{item.seq:>6}  {local_time(item.at_ms)}  {item.type:<10}  {item.name}{data}"
