"""What every test may rely on: no configuration of the machine, and no limit on how long an example may take."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("flowkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flowkit")


@pytest.fixture(autouse=True)
def _no_storage_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that the developer has configured is not for tests."""
    monkeypatch.delenv("FLOWKIT_STORAGE", raising=False)
