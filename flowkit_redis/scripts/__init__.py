"""The atomic changes, in Lua. Each file of a script begins after the parts that it is made of (see `PARTS`)."""

from __future__ import annotations

import re
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
    "load": ((*_READING, "inbox"), "no-writes"),
    "more_inbox": (("time", "inbox"), "no-writes"),
    "purge": (_READING, "allow-oom"),
    "renew": (_CHANGING, "allow-oom"),
    "send": (_CREATING, ""),
    "share": ((), ""),
    "stats": ((), "no-writes"),
    "submit": (_CREATING, ""),
    "watch": (_READING, "allow-oom"),
}


_COMMENTS = re.compile(r"('[^'\n]*')| *--.*")
_CONSTANTS = re.compile(r"^local ([A-Z][A-Z_, ]*) = (.+)\n", re.MULTILINE)
_NAMES = re.compile(r"'[^'\n]*'|\b[A-Z][A-Z_]+\b")  # what is quoted is passed over as a whole
_FUNCTIONS = re.compile(r"^local function (\w+)(?:.*\bend\n|(?s:.*?)^end\n)", re.MULTILINE)


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
    source = "\n".join(folder.joinpath(f"{part}.lua").read_text() for part in (*parts, name))
    first = f"#!lua{' flags=' + flags if flags else ''}\n" if flagged else ""
    text = (first + _slim(source)).encode()
    return Script(name, text, sha1(text, usedforsecurity=False).hexdigest().encode())


def _slim(source: str) -> str:
    """Leave out what costs the server something in each call, and does nothing in this script.

    A function is allocated anew in each call, and so is a local that functions use: this was half of what a claim
    allocated, and a quarter of its time; more on a server whose memory is large and scattered.
    """
    source = _COMMENTS.sub(lambda found: found[1] or "", source)
    return _without_unused(_with_constants_filled_in(source))


def _with_constants_filled_in(source: str) -> str:
    values: dict[str, str] = {}
    for names, literals in _CONSTANTS.findall(source):
        for name, literal in zip(names.split(", "), literals.split(", "), strict=True):
            values[name] = values.get(literal, literal)
    return _NAMES.sub(lambda name: values.get(name[0], name[0]), _CONSTANTS.sub("", source))


def _without_unused(source: str) -> str:
    for function in reversed(list(_FUNCTIONS.finditer(source))):
        rest = source[function.end() :]
        if not re.search(rf"\b{function[1]}\b", rest):
            source = source[: function.start()] + rest
    return source
