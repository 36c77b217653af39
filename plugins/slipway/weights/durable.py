"""Making what was written durable, in groups: one file at a time would cost milliseconds for each of 10,000 files."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slipway.weights.journal import Journal

_MANY = 64
_SYNCERS = 8
_WHOLE_VOLUME = {"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "nfs", "nfs4", "ceph"}
"""File systems whose syncfs writes all there is and reports what failed (Linux 5.8). FUSE may ignore it."""


def sync_group(journal: Journal, directory: Path) -> None:
    """Make everything that the journal speaks of durable, and say so in it."""
    paths, count = journal.unsynced()
    if paths:
        sync_files(directory, paths)
        journal.synced(count)


def sync_files(directory: Path, paths: Iterable[str]) -> None:
    """Make files below a directory durable: many by syncing their volume once, few one by one.

    Raises:
        OSError: the volume could not write them.
    """
    wanted = list(paths)
    if len(wanted) > _MANY and _sync_volume(directory):
        return
    with ThreadPoolExecutor(max_workers=_SYNCERS, thread_name_prefix="sync") as pool:
        list(pool.map(lambda path: _sync_file(directory / path), wanted))


def _sync_file(file: Path) -> None:
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # Taken away again because its digest was wrong.
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_volume(directory: Path) -> bool:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _kind_of_volume(os.fstat(handle).st_dev) not in _WHOLE_VOLUME:
            return False
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            return False
        if syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(handle)
    return True


def _kind_of_volume(device: int) -> str:
    """The type of a mounted file system, from /proc/self/mountinfo (proc(5)); empty when it is not known."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        if fields.split(" ")[2] == wanted:
            return rest.split(" ")[0]
    return ""
