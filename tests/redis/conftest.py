"""Namespaces on the server of the test process; servers of their own for tests that injure theirs."""

from __future__ import annotations

from itertools import count

import pytest

from flowkit_testing.servers import Server

_namespaces = count()


@pytest.fixture
def url(flowkit_redis_server: Server) -> str:
    """An empty namespace on the shared server."""
    return f"{flowkit_redis_server.url}?namespace=t{next(_namespaces)}-"  # what a test adds to it is nobody else's
