"""`examples/archive.py`: what it keeps, what it leaves out, and that kills change neither."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from attrs import evolve

from flowkit import Flow, Step

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES, KILLS = 100, 6


@pytest.fixture
def archive() -> Iterator[ModuleType]:
    """The example, under the name that it has as a script."""
    spec = importlib.util.spec_from_file_location("archive", EXAMPLES / "archive.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["archive"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["archive"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with what folders hold: nested, empty, equal and odd files, links, and no files at all."""
    chance, folder = random.Random(20), tmp_path / "source"
    for number in range(FILES):
        place = folder / f"{number % 7}" / f"{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file {number}.txt").write_bytes(chance.randbytes(chance.randint(1, 3000)))
    (folder / "empty").touch()
    (folder / "equal").write_bytes((folder / "0" / "0" / "file 0.txt").read_bytes())
    (folder / "ünicode \udcff").write_bytes(b"a name that is no UTF-8")
    (folder / "no files").mkdir()
    (folder / "link").symlink_to("equal")
    (folder / "link to nothing").symlink_to("/nowhere/at/all")
    (folder / "link to folder").symlink_to("0")
    os.mkfifo(folder / "pipe")
    return folder


def test_killed_again_and_again_it_stores_every_file_once(source: Path, tmp_path: Path) -> None:
    """Killed six times on its way, it ends with every file stored once, and no completed step ran again."""
    script = Path(__file__).with_name("kill_archive.py")
    command = [sys.executable, str(script), str(source), str(tmp_path / "archive"), "--kills", str(KILLS)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["kills"] == KILLS
    assert (found["files"], found["objects"]) == (FILES + 3, FILES + 2)
    assert found["again"] <= KILLS


def test_command_prints_progress_and_what_it_kept(source: Path, tmp_path: Path) -> None:
    """As a command it tells how far it is, what it kept and what it left out; given again, that it is complete."""
    command = [sys.executable, str(EXAMPLES / "archive.py"), str(source), str(tmp_path / "archive")]
    first = subprocess.run(command, check=True, capture_output=True, text=True)
    assert first.stderr.splitlines()[-1].startswith("100%")
    assert f"{FILES + 3} files" in first.stdout
    assert "left out: pipe: it is a named pipe" in first.stdout
    second = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "complete already" in second.stderr
    assert second.stdout == first.stdout


def test_flowkit_run_runs_it_too(source: Path, tmp_path: Path) -> None:
    """The task is usable with `flowkit run`, and prints its summary as JSON."""
    given = json.dumps([str(source), str(tmp_path / "archive")])
    target = f"{EXAMPLES / 'archive.py'}:archive"
    command = [sys.executable, "-c", "from flowkit.cli import main; main()", "run", target, "--input", given]
    ended = subprocess.run(
        [*command, "--storage", f"disk:{tmp_path / 'journal'}"], check=True, capture_output=True, text=True
    )
    assert json.loads(ended.stdout)["files"] == FILES + 3


def test_special_files_and_links_are_not_followed(archive: ModuleType, source: Path, tmp_path: Path) -> None:
    """Links are kept as links, folders without files as folders, and a pipe is left out instead of read for ever."""
    with Flow("memory:", worker=False) as flow:
        summary = flow.run(archive.archive, source, tmp_path / "archive")
    index = json.loads((tmp_path / "archive" / "archive.json").read_text())
    assert {each["path"]: each["target"] for each in index["links"]} == {
        "link": "equal",
        "link to folder": "0",
        "link to nothing": "/nowhere/at/all",
    }
    assert "no files" in {each["path"] for each in index["folders"]}
    assert "ünicode \udcff" in {each["path"] for each in index["files"]}
    assert [each.path for each in summary.left_out] == ["pipe"]
    assert not (tmp_path / "archive" / "partial").exists()


def test_file_that_vanishes_is_left_out(archive: ModuleType, source: Path, tmp_path: Path) -> None:
    """A file that is gone when its turn comes is left out, with the reason; the others are kept."""
    _before(archive, "fingerprint", lambda args: args[1] == "equal" and (args[0] / "equal").unlink())
    with Flow("memory:", worker=False) as flow:
        summary = flow.run(archive.archive, source, tmp_path / "archive")
    assert [(each.path, each.why) for each in summary.left_out if each.path != "pipe"] == [
        ("equal", "it cannot be read: No such file or directory")
    ]
    assert summary.files == FILES + 2


def test_file_that_changes_is_left_out(archive: ModuleType, source: Path, tmp_path: Path) -> None:
    """A file that changes between its hash and its copy is left out: the store never holds a wrong content."""
    _before(archive, "compress", lambda args: args[1] == "empty" and (args[0] / "empty").write_text("no more"))
    with Flow("memory:", worker=False) as flow:
        summary = flow.run(archive.archive, source, tmp_path / "archive")
    assert ("empty", "it changed while it was being archived") in [(e.path, e.why) for e in summary.left_out]


def test_damage_in_the_store_is_noticed(archive: ModuleType, source: Path, tmp_path: Path) -> None:
    """If the medium does not keep what was stored, the archive fails instead of telling that all is well."""

    def damage(args: tuple[object, ...]) -> object:
        dest, content = args
        assert isinstance(dest, Path)
        sha256 = str(getattr(content, "sha256", ""))
        with gzip.open(dest / "objects" / f"{sha256}.gz", "wb") as file:
            return file.write(b"something else")

    _before(archive, "verify", damage)
    with Flow("memory:", worker=False) as flow, pytest.raises(archive.Damaged, match="does not hold what was stored"):
        flow.run(archive.archive, source, tmp_path / "archive")


def test_archives_may_share_a_store(archive: ModuleType, source: Path) -> None:
    """A second archive stores only what the first has not, and an archive inside its source leaves itself out."""
    inside = source / "archive"
    with Flow("memory:", worker=False) as flow:
        first = flow.run(archive.archive, source, inside)
        (source / "new").write_text("new")
        second = flow.run(archive.archive, source, inside, "second")
    assert (second.files, second.objects) == (first.files + 1, first.objects + 1)
    assert len(list(inside.glob("objects/*.gz"))) == second.objects
    assert {each.name for each in inside.glob("*.json")} == {"archive.json", "second.json"}


def _before(module: ModuleType, name: str, act: object) -> None:
    """Do something just before a step's function."""
    step = getattr(module, name)
    assert isinstance(step, Step)
    assert callable(act)
    function = step.spec.fn

    def wrapped(*args: object) -> object:
        act(args)
        return function(*args)

    setattr(module, name, Step(evolve(step.spec, fn=wrapped)))
