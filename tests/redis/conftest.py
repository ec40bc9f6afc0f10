"""One server for each test process, shared by namespaces; more where a test injures its own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from flowkit_testing.servers import Server

_namespaces = count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server that keeps nothing, which tests share and do no harm to."""
    with Server() as started:
        yield started


@pytest.fixture
def url(server: Server) -> str:
    """An empty namespace on the shared server."""
    return f"{server.url}?namespace=t{next(_namespaces)}"
