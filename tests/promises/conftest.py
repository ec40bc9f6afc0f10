"""What is promised is tried in memory, and on disk too where the storage has the most say."""

import pytest

ON_DISK = frozenset({"D1", "D4", "D7", "R2", "G3", "E4", "E5", "X1", "X2", "X3"})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests of these rules on both, unless the command line asks for a storage: the plugin sees to that.

    Explorations take longer on disk, and the kit has its own there.
    """
    rule, _, _ = (metafunc.function.__doc__ or "").partition(":")
    there = rule in ON_DISK and "explore" not in metafunc.function.__code__.co_names
    if "flowkit_storage" in metafunc.fixturenames and metafunc.config.getoption("--flowkit-storage") == "memory":
        metafunc.parametrize("flowkit_storage", ["memory"] + ["disk"] * there, indirect=True)
