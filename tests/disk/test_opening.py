"""Opening: what may be opened, what is refused, and that nothing is overwritten."""

from __future__ import annotations

import json
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import diskcache
import pytest

from flowkit.errors import StorageError
from flowkit.records import Lease, NewRun
from flowkit_disk import DiskStorage, directory
from flowkit_disk.directory import filesystem_of

Open = Callable[..., DiskStorage]
Born = Callable[..., Lease]


def contents(path: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def refused(path: Path) -> str:
    """Try to open a storage that must be refused, and check that nothing was changed by that."""
    before = contents(path) if path.is_dir() else {}
    with pytest.raises(StorageError) as caught:
        DiskStorage(path, busy_timeout_s=0.05).open()
    after = contents(path) if path.is_dir() else {}
    assert {name: after.get(name) for name in before} == before
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_the_directory_is_private(disk: DiskStorage) -> None:
    """Only its owner may read what runs have recorded."""
    assert stat.S_IMODE(disk.path.stat().st_mode) == 0o700


def test_an_empty_directory_becomes_a_storage(state: Path, opened: Open) -> None:
    """A directory that was made beforehand is taken, and made private."""
    state.mkdir(mode=0o755)
    opened()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_opening_twice_is_harmless(disk: DiskStorage) -> None:
    """The second time answers the same."""
    assert disk.open() == disk.open()


def test_closing_twice_is_harmless(disk: DiskStorage) -> None:
    """And what is closed says so."""
    disk.close()
    disk.close()
    with pytest.raises(StorageError, match="not open"):
        disk.load("run")


def test_the_last_one_to_close_leaves_one_file(disk: DiskStorage, born: Born) -> None:
    """The write-ahead log is in the database then, so that the directory can be copied."""
    born(disk)
    disk.close()
    assert not [name for name in contents(disk.path) if name.startswith("cache.db-")]


def test_a_directory_with_other_files_is_refused(state: Path) -> None:
    """A path that was mistyped does not fill somebody's directory."""
    state.mkdir()
    (state / "thesis.tex").write_text("\\begin{document}")
    assert "holds other files" in refused(state)
    assert list(contents(state)) == ["thesis.tex"]


def test_somebody_elses_cache_is_refused(state: Path) -> None:
    """A diskcache that is not flowkit's keeps its settings and its rows."""
    with diskcache.Cache(str(state)) as cache:
        cache["key"] = "value"
    assert "holds other files" in refused(state)


@pytest.mark.parametrize("where", ["itself", "parent"])
def test_a_file_where_a_directory_should_be(where: str, state: Path) -> None:
    """The file is left alone."""
    state.write_text("text")
    path = state if where == "itself" else state / "below"
    with pytest.raises(StorageError, match="file"):
        DiskStorage(path).open()
    assert state.read_text() == "text"


def test_a_file_that_is_no_database(disk: DiskStorage) -> None:
    """It is refused, not replaced by an empty storage."""
    disk.close()
    (disk.path / "cache.db").write_bytes(b"This is not a database. " * 100)
    assert "no SQLite database" in refused(disk.path)


def test_an_empty_file(disk: DiskStorage) -> None:
    """SQLite would take it for a new database."""
    disk.close()
    (disk.path / "cache.db").write_bytes(b"")
    assert "no SQLite database" in refused(disk.path)


def test_a_missing_file(disk: DiskStorage) -> None:
    """A storage that has lost its database does not begin anew as if nothing had happened."""
    disk.close()
    (disk.path / "cache.db").unlink()
    assert "is missing" in refused(disk.path)
    assert not (disk.path / "cache.db").exists()


def test_a_damaged_schema(disk: DiskStorage) -> None:
    """A database whose first page is spoiled is refused."""
    disk.close()
    database = disk.path / "cache.db"
    data = bytearray(database.read_bytes())
    data[100:4000] = b"\xa5" * 3900
    database.write_bytes(data)
    assert "damaged" in refused(disk.path)


def test_damage_that_shows_later(disk: DiskStorage, born: Born) -> None:
    """Spoiled pages are an error where they are met, never an empty answer."""
    born(disk)
    disk.close()
    database = disk.path / "cache.db"
    data = bytearray(database.read_bytes())
    data[8192:] = b"\xa5" * (len(data) - 8192)
    database.write_bytes(data)

    def use() -> None:
        disk.open()
        disk.submit([NewRun("other", "task", b"")])

    with pytest.raises(StorageError, match=r"damaged|SQLite failed"):
        use()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"flowkit_disk": "x"}', "\x00\x01"])
def test_a_damaged_format_file(disk: DiskStorage, text: str) -> None:
    """What cannot be read is not guessed."""
    disk.close()
    (disk.path / "format").write_text(text)
    assert "'format' is damaged" in refused(disk.path)


def test_a_newer_format(disk: DiskStorage) -> None:
    """Both versions are named, and what to do."""
    disk.close()
    (disk.path / "format").write_text(json.dumps({"flowkit_disk": 7, "ready": True}))
    said = refused(disk.path)
    assert "format 7" in said
    assert "format 1" in said
    assert "upgrade" in said


def test_a_storage_whose_making_was_interrupted(disk: DiskStorage, opened: Open) -> None:
    """Whoever comes next completes it."""
    disk.close()
    (disk.path / "format").write_text(json.dumps({"flowkit_disk": 1, "ready": False}))
    (disk.path / "cache.db").unlink()
    assert opened().stats().queues == ()
    assert json.loads((disk.path / "format").read_text())["ready"]


def test_locked_by_another_program(disk: DiskStorage, opened: Open) -> None:
    """After the busy timeout there is one clear error, and later it works again."""
    other = sqlite3.connect(disk.path / "cache.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = DiskStorage(disk.path, busy_timeout_s=0.05)
    with pytest.raises(StorageError, match="locked"):
        impatient.open()
    other.execute("ROLLBACK")
    other.close()
    impatient.open()
    impatient.close()
    opened().submit([NewRun("run", "task", b"")])


@pytest.mark.parametrize(
    ("kind", "fits"), [("nfs4", False), ("cifs", False), ("fuse.sshfs", False), ("ext4", True), ("tmpfs", True)]
)
def test_network_file_systems(kind: str, fits: bool, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001 # parametrized
    """On a network SQLite loses data: it is refused, with what to do instead, unless asked for."""
    mounts = state.parent / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nserver:/x {state.parent} {kind} rw 0 0\nother /elsewhere nfs rw 0 0\n")
    monkeypatch.setattr(directory, "_MOUNTS", mounts)
    storage = DiskStorage(state)
    if fits:
        storage.open()
    else:
        with pytest.raises(StorageError, match=kind) as caught:
            storage.open()
        assert "unsafe_filesystem=1" in str(caught.value)
        assert not state.exists()
        storage = DiskStorage(state, unsafe_filesystem=True)
        storage.open()
    storage.close()


def test_the_mount_that_counts(tmp_path: Path) -> None:
    """The longest one that holds the path, the last one if several are the same; blanks are written in octal."""
    mounts = tmp_path / "mounts"
    inside = tmp_path / "with blank"
    inside.mkdir()
    blank = str(inside).replace(" ", "\\040")
    mounts.write_text(f"a / ext4 rw\nb {tmp_path} xfs rw\nc {blank} nfs rw\nd {blank} nfs4 rw\ne {tmp_path}2 zfs rw\n")
    assert filesystem_of(inside / "not" / "there", mounts) == "nfs4"
    assert filesystem_of(tmp_path / "other", mounts) == "xfs"
    assert filesystem_of(Path("/"), mounts) == "ext4"
    assert filesystem_of(inside, tmp_path / "no table") is None


UNPRIVILEGED = """
import os, sys
from flowkit.errors import StorageError
from flowkit_disk import DiskStorage
import sqlite3, diskcache, flowkit_disk.storage
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in sys.argv[2:]:
    try:
        DiskStorage(path).open()
        print("opened")
    except StorageError as error:
        print(error)
"""


def test_a_directory_that_may_not_be_written(folder: Path, python: Callable[..., subprocess.Popen[str]]) -> None:
    """Read-only, or another user's: one clear error each."""
    folder.chmod(0o755)
    outer = folder / "state"
    outer.mkdir(mode=0o755)
    (outer / "empty").mkdir(mode=0o755)
    storage = DiskStorage(outer / "full")
    storage.open()
    storage.close()
    for path in (outer, outer / "empty", outer / "full"):
        path.chmod(0o555)
    said, _ = python(UNPRIVILEGED, "empty", "full", "new", preamble=False).communicate()
    for path in (outer, outer / "empty", outer / "full"):
        path.chmod(0o755)
    lines = said.splitlines()
    assert len(lines) == 3
    assert all("disk storage" in line and "ermission denied" in line for line in lines), said


def test_a_directory_that_may_not_be_entered(folder: Path, python: Callable[..., subprocess.Popen[str]]) -> None:
    """Not even looked into: the error says so."""
    folder.chmod(0o755)
    outer = folder / "state"
    outer.mkdir(mode=0o755)
    (outer / "private").mkdir(mode=0o000)
    said, _ = python(UNPRIVILEGED, "private", preamble=False).communicate()
    (outer / "private").chmod(0o700)
    assert "ermission denied" in said


def test_a_long_path_works(folder: Path) -> None:
    """Longer than the address of a socket may be."""
    storage = DiskStorage(folder / ("x" * 100) / ("y" * 100))
    storage.open()
    storage.submit([NewRun("run", "task", b"")])
    assert storage.wait_for_run("run", 99, 0.01) is not None
    storage.close()


def test_processes_that_make_it_at_the_same_time(python: Callable[..., subprocess.Popen[str]], state: Path) -> None:
    """All of them open the same storage."""
    script = "storage.submit([NewRun(sys.argv[2], 'task', b'')]); storage.close()"
    processes = [python(script, f"run-{n}") for n in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    storage = DiskStorage(state)
    storage.open()
    assert sum(storage.stats().by_status.values()) == 4
    storage.close()
    assert list((state / "wake").iterdir()) == []
