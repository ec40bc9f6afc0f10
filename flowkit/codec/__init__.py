"""The codec: values, results and exceptions as JSON that people can read, and back (rules D5 and D6)."""

from __future__ import annotations

from flowkit.codec.base import ClassNotFound, Codec, Json
from flowkit.codec.errors import error_from_json, error_text, error_to_json, live_error
from flowkit.codec.json_codec import JsonCodec

__all__ = [
    "ClassNotFound",
    "Codec",
    "Json",
    "JsonCodec",
    "error_from_json",
    "error_text",
    "error_to_json",
    "live_error",
]
