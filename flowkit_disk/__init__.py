"""The disk storage: a directory on a local disk, for any number of processes of one machine."""

from flowkit_disk.storage import DiskStorage, disk_storage

__all__ = ["DiskStorage", "disk_storage"]
