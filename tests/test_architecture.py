"""The import direction of `[tool.importlinter]` is a failing test, not a wish."""

import shutil
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")

OPEN_TO_ADAPTERS = {"flowkit.storage", "flowkit.payloads", "flowkit.records", "flowkit.errors", "flowkit.clock"}


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a checkout, its packages taken from that checkout."""
    environ = {"PYTHONPATH": f"{tree}:{tree / 'testing'}", "COLUMNS": "200"}
    command = [str(LINT_IMPORTS), "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def copy_of_tree(tmp_path: Path) -> Path:
    """A checkout that a test may spoil."""
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("flowkit", "flowkit_disk", "flowkit_redis", "testing"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_import_contracts_hold() -> None:
    """Every contract is kept."""
    checked = lint_imports(ROOT)

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("flowkit/errors.py", "import flowkit.storage", "Imports run downward only"),
        ("flowkit/newcomer.py", "", "Imports run downward only"),
        ("flowkit/records.py", "import diskcache", "The core knows no adapter"),
        ("flowkit/storage.py", "def later():\n    import flowkit_disk", "The core knows no adapter"),
        ("flowkit/records.py", "import rich.table", "Only the command line draws tables"),
        (
            "flowkit/errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import flowkit.records",
            "Imports run downward only",
        ),
    ],
    ids=["upward", "unlisted", "adapter", "lazy", "tables", "type-checking"],
)
def test_a_broken_contract_is_seen(copy_of_tree: Path, module: str, line: str, contract: str) -> None:
    """A contract that could not fail would prove nothing."""
    with (copy_of_tree / module).open("a") as source:
        source.write(f"\n{line}\n")

    checked = lint_imports(copy_of_tree)

    assert checked.returncode != 0
    assert any(row.startswith(contract) and " BROKEN" in row for row in checked.stdout.splitlines()), checked.stdout


@pytest.mark.parametrize("adapter", ["flowkit_disk", "flowkit_redis"])
def test_an_adapter_uses_the_storage_protocol_only(adapter: str) -> None:
    """An adapter can do what a third party's storage can do: it knows the protocol, not the engine."""
    graph = grimp.build_graph("flowkit", adapter, cache_dir=None)
    modules = {module for module in graph.modules if module.partition(".")[0] == adapter}

    used = {name for module in modules for name in graph.find_modules_directly_imported_by(module)} - modules

    assert used <= OPEN_TO_ADAPTERS


def test_no_module_reaches_its_neighbours_through_the_package() -> None:
    """`from flowkit import ...` inside flowkit would go around the layers; only the command line, on top, may."""
    graph = grimp.build_graph("flowkit", cache_dir=None)

    importers = graph.find_modules_that_directly_import("flowkit")

    assert {name for name in importers if not name.startswith("flowkit.cli")} == set()
