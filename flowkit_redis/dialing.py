"""Makes connections as an address says."""

from __future__ import annotations

import ssl
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

from flowkit_redis.connections import Connect
from flowkit_redis.url import Address
from flowkit_redis.wire import Wire

_RESP = 2  # the answers of scripts are the same in both protocols; this one has no pushes in between


def dial(address: Address, host: str, port: int, *, db: int | None = None) -> Connect:
    """What makes connections to one server, with the address's user, password, TLS and timeouts.

    redis-py would send a command up to ten times, also after a timeout; what is safe to send twice is known here, so
    its retries are off.
    """
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "db": address.db if db is None else db,
        "username": address.username,
        "password": address.password,
        "socket_timeout": address.timeout_s,
        "socket_connect_timeout": address.connect_timeout_s,
        "protocol": _RESP,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,  # no CLIENT SETINFO: two commands for each connection that need rights of their own
    }
    tls = address.tls
    kind: Any = Connection
    if tls is not None:
        kind = SSLConnection
        options |= {
            "ssl_ca_certs": tls.ca_file,
            "ssl_certfile": tls.cert_file,
            "ssl_keyfile": tls.key_file,
            "ssl_cert_reqs": "required" if tls.verify else "none",
            "ssl_check_hostname": tls.verify and tls.verify_host,
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
        }
    return lambda: Wire(kind(**options))
