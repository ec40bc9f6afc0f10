"""What a `disk:` URL may say, and what is said about one that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowkit.errors import ConfigurationError
from flowkit.records import Durability
from flowkit.storage import open_storage
from flowkit_disk import DiskStorage, disk_storage
from flowkit_disk.url import Location, parse


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that goes elsewhere later still means the same directory."""
    monkeypatch.chdir(tmp_path)
    assert parse("disk:./a/../state") == Location(tmp_path / "state")
    assert parse("disk:.flowkit") == Location(tmp_path / ".flowkit")


@pytest.mark.parametrize("url", ["disk:/var/x", "disk:///var/x"])
def test_an_absolute_path(url: str) -> None:
    """One slash or three mean the same."""
    assert parse(url) == Location(Path("/var/x"))


def test_home_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde is the user's directory, as in a shell."""
    monkeypatch.setenv("HOME", "/home/someone")
    assert parse("disk:~/state").path == Path("/home/someone/state")


def test_options() -> None:
    """Both parameters are understood."""
    location = parse("disk:/x?durability=process&unsafe_filesystem=1")
    assert location == Location(Path("/x"), Durability.PROCESS, any_filesystem=True)
    assert parse("disk:/x?durability=disk&unsafe_filesystem=0") == Location(Path("/x"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("disk:", "names no directory"),
        ("disk:?durability=disk", "names no directory"),
        ("memory:x", "names no directory"),
        ("disk://host/x", "names a host"),
        ("disk:/x?colour=red&size=3", "'colour', 'size'"),
        ("disk:/x?durability=replicated", "'replicated'"),
        ("disk:/x?unsafe_filesystem=maybe", "'maybe'"),
        ("disk:/x/$HOME/y", "is not supported"),
    ],
)
def test_what_is_wrong_is_named(url: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clear error for each mistake."""
    monkeypatch.setenv("HOME", "/home/someone")
    with pytest.raises(ConfigurationError) as caught:
        parse(url)
    assert said in str(caught.value)


def test_a_variable_that_is_not_set_is_part_of_a_name() -> None:
    """Only what diskcache would replace is refused."""
    assert parse("disk:/x/$NOT_SET_ANYWHERE").path == Path("/x/$NOT_SET_ANYWHERE")


def test_the_entry_point_makes_the_storage(state: Path) -> None:
    """`open_storage` finds the package by its scheme."""
    storage = open_storage(f"disk:{state}?durability=process")

    assert isinstance(storage, DiskStorage)
    assert storage.path == state
    assert repr(storage) == f"DiskStorage({str(state)!r}, durability='process')"
    assert not state.exists(), "made when it is opened, not before"


def test_the_factory_tells_the_durability(state: Path) -> None:
    """The level that was chosen is the level that is told."""
    storage = disk_storage(f"disk:{state}?durability=process")
    assert storage.open().durability is Durability.PROCESS
    storage.close()


@pytest.mark.parametrize("level", [Durability.MEMORY, Durability.REPLICATED])
def test_a_durability_that_a_directory_cannot_have(level: Durability, state: Path) -> None:
    """Nothing is promised that cannot be kept."""
    with pytest.raises(ConfigurationError, match=level.value):
        DiskStorage(state, durability=level)


def test_any_path_like(state: Path) -> None:
    """A `Path` and its text name the same directory."""
    assert DiskStorage(os.fspath(state)).path == DiskStorage(state).path
