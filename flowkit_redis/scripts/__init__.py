"""The atomic changes, in Lua. Each file of a script begins after the parts that it is made of (see `PARTS`)."""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from importlib.resources import files

from attrs import frozen

_READING = ("time", "header")
_CHANGING = ("time", "header", "homes", "places")
_HOSTING = (*_CHANGING, "hosting")
_CREATING = (*_CHANGING, "runs")

# What each script is made of, and its flags: `#!lua` scripts are refused up front when memory is full, unless they may.
PARTS: dict[str, tuple[tuple[str, ...], str]] = {
    "append": (_READING, ""),
    "claim": (_HOSTING, ""),
    "claim_one": (_CHANGING, ""),
    "commit": (_CREATING, ""),
    "drop": ((), "allow-oom"),
    "headers": (_READING, "no-writes"),
    "host": (_HOSTING, ""),
    "load": (_READING, "no-writes"),
    "purge": (_READING, "allow-oom"),
    "renew": (_CHANGING, "allow-oom"),
    "send": (_CREATING, ""),
    "share": ((), ""),
    "stats": ((), "no-writes"),
    "submit": (_CREATING, ""),
    "watch": (_READING, "allow-oom"),
}


@frozen
class Script:
    """A script as the server knows it."""

    name: str
    text: bytes
    sha: bytes


@cache
def script(name: str, *, flagged: bool = True) -> Script:
    """Put a script together.

    Args:
        name: its file, without `.lua`.
        flagged: with a first line that says what it may do; Redis before 7.0 does not read it.
    """
    parts, flags = PARTS[name]
    folder = files(__name__)
    text = b"\n".join(folder.joinpath(f"{part}.lua").read_bytes() for part in (*parts, name))
    if flagged:
        text = f"#!lua{' flags=' + flags if flags else ''}\n".encode() + text
    return Script(name, text, sha1(text, usedforsecurity=False).hexdigest().encode())
