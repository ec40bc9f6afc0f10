"""Archive a folder so that no crash can spoil it: a content-addressed store of compressed files, and an index.

    python examples/archive.py SOURCE DEST

Kill it at any moment, with `kill -9` if you like, and start it again with the same command: whatever was completed is
answered from the journal in DEST/journal, the rest goes on. The same as a command of flowkit's own, in its default
storage:

    flowkit run examples/archive.py:archive --input '["SOURCE", "DEST"]'

What DEST holds in the end:

    objects/abcdef....gz   each distinct content once, named by its SHA-256; `gunzip` reads them
    archive.json           the index: every file, link and folder, and what was left out and why
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import asdict, define, frozen

from flowkit import Flow, FlowkitError, NonRetryable, RunNotFound, RunStatus, step, task

CHUNK = 1 << 20
LEVEL = 6  # of compression


# ---- what is recorded -----------------------------------------------------------------------------------------------


@frozen
class Found:
    """Something in the source folder."""

    path: str  # relative to the source
    kind: str  # `file`, `folder`, `link`, or what else it is
    mode: int = 0
    target: str = ""  # of a link


@frozen
class Fingerprint:
    """What a file held when it was read."""

    sha256: str
    size: int
    mtime_ns: int


@frozen
class Kept:
    """A file whose content is in the store."""

    path: str
    mode: int
    fingerprint: Fingerprint


@frozen
class Left:
    """Something that is not in the archive, and why."""

    path: str
    why: str


@frozen
class Summary:
    """What an archive came to."""

    files: int
    objects: int
    bytes_read: int
    bytes_stored: int
    left_out: tuple[Left, ...]
    index: str


class Unreadable(NonRetryable):
    """This one cannot be archived; trying again would not help, and the others can."""


class Damaged(NonRetryable):
    """The store does not hold what was put into it."""


# ---- the steps: each is done once, however often the process dies ---------------------------------------------------


@step
def prepare(dest: Path) -> None:
    """Make the store."""
    (dest / "objects").mkdir(parents=True, exist_ok=True)
    _sync_folder(dest.parent)
    _sync_folder(dest)


@step
def list_folder(source: Path, folder: str, but_not: Path) -> tuple[Found, ...]:
    """What a folder holds, in a fixed order."""
    try:
        with os.scandir(source / folder) as entries:
            return tuple(
                _found(source, entry) for entry in sorted(entries, key=_by_name) if Path(entry.path) != but_not
            )
    except OSError as error:
        raise Unreadable(_reason(error)) from error


@step
def fingerprint(source: Path, path: str) -> Fingerprint:
    """Hash a file."""
    try:
        with (source / path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            status = os.fstat(file.fileno())
            return Fingerprint(digest.hexdigest(), file.tell(), status.st_mtime_ns)
    except OSError as error:
        raise Unreadable(_reason(error)) from error


@step
def compress(source: Path, path: str, dest: Path, expected: Fingerprint) -> int:
    """Write a file's content, compressed and synced, beside the store; returns how many bytes it takes."""
    if (there := _object(dest, expected.sha256)).exists():  # an earlier archive has stored this content
        return there.stat().st_size
    partial = _partial(dest, expected.sha256)
    partial.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with partial.open("wb") as out:
        with gzip.GzipFile("", "wb", LEVEL, out, mtime=0) as packed:
            for chunk in _chunks(source / path):
                digest.update(chunk)
                packed.write(chunk)
        out.flush()
        os.fsync(out.fileno())
        size = out.tell()
    if digest.hexdigest() != expected.sha256:
        partial.unlink()
        raise Unreadable("it changed while it was being archived")
    return size


@step
def store(dest: Path, sha256: str) -> None:
    """Move the compressed content to its place, for good; done twice, it is done once."""
    partial, place = _partial(dest, sha256), _object(dest, sha256)
    if place.exists():
        partial.unlink(missing_ok=True)
        return
    partial.replace(place)
    _sync_folder(place.parent)


@step
def verify(dest: Path, expected: Fingerprint) -> None:
    """Read the stored content back and compare it with what the file held."""
    try:
        with gzip.open(_object(dest, expected.sha256)) as packed:
            digest, size = hashlib.sha256(), 0
            while chunk := packed.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except (OSError, EOFError) as error:
        raise Damaged(f"{expected.sha256} cannot be read back: {error}") from error
    if (digest.hexdigest(), size) != (expected.sha256, expected.size):
        raise Damaged(f"{expected.sha256} does not hold what was stored under it")


@step
def write_index(dest: Path, name: str, others: list[Found], kept: list[Kept], left: list[Left]) -> str:
    """Write the index in one piece: it is there, whole, or not at all."""
    document = {
        "files": [{"path": each.path, "mode": each.mode, **asdict(each.fingerprint)} for each in kept],
        "folders": [{"path": each.path, "mode": each.mode} for each in others if each.kind == "folder"],
        "links": [{"path": each.path, "target": each.target} for each in others if each.kind == "link"],
        "left_out": [asdict(each) for each in left],
    }
    place, partial = dest / f"{name}.json", dest / f"{name}.json.partial"
    with partial.open("w", encoding="ascii") as file:
        json.dump(document, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(place)
    _sync_folder(dest)
    with contextlib.suppress(OSError):  # not empty: another archive is being made
        (dest / "partial").rmdir()
    return place.name


# ---- the task: plain Python around the steps ------------------------------------------------------------------------


@task(id="archive")
def archive(source: Path, dest: Path, name: str = "archive") -> Summary:
    """Archive a folder.

    Args:
        source: the folder.
        dest: where the archive goes; it may lie inside the source, and is left out then.
        name: of the index; several archives can share one store.
    """
    prepare(dest)
    left: list[Left] = []
    found = list(_walk(source, dest, left))
    files = [each for each in found if each.kind == "file"]
    kept: list[Kept] = []
    stored: dict[str, int] = {}
    for done, each in enumerate(files, 1):
        try:
            kept.append(Kept(each.path, each.mode, _keep(source, each.path, dest, stored)))
        except Unreadable as reason:
            left.append(Left(each.path, str(reason)))
        progress.passed(done, len(files), each.path)
    others = [each for each in found if each.kind != "file"]
    index = write_index(dest, name, others, kept, left)
    read = sum(each.fingerprint.size for each in kept)
    return Summary(len(kept), len(stored), read, sum(stored.values()), tuple(left), index)


def _walk(source: Path, dest: Path, left: list[Left]) -> Iterator[Found]:
    """Everything below the source, folder by folder, so that no single result grows with the whole."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = list_folder(source, folder, dest)
        except Unreadable as reason:
            left.append(Left(folder or ".", str(reason)))
            continue
        for entry in entries:
            match entry.kind:
                case "file" | "link":
                    yield entry
                case "folder":
                    folders.append(entry.path)
                    yield entry
                case other:
                    left.append(Left(entry.path, f"it is {other}"))


def _keep(source: Path, path: str, dest: Path, stored: dict[str, int]) -> Fingerprint:
    """Hash, compress, store, verify; what another file has brought into the store already is only hashed."""
    content = fingerprint(source, path)
    if content.sha256 not in stored:
        size = compress(source, path, dest, content)
        store(dest, content.sha256)
        verify(dest, content)
        stored[content.sha256] = size
    return content


# ---- files ----------------------------------------------------------------------------------------------------------


def _found(source: Path, entry: os.DirEntry[str]) -> Found:
    path = Path(entry.path).relative_to(source).as_posix()
    if entry.is_symlink():
        return Found(path, "link", target=str(Path(entry.path).readlink()))
    mode = entry.stat(follow_symlinks=False).st_mode
    permissions = stat.S_IMODE(mode)
    if stat.S_ISREG(mode):
        return Found(path, "file", permissions)
    if stat.S_ISDIR(mode):
        return Found(path, "folder", permissions)
    return Found(path, _SPECIAL.get(stat.S_IFMT(mode), "no file"), permissions)


_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _by_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    except OSError as error:
        raise Unreadable(_reason(error)) from error


def _object(dest: Path, sha256: str) -> Path:
    return dest / "objects" / f"{sha256}.gz"


def _partial(dest: Path, sha256: str) -> Path:
    return dest / "partial" / f"{sha256}.gz"


def _sync_folder(folder: Path) -> None:
    """Make a rename in it survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return f"it cannot be read: {error.strerror or error}"


# ---- the command ----------------------------------------------------------------------------------------------------


@define
class Progress:
    """Tells a person how far it is."""

    show: Callable[[str], None] | None = None
    told: int = -1

    def passed(self, done: int, of: int, path: str) -> None:
        """So many files are done."""
        if self.show is None:
            return
        percent = done * 100 // of
        if sys.stderr.isatty():
            self.show(f"\r\x1b[K{percent:3d}%  {done:,} of {of:,} files  {path[-60:]}")
        elif percent // 10 != self.told:
            self.told = percent // 10
            self.show(f"{percent:3d}%  {done:,} of {of:,} files\n")


progress = Progress()


def main(arguments: list[str] | None = None) -> int:
    """Run or resume an archive."""
    parser = argparse.ArgumentParser(description="Archive a folder; interrupted, the same command goes on.")
    parser.add_argument("source", type=Path)
    parser.add_argument("dest", type=Path)
    parser.add_argument("--name", default="archive", help="of the index; several archives can share one store")
    parser.add_argument("--storage", help="where the journal is kept [default: disk:DEST/journal]")
    given = parser.parse_args(arguments)
    source, dest = given.source.resolve(), given.dest.resolve()
    if not source.is_dir():
        print(f"{given.source} is no folder", file=sys.stderr)
        return 2
    progress.show = _to_stderr
    try:
        with Flow(given.storage or f"disk:{dest}/journal", worker=False) as flow:
            _print_summary(_run(flow, source, dest, given.name), dest)
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from here.", file=sys.stderr)
        return 130
    except (FlowkitError, OSError) as error:
        print(f"\n{type(error).__name__}: {error}\nOnce that is mended, the same command goes on.", file=sys.stderr)
        return 1
    return 0


def _run(flow: Flow, source: Path, dest: Path, name: str) -> Summary:
    run_id = f"archive-{name}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:12]}"
    match _status(flow, run_id):
        case None:
            print(f"archiving {source}", file=sys.stderr)
        case RunStatus.SUCCEEDED:
            print("this archive was complete already; give another --name to archive the folder anew", file=sys.stderr)
        case RunStatus.FAILED | RunStatus.BLOCKED:
            print(f"trying again what failed in the archive of {source}", file=sys.stderr)
            flow.retry(run_id)
        case _:
            print(f"going on with the archive of {source}", file=sys.stderr)
    return flow.run(archive.options(run_id=run_id), source, dest, name)


def _status(flow: Flow, run_id: str) -> RunStatus | None:
    try:
        return flow.handle(run_id).status()
    except RunNotFound:
        return None


def _print_summary(summary: Summary, dest: Path) -> None:
    if sys.stderr.isatty():
        _to_stderr("\r\x1b[K")
    print(
        f"{summary.files:,} files, {_megabytes(summary.bytes_read)}, are kept in {summary.objects:,} objects of "
        f"{_megabytes(summary.bytes_stored)} in all; the index is {dest / summary.index}"
    )
    for each in summary.left_out:
        print(f"left out: {each.path}: {each.why}")


def _megabytes(count: int) -> str:
    return f"{count / 1_000_000:,.1f} MB"


def _to_stderr(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
