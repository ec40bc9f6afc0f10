"""A run's input and result as stored documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flowkit.codec import Codec, Json
from flowkit.codec.errors import error_from_json
from flowkit.effects import Outcome, Raised, Returned
from flowkit.entries import Phase
from flowkit.errors import RunBlocked, SerializationError
from flowkit.frozen import frozen

FORMAT: Final = 1


@frozen
class ReplyTo:
    """Who waits for a child's end, and the id of the message that tells it."""

    run_id: str
    message_id: str


@frozen
class RunInput:
    """What a run was started with."""

    args: tuple[Json, ...]
    kwargs: Mapping[str, Json]
    digest: str  # of the arguments: the same run id with another digest is a conflict
    seed: str  # of uuid4() and rng() (rule I6)
    expires_at_ms: int | None = None  # not started by then, it is cancelled
    reply: ReplyTo | None = None
    outline: Json = None  # the links of a sequencer, so that its runs can be drawn where its code is not known
    options: Json = None  # of this run, where they differ from its task's
    starts_at_ms: int | None = None  # it was triggered with a delay


def encode_input(codec: Codec, given: RunInput) -> bytes:
    """The input as bytes for a storage."""
    reply: Json = None if given.reply is None else {"run": given.reply.run_id, "message": given.reply.message_id}
    document: dict[str, Json] = {
        "v": FORMAT,
        "args": list(given.args),
        "kwargs": dict(given.kwargs),
        "digest": given.digest,
        "seed": given.seed,
        "expires_at": given.expires_at_ms,
        "reply": reply,
    }
    if given.outline is not None:
        document["outline"] = given.outline
    if given.options is not None:
        document["options"] = given.options
    if given.starts_at_ms is not None:
        document["starts_at"] = given.starts_at_ms
    return codec.dumps(document)


def decode_input(codec: Codec, raw: bytes) -> RunInput:
    """Read an input back.

    Raises:
        SerializationError: if it is not one, or was written by a newer version.
    """
    document = _document(codec, raw, "input")
    args, kwargs, reply = document.get("args"), document.get("kwargs"), document.get("reply")
    expires, digest, seed = document.get("expires_at"), document.get("digest"), document.get("seed")
    starts_at = document.get("starts_at")
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(seed, str):
        raise SerializationError(f"a run's stored input is damaged: {raw[:80]!r}")
    return RunInput(
        tuple(args),
        kwargs,
        str(digest),
        seed,
        expires if isinstance(expires, int) else None,
        ReplyTo(str(reply["run"]), str(reply["message"])) if isinstance(reply, dict) else None,
        document.get("outline"),
        document.get("options"),
        starts_at if isinstance(starts_at, int) else None,
    )


def encode_value(codec: Codec, value: Json) -> bytes:
    """The result of a run that returned."""
    return codec.dumps({"v": FORMAT, "value": value})


def encode_error(codec: Codec, error: Json, *, cancelled: bool = False) -> bytes:
    """The result of a run that failed or was cancelled, or the reason of one that is blocked."""
    document: dict[str, Json] = {"v": FORMAT, "error": error}
    return codec.dumps({**document, "cancelled": True} if cancelled else document)


def phase_of(codec: Codec, raw: bytes) -> Phase:
    """How a run with this stored result has ended."""
    document = result_json(codec, raw)
    if "error" not in document:
        return Phase.DONE
    return Phase.CANCELLED if document.get("cancelled") else Phase.FAILED


def result_json(codec: Codec, raw: bytes) -> dict[str, Json]:
    """The stored result as a document with either `value` or `error`."""
    return _document(codec, raw, "result")


def decode_result(codec: Codec, raw: bytes, hint: object) -> Outcome:
    """What the run returned or raised, as itself.

    Raises:
        SerializationError, RunBlocked: if it cannot be rebuilt in this process; the message says why.
    """
    document = result_json(codec, raw)
    if "error" in document:
        return Raised(error_from_json(codec, document["error"]))
    return Returned(codec.from_json(document.get("value"), hint))


def describe_error(codec: Codec, raw: bytes) -> BaseException:
    """The stored error, or one that says that it cannot be rebuilt here."""
    try:
        outcome = decode_result(codec, raw, object)
    except (SerializationError, RunBlocked) as error:
        return error
    return outcome.error if isinstance(outcome, Raised) else RunBlocked("the run is blocked")


def _document(codec: Codec, raw: bytes, what: str) -> dict[str, Json]:
    document = codec.loads(raw)
    if not isinstance(document, dict):
        raise SerializationError(f"a run's stored {what} is damaged: {raw[:80]!r}")
    if document.get("v") != FORMAT:
        raise SerializationError(
            f"a run's stored {what} has format {document.get('v')!r}; this version of flowkit reads {FORMAT}: "
            "it was written by a newer one, so update flowkit on this machine"
        )
    return document
