"""What a `disk:` URL says."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qsl

from attrs import frozen

from flowkit.errors import ConfigurationError
from flowkit.records import Durability

_LEVELS = {"disk": Durability.DISK, "process": Durability.PROCESS}
_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@frozen
class Location:
    """Where a storage lies and how it is to be opened."""

    path: Path
    durability: Durability = Durability.DISK
    any_filesystem: bool = False


def parse(url: str) -> Location:
    """Read a URL such as `disk:./state`, `disk:/var/lib/app?durability=process` or `disk:~/state`.

    Raises:
        ConfigurationError: names what is wrong and says what to write.
    """
    text, _, query = url.removeprefix("disk:").partition("?")
    if not url.startswith("disk:") or not text:
        raise ConfigurationError(f"storage URL {url!r} names no directory; write disk:PATH, for example disk:.flowkit")
    if text.startswith("//") and not text.startswith("///"):
        raise ConfigurationError(f"storage URL {url!r} names a host; write disk:./relative or disk:/absolute")
    options = dict(parse_qsl(query, keep_blank_values=True))
    durability = options.pop("durability", "disk")
    unsafe = options.pop("unsafe_filesystem", "0")
    if options:
        names = ", ".join(repr(name) for name in sorted(options))
        raise ConfigurationError(
            f"storage URL {url!r}: unknown parameter {names}; known are 'durability' and 'unsafe_filesystem'"
        )
    if durability not in _LEVELS:
        raise ConfigurationError(
            f"storage URL {url!r}: durability={durability!r} is unknown; write 'disk' or 'process'"
        )
    if unsafe not in _SWITCH:
        raise ConfigurationError(f"storage URL {url!r}: unsafe_filesystem={unsafe!r} is neither 1 nor 0")
    return Location(absolute(text), _LEVELS[durability], _SWITCH[unsafe])


def absolute(path: str | os.PathLike[str]) -> Path:
    """The directory that is meant, wherever the process goes later.

    Raises:
        ConfigurationError: for a path in which diskcache would replace a variable of the environment.
    """
    found = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111  # Path keeps "..", and has no way to say //x
    if os.path.expandvars(found) != found:
        raise ConfigurationError(f"disk storage {found}: a path with ${{...}} in it is not supported; choose another")
    return Path("/" + found.lstrip("/"))
