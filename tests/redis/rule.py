"""The user that the docs tell to make for flowkit, with the rights that it is told to have."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from flowkit_testing.servers import Server

DOCS = Path(__file__).parents[2] / "docs" / "redis-security.md"
PASSWORD = "p@ss/w:rd"  # noqa: S105  # it opens nothing
QUOTED = "p%40ss%2Fw%3Ard"


def documented_rule(namespace: str) -> list[str]:
    """The words of the rule in the docs, for a namespace."""
    found = re.search(r"redis-cli ACL SETUSER (?P<rule>.*?)\n```", DOCS.read_text(), re.DOTALL)
    assert found is not None
    name, *words = shlex.split(found["rule"].replace("\\\n", " "))
    assert name == "shop"
    return [
        namespace,
        *(word.replace("{fk:shop:*", "{fk:" + namespace + "*").replace("password", PASSWORD) for word in words),
    ]


def limited(server: Server, namespace: str) -> str:
    """Make the documented user; the URL of the server for it."""
    answer = server.ask("ACL", "SETUSER", *documented_rule(namespace))
    assert answer == b"+OK\r\n", answer
    return server.url.replace("://", f"://{namespace}:{QUOTED}@")
