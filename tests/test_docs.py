"""Every example in the README, the documentation and the docstrings runs and prints what it says."""

import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from sybil import Document
from sybil.document import PythonDocStringDocument
from sybil.parsers.doctest import DocTestParser
from sybil.parsers.markdown import PythonCodeBlockParser

import flowkit
import flowkit_disk
import flowkit_redis
import flowkit_testing

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def modules() -> Iterator[str]:
    """The name of every module of every package."""
    for package in (flowkit, flowkit_disk, flowkit_redis, flowkit_testing):
        yield package.__name__
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield module.name


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """The namespace of a module that can be imported, as the code of a user would be in one, in an empty folder."""
    module = ModuleType("example")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWKIT_STORAGE", raising=False)
    return vars(module)


def evaluate(document: Document) -> None:
    """Run the examples of a document, in order."""
    for example in document:
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, namespace: dict[str, object]) -> None:
    """The Python blocks of a page run, one after the other."""
    document = Document.parse(str(page), PythonCodeBlockParser())
    document.namespace = namespace

    evaluate(document)


def test_names_are_taken_once() -> None:
    """A sequencer of a test that is not collected yet would keep its name from an example that runs after it."""
    begun = re.compile(r"""\b(?:begin|sequencer|named)\(\s*f?"([^"{]+)""")
    pages = {name for page in PAGES for name in begun.findall(page.read_text())}
    tests = {name for file in (ROOT / "tests").rglob("*.py") for name in begun.findall(file.read_text())}

    assert pages & tests == set()


def test_reference_is_complete() -> None:
    """Every public name has its place in the reference, by itself or with all of its module."""
    reference = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    whole_modules = {import_module(name) for name in re.findall(r"automodule:: ([\w.]+)", reference)}
    covered = {name for module in whole_modules for name in vars(module)} | set(re.findall(r"\w+", reference))

    assert set(flowkit.__all__) - covered == set()


@pytest.mark.parametrize("module", list(modules()))
def test_docstrings(module: str, namespace: dict[str, object]) -> None:
    """The examples in a module's docstrings are true."""
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    document = PythonDocStringDocument.parse(spec.origin, DocTestParser())
    document.namespace = namespace

    evaluate(document)
