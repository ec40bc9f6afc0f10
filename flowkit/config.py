"""Which storage a `Flow` uses, and how a storage URL is shown without its secrets."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from attrs import field

from flowkit.errors import ConfigurationError
from flowkit.frozen import frozen

ENVIRONMENT_VARIABLE = "FLOWKIT_STORAGE"
DEFAULT_URL = "disk:.flowkit"

_KEYS = ("storage",)  # all that [tool.flowkit] may hold
_EXAMPLE = "disk:.flowkit or redis://localhost:6379/0"
_SECRET_PARAMETER = re.compile(
    r"(?<=[?&;#])([^=&;#]*(?:password|passwd|pwd|secret|token|api_?key|credential|auth)[^=&;#]*=)[^&;#]*",
    re.IGNORECASE,
)


def redact(url: str) -> str:
    """Show a URL with `***` for its password and its parameters that sound like secrets.

    It hides too much rather than too little, since a URL in an error is often one that was mistyped.

    Example:
        >>> redact("redis://app:hunter2@cache:6379/0")
        'redis://app:***@cache:6379/0'
    """
    scheme, colon, rest = url.partition(":")
    return scheme + colon + _SECRET_PARAMETER.sub(r"\1***", _hide_userinfo(rest))


def _hide_userinfo(rest: str) -> str:
    before, at, after = rest.rpartition("@")  # the last one: a password may hold any of :/?@ if someone forgot to quote
    if not at:
        return rest
    path = before.lstrip("/")
    slashes = before[: len(before) - len(path)]
    user, colon, _ = path.partition(":")
    if colon:
        return f"{slashes}{user}:***@{after}"
    if slashes == "//" or "/" not in before:  # `redis://hunter2@cache`, `app:hunter2@cache`
        return f"{slashes}***@{after}"
    return rest  # a file path with an @ in it


def _quoted(url: str) -> str:
    return repr(redact(url))


@frozen
class ResolvedUrl:
    """A storage URL and where it was found, for errors and `flowkit doctor`.

    Args:
        url: the URL; shown without its secrets.
        source: `the argument`, `FLOWKIT_STORAGE`, `the default`, or the path of a pyproject.toml.
    """

    url: str = field(repr=_quoted)
    source: str


def storage_url(
    argument: str | None, *, environ: Mapping[str, str] | None = None, cwd: Path | None = None
) -> ResolvedUrl:
    """Find the URL of the storage to use.

    The argument, else the environment variable `FLOWKIT_STORAGE`, else `storage` under `[tool.flowkit]` in the nearest
    `pyproject.toml` from the working directory upward, else `disk:.flowkit`. A variable that is set but empty counts
    as not set. A relative disk path in a `pyproject.toml` starts at that file's folder, so that it names one place
    from wherever the program is started; elsewhere it starts at the working directory.

    Args:
        argument: what the caller asked for; None if nothing.
        environ: the environment; None: this process's.
        cwd: where to look for a `pyproject.toml`; None: the working directory.

    Raises:
        ConfigurationError: if the argument is no text or empty, or a `pyproject.toml` cannot be read, is not TOML, or
            holds something else than a text under the one key that `[tool.flowkit]` knows.
    """
    if argument is not None:
        return ResolvedUrl(_checked(argument, "the storage argument"), "the argument")
    if from_environment := (os.environ if environ is None else environ).get(ENVIRONMENT_VARIABLE):
        return ResolvedUrl(from_environment, ENVIRONMENT_VARIABLE)
    file = _nearest_pyproject(_working_directory() if cwd is None else cwd.absolute())
    configured = _storage_in(file) if file else None
    if file is None or configured is None:
        return ResolvedUrl(DEFAULT_URL, "the default")
    return ResolvedUrl(_anchored(configured, file), str(file))


def _working_directory() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"the working directory is gone, so no storage can be found from it; name one: Flow(url) or "
            f"{ENVIRONMENT_VARIABLE}"
        ) from error


def _nearest_pyproject(folder: Path) -> Path | None:
    candidates = (parent / "pyproject.toml" for parent in (folder, *folder.parents))
    # os.path, since Path.is_file raises on a parent folder that may not be entered
    return next((file for file in candidates if os.path.isfile(file)), None)  # noqa: PTH113  # see above


def _storage_in(file: Path) -> str | None:
    table = _tool_table(file)
    for key in table:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it may hold: {', '.join(_KEYS)}"
            raise ConfigurationError(f"{file}: [tool.flowkit] has no key {key!r}; {hint}")
    return _checked(table["storage"], f"{file}: [tool.flowkit] storage") if "storage" in table else None


def _tool_table(file: Path) -> Mapping[str, object]:
    try:
        import tomllib  # noqa: PLC0415  # only where a pyproject.toml is read; `import flowkit` needs none

        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{file}: cannot be read ({error.strerror}); mend that, or name the storage: Flow(url) or "
            f"{ENVIRONMENT_VARIABLE}"
        ) from error
    except ValueError as error:  # TOMLDecodeError or UnicodeDecodeError
        raise ConfigurationError(f"{file}: is not valid TOML ({error})") from error
    table: object = document
    for name in ("tool", "flowkit"):
        table = table.get(name, {}) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise ConfigurationError(f'{file}: [tool.flowkit] is no table; write storage = "..." under [tool.flowkit]')
    return table


def _checked(value: object, where: str) -> str:
    if not isinstance(value, str):
        hint = f"; for a folder write 'disk:{value}'" if isinstance(value, os.PathLike) else ""
        raise ConfigurationError(f"{where} is a {type(value).__name__}, no URL such as {_EXAMPLE}{hint}")
    if not value.strip():
        raise ConfigurationError(f"{where} is empty; write a URL such as {_EXAMPLE}")
    return value


def _anchored(url: str, file: Path) -> str:
    scheme, _, path = url.partition(":")
    if scheme != "disk" or path.startswith(("/", "~", "?")):
        return url
    if "?" in str(file.parent):
        raise ConfigurationError(
            f"{file}: storage = {url!r} is relative to a folder with a '?' in its name, which would end the path in "
            "the URL; write the path of another folder, from / on"
        )
    return f"disk:{file.parent}/{path.removeprefix('./')}"
