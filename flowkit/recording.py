"""A run as a file: what the storage holds of it, versioned, to be replayed elsewhere (`flowkit runs show --export`)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from attrs import asdict

from flowkit.errors import SerializationError
from flowkit.records import Limit, Message, MessageKind, RunHeader, RunStatus, Snapshot

VERSION = 1


def export(snapshot: Snapshot) -> str:
    """A run as JSON text. Payloads are kept as they are stored, so one that a codec has encrypted stays encrypted."""
    document = {
        "flowkit_run": VERSION,
        "header": asdict(snapshot.header),
        "input": _payload(snapshot.input),
        "result": None if snapshot.result is None else _payload(snapshot.result),
        "entries": [_payload(entry) for entry in snapshot.entries],
        "inbox": [
            {"id": message.id, "kind": message.kind, "name": message.name, "payload": _payload(message.payload)}
            for message in snapshot.inbox
        ],
        "read_at_ms": snapshot.now_ms,
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def read(text: str, name: str = "the recording") -> Snapshot:
    """Read what `export` has written.

    Args:
        text: the JSON text.
        name: what to call it in an error.

    Raises:
        SerializationError: it is no recording, or one of a later version.
    """
    try:
        document = json.loads(text)
        version = document["flowkit_run"]
    except (ValueError, KeyError, TypeError) as error:
        raise SerializationError(
            f"{name} is no recorded run ({error!r}); write one with `flowkit runs show RUN_ID --export FILE`"
        ) from error
    if version != VERSION:
        raise SerializationError(
            f"{name} was exported in version {version!r}, this flowkit reads version {VERSION}: use the flowkit that "
            "wrote it, or a newer one"
        )
    try:
        return _snapshot(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SerializationError(f"{name} is damaged: {error!r}") from error


def _snapshot(document: Mapping[str, Any]) -> Snapshot:
    header = document["header"]
    limit = header["limit"]
    inbox = document["inbox"]
    return Snapshot(
        RunHeader(
            **{
                **header,
                "status": RunStatus(header["status"]),
                "tags": tuple(header["tags"]),
                "limit": None if limit is None else Limit(**limit),
            }
        ),
        _bytes(document["input"]),
        None if document["result"] is None else _bytes(document["result"]),
        tuple(map(_bytes, document["entries"])),
        tuple(Message(m["id"], MessageKind(m["kind"]), m["name"], _bytes(m["payload"])) for m in inbox),
        document["read_at_ms"],
    )


def _payload(data: bytes) -> str | dict[str, str]:
    """Text where it is text, so that a recording can be read and compared."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode("ascii")}


def _bytes(payload: str | dict[str, str]) -> bytes:
    return payload.encode("utf-8") if isinstance(payload, str) else base64.b64decode(payload["base64"], validate=True)
