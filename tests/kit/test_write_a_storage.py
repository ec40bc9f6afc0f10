"""The storage that the documentation builds keeps the whole contract."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import settings

from flowkit.storage import Storage

_PAGE = Path(__file__).parents[2] / "docs" / "write-a-storage.md"
_IN_MEMORY = Path("/dev") / "shm"
_folder = Path(tempfile.mkdtemp(prefix="flowkit-test-", dir=_IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else None))

# As a reader would: the blocks of the page, one below the other, are a module that any process can import.
_blocks = re.findall(r"^```python\n(.*?)^```$", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
(_folder / "sqlite_storage.py").write_text("\n\n".join(block for block in _blocks if "Flow(" not in block))
sys.path.insert(0, str(_folder))
_module = import_module("sqlite_storage")


@pytest.fixture(scope="module", autouse=True)
def _leave_nothing_behind() -> Iterator[None]:
    """Take the module and its data away."""
    yield
    sys.path.remove(str(_folder))
    shutil.rmtree(_folder, ignore_errors=True)


class TestContract(_module.TestSqliteStorage):  # type: ignore[misc, name-defined]  # a class of the page
    """As the page says, where a sync costs nothing."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """A new file."""
        del tmp_path
        storage: Storage = super().make_storage(Path(tempfile.mkdtemp(dir=_folder)))
        return storage


def _new_storage() -> Storage:
    storage: Storage = _module.SqliteStorage(f"{tempfile.mkdtemp(dir=_folder)}/runs.db")
    return storage


TestMachine = _module.storage_machine(_new_storage).TestCase
TestMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
