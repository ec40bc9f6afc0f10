"""The directory of a storage: whether it may be used, what is in it, and which format it has."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path

from flowkit.errors import StorageError

FORMAT = 1  # of the rows and files; a reader of a later one refuses
_MAGIC = b"SQLite format 3\x00"
_MOUNTS = Path("/proc/self/mounts")
# File systems on which SQLite's locks or its shared memory are known not to work between machines.
_REMOTE = frozenset(
    {"9p", "afs", "ceph", "cifs", "davfs", "gfs", "gfs2", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3"}
    | {"smbfs", "vboxsf", "virtiofs", "fuse.cephfs", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs"}
    | {"fuse.sshfs"}
)
_OCTAL = re.compile(r"\\([0-7]{3})")  # how the kernel writes a blank in a mount's name
_BY_US = frozenset({"write.lock", "format", "format.new"})


class Directory:
    """The names in a storage's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "cache.db"
        self.format = path / "format"
        self.write_lock = path / "write.lock"
        self.checkpoint_lock = path / "checkpoint.lock"
        self.blob_lock = path / "blobs.lock"
        self.signals = path / "signals"
        self.workers = path / "workers"
        self.wake = path / "wake"
        self.blobs = path / "blobs"

    def prepare(self, *, any_filesystem: bool) -> None:
        """Make the directory if there is none, and refuse one that is not ours, before anything is written there.

        Raises:
            StorageError: says what is wrong and what to do.
        """
        if not any_filesystem:
            self._check_filesystem()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            present = {path.name for path in self.path.iterdir()}
        except FileExistsError:
            raise StorageError(f"disk storage {self.path}: there is a file of that name; name a directory") from None
        except NotADirectoryError:
            raise StorageError(f"disk storage {self.path}: a file stands where a directory should be") from None
        except OSError as error:
            raise StorageError(f"disk storage {self.path}: cannot be made or read ({error.strerror})") from error
        if "format" not in present and not present <= _BY_US:
            raise StorageError(
                f"disk storage {self.path}: the directory holds other files and no flowkit storage; "
                "nothing was changed, name an empty or a new directory"
            )

    def begin(self) -> bool:
        """Check the format, or write down that a storage is being made here; True if one is. Under the write lock.

        Raises:
            StorageError: for a format that this version cannot read, or a database that is missing or foreign.
        """
        known = self._read_format()
        if known is None:
            self.path.chmod(0o700)
            self._write_format(ready=False)
            known = (FORMAT, False)
        version, ready = known
        if version > FORMAT:
            raise StorageError(
                f"disk storage {self.path}: written in format {version} by a newer flowkit; this one reads up to "
                f"format {FORMAT}. Nothing was changed; upgrade flowkit-durable"
            )
        self._check_database(ready=ready)
        for folder in (self.workers, self.wake, self.blobs):
            folder.mkdir(mode=0o700, exist_ok=True)
        return not ready

    def finish(self) -> None:
        """Write down that the storage is complete."""
        self._write_format(ready=True)

    def _check_filesystem(self) -> None:
        kind = filesystem_of(self.path, _MOUNTS)
        if kind in _REMOTE:
            raise StorageError(
                f"disk storage {self.path}: the directory lies on {kind}, where SQLite loses data when several "
                "processes write. Use a local directory, or a Redis storage for several machines; to go on all the "
                "same, at your own risk, write disk:PATH?unsafe_filesystem=1"
            )

    def _check_database(self, *, ready: bool) -> None:
        try:
            with self.database.open("rb") as file:
                start = file.read(len(_MAGIC))
        except FileNotFoundError:
            if ready:
                raise StorageError(
                    f"disk storage {self.path}: cache.db is missing; restore it from a backup, or remove the "
                    "directory to begin with an empty storage"
                ) from None
            return
        if start != _MAGIC and (ready or start):
            raise StorageError(
                f"disk storage {self.path}: cache.db is no SQLite database, so it is damaged or not flowkit's; "
                "nothing was overwritten, restore it from a backup"
            )

    def _read_format(self) -> tuple[int, bool] | None:
        try:
            text = self.format.read_bytes()
        except FileNotFoundError:
            return None
        try:
            known = json.loads(text)
            return int(known["flowkit_disk"]), bool(known["ready"])
        except (ValueError, KeyError, TypeError):
            raise StorageError(
                f"disk storage {self.path}: the file 'format' is damaged or not flowkit's; nothing was overwritten"
            ) from None

    def _write_format(self, *, ready: bool) -> None:
        text = json.dumps({"flowkit_disk": FORMAT, "ready": ready}).encode()
        new = self.path / "format.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, text)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(self.format)
        sync_directory(self.path)
        with suppress(PermissionError):  # a parent that may be passed through but not read
            sync_directory(self.path.parent)


def filesystem_of(path: Path, mounts: Path) -> str | None:
    """The type of the file system that holds a path, existing or not; None where the system does not tell."""
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    real = os.path.realpath(path)
    best, kind = "", None
    for line in lines:
        fields = line.split(" ")
        place = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[1])
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, fields[2]
    return kind


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
