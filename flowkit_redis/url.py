"""What a `redis:` URL says."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from attrs import evolve, field, frozen

from flowkit.errors import ConfigurationError
from flowkit.records import Durability
from flowkit_redis.keys import MOST_SHARDS

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LEVELS = {level.value: level for level in (Durability.PROCESS, Durability.DISK, Durability.REPLICATED)}
_VERIFY = {"full": (True, True), "ca": (True, False), "none": (False, False)}
_OF_TLS = frozenset({"tls_ca", "tls_cert", "tls_key", "tls_verify"})
_CUT_SHORT = "what stands before its @ holds /, ? or #; write them %2F, %3F and %23 in a password"
_T = TypeVar("_T")


class Kind(StrEnum):
    """What answers at the hosts of a URL."""

    SINGLE = "redis"
    SENTINEL = "redis+sentinel"
    CLUSTER = "redis+cluster"


SCHEMES = {kind.value: kind for kind in Kind} | {kind.value.replace("redis", "rediss"): kind for kind in Kind}
_FORMS = {
    Kind.SINGLE: "HOST:PORT/DB",
    Kind.SENTINEL: "HOST:PORT,HOST:PORT/MASTER/DB",
    Kind.CLUSTER: "HOST:PORT,HOST:PORT",
}


@frozen
class Tls:
    """How a server proves who it is, and this client."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True  # the certificate has to be signed by an authority that is known
    verify_host: bool = True  # and be that host's


@frozen
class Address:
    """Where the servers are and how they are to be used. Its repr has no secrets."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    kind: Kind = Kind.SINGLE
    service: str | None = None  # what Sentinels call the master
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Tls | None = None
    namespace: str = "default"
    shards: int | None = None  # None: as the namespace has it
    durability: Durability | None = None  # the least that is asked for; None: whatever the server does
    assumed: Durability | None = None  # what the user says of a server that does not tell
    timeout_s: float = 10.0
    connect_timeout_s: float = 5.0

    @property
    def of_sentinels(self) -> Address:
        """How Sentinels themselves are talked to: they have users of their own."""
        return evolve(self, db=0, username=None, password=self.sentinel_password)

    @property
    def where(self) -> str:
        """The servers as errors name them."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        service = "" if self.service is None else f"/{self.service}"
        return f"{self.scheme}://{hosts}{service}/{self.db}"


def parse(url: str) -> Address:
    """Read a URL such as `rediss://user:password@cache.example:6380/0?namespace=shop&durability=disk`.

    Raises:
        ConfigurationError: names what is wrong and says what to write, without the password.
    """
    return _Reader(url).address()


class _Reader:
    """Reads one URL; every complaint begins in the same way and shows no secret."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or not rest:
            form = "redis://HOST:PORT/DB" if scheme not in SCHEMES else f"{scheme}://{_FORMS[SCHEMES[scheme]]}"
            begins = url.partition(":")[0][:12]
            raise ConfigurationError(f"a storage URL that begins with {begins!r} is no redis storage; write {form}")
        self._scheme = scheme
        self._kind = SCHEMES[scheme]
        try:
            self._parts = urlsplit(url)
            self._hosts = tuple(_hosts(self._parts, self._kind))
        except ValueError as error:
            raise self._wrong(
                f"its host or port cannot be read ({_harmless(error)}); write {scheme}://{_FORMS[self._kind]}"
            ) from None
        if self._parts.fragment:
            raise self._wrong("it holds #; write it %23 in a password")
        self._options = dict(parse_qsl(self._parts.query, keep_blank_values=True))
        if "@" not in self._parts.netloc and ("@" in self._parts.path or any("@" in name for name in self._options)):
            raise self._wrong(_CUT_SHORT)

    def address(self) -> Address:
        """All that the URL says."""
        secure = self._option("tls", _switch, "1 or 0", default=self._scheme.startswith("rediss"))
        service, db = self._place()
        found = Address(
            scheme=self._scheme,
            hosts=self._hosts,
            kind=self._kind,
            service=service,
            db=db,
            username=_unquoted(self._parts.username),
            password=_unquoted(self._parts.password),
            sentinel_password=self._options.pop("sentinel_password", None),
            tls=self._tls() if secure else None,
            namespace=self._option("namespace", _namespace, "letters, digits and _.-, at most 64", default="default"),
            shards=self._option("shards", _shards, f"a number from 1 to {MOST_SHARDS}", default=None),
            durability=self._option("durability", _level, f"one of {', '.join(_LEVELS)}", default=None),
            assumed=self._option("assume_durability", _level, f"one of {', '.join(_LEVELS)}", default=None),
            timeout_s=self._option("timeout", _seconds, "seconds, above 0", default=10.0),
            connect_timeout_s=self._option("connect_timeout", _seconds, "seconds, above 0", default=5.0),
        )
        if any("@" in value for value in self._options.values()):
            raise self._wrong(_CUT_SHORT)
        if self._options:
            names = ", ".join(repr(name) for name in sorted(self._options))
            if not secure and self._options.keys() <= _OF_TLS:
                raise self._wrong(f"{names} without TLS; write {self._scheme.replace('redis', 'rediss')}://")
            raise self._wrong(
                f"unknown parameter {names}; known are namespace, shards, durability, assume_durability, timeout, "
                "connect_timeout, tls_ca, tls_cert, tls_key, tls_verify, sentinel_password"
            )
        return found

    def _place(self) -> tuple[str | None, int]:
        """The name of the master, where Sentinels know it by one, and the database."""
        service: str | None = None
        text = self._parts.path.strip("/")
        if self._kind is Kind.SENTINEL:
            service, _, text = text.partition("/")
            if not service:
                raise self._wrong(f"it does not name the master; write {self._scheme}://{_FORMS[self._kind]}")
            service = unquote(service)
        if text and not text.isdecimal():
            form = _FORMS[self._kind].replace("DB", "0")
            raise self._wrong(f"database {text!r} is no number; write {self._scheme}://{form}")
        db = int(text or 0)
        if self._kind is Kind.CLUSTER and db:
            raise self._wrong(f"a Cluster has no database {db}; leave it out, and tell apart by namespace=")
        return service, db

    def _tls(self) -> Tls:
        verify, verify_host = self._option("tls_verify", _VERIFY.__getitem__, "full, ca or none", default=(True, True))
        ca_file, cert_file, key_file = (
            self._option(name, _file, "a file that can be read", default=None)
            for name in ("tls_ca", "tls_cert", "tls_key")
        )
        return Tls(ca_file, cert_file, key_file, verify, verify_host)

    def _option(self, name: str, read: Callable[[str], _T], wanted: str, *, default: _T) -> _T:
        text = self._options.pop(name, None)
        if text is None:
            return default
        try:
            return read(text)
        except (ValueError, KeyError):
            raise self._wrong(f"{name}={text!r} is not {wanted}") from None

    def _wrong(self, what: str) -> ConfigurationError:
        path = self._parts.path if hasattr(self, "_parts") else ""
        shown = f"{self._scheme}://...{'' if '@' in path else path}"  # a piece of a password, if it was not escaped
        return ConfigurationError(f"storage URL {shown!r}: {what}")


def _hosts(parts: SplitResult, kind: Kind) -> list[tuple[str, int]]:
    hosts = []
    default = DEFAULT_SENTINEL_PORT if kind is Kind.SENTINEL else DEFAULT_PORT
    for one in parts.netloc.rpartition("@")[2].split(","):
        read = urlsplit(f"//{one}")
        hosts.append((read.hostname or "localhost", read.port or default))
    return hosts


def _harmless(error: ValueError) -> str:
    """The error without what it quotes: that may be a piece of a password that was not escaped."""
    return str(error).partition(":")[0].partition("'")[0].strip()


def _unquoted(text: str | None) -> str | None:
    return unquote(text) if text else None


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text):
        raise ValueError
    return text


def _shards(text: str) -> int:
    if not 1 <= int(text) <= MOST_SHARDS:
        raise ValueError
    return int(text)


def _level(text: str) -> Durability:
    return _LEVELS[text]


def _seconds(text: str) -> float:
    if not 0 < float(text) < 1e6:  # noqa: PLR2004  # what fits into every clock
        raise ValueError
    return float(text)


def _switch(text: str) -> bool:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text]


def _file(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError
    return text
