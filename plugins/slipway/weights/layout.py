"""A download's files on the disk: made sparse, known by the journal, trusted only for a reason."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from slipway.weights.journal import Journal
from slipway.weights.manifest import FileEntry
from slipway.weights.space import explain


def space_needed(files: Iterable[FileEntry], *, directory: Path) -> int:
    """How many bytes of room the files still take, beyond the blocks that they have already."""
    return sum(max(0, entry.size - _allocated(directory / entry.path)) for entry in files)


def make_file(entry: FileEntry, *, directory: Path) -> None:
    """Make a file of its full length: sparse, for ``fallocate`` writes zeros on some network file systems."""
    file = directory / entry.path
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_symlink() or file.is_file():
            file.unlink()
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            os.ftruncate(handle, entry.size)
        finally:
            os.close(handle)
    except OSError as error:
        raise explain(error, about=str(file)) from error


def may_be_whole(entry: FileEntry, *, directory: Path) -> bool:
    """Whether a file is all on the disk (not sparse, as a new one is) and has a digest to prove it by."""
    file = directory / entry.path
    if not entry.checked_by or not entry.size or file.is_symlink():
        return False
    return file.is_file() and file.stat().st_size == entry.size and _allocated(file) >= entry.size


def _allocated(file: Path) -> int:
    try:
        return file.lstat().st_blocks * 512
    except OSError:
        return 0


def known_digest(entry: FileEntry, *, directory: Path, journal: Journal) -> str | None:
    """The digest of a file that was verified before and has not been touched since."""
    verified = journal.verified(entry.path)
    if verified is None or (entry.sha256 is not None and verified[0] != entry.sha256):
        return None
    try:
        stat = (directory / entry.path).lstat()
    except OSError:
        return None
    return verified[0] if (stat.st_size, stat.st_mtime_ns) == (entry.size, verified[1]) else None


def parts_there(entry: FileEntry, *, directory: Path, journal: Journal) -> frozenset[int]:
    """The parts that need no fetching: what the journal says, if the file is there and of full length."""
    file = directory / entry.path
    try:
        stat = file.lstat()
    except OSError:
        return frozenset()
    if file.is_symlink() or stat.st_size != entry.size:
        return frozenset()
    return journal.parts(entry.path)


def part_count(entry: FileEntry, *, part_size: int) -> int:
    """How many parts a file has; an empty one has none."""
    return -(-entry.size // part_size)


def part_length(entry: FileEntry, part: int, *, part_size: int) -> int:
    """How long a part is: the last one may be shorter."""
    return min(part_size, entry.size - part * part_size)
