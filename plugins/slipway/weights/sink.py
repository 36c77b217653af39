"""Writing a part to its place, and reading it back, past the page cache where the volume can do that.

A byte that goes through the page cache costs a page, a copy and later a write-back; for hundreds of gigabytes that
nobody reads again on the way it also throws out what other pods have cached, and is charged to this pod's memory.
Blocks of megabytes are written directly instead, which is also when they are on the disk. File systems that refuse
``O_DIRECT``, the last bytes of a file and small files take the ordinary way.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

BLOCK = 4 * 1024 * 1024
SMALL_BLOCK = 1024 * 1024
"""What is written at once: fewer, larger blocks cost less; many streams make do with the small one."""

_ALIGNED = 4096
"""What positions, lengths and memory of direct transfers are multiples of: the largest block size in use."""

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


def make_buffer(size: int = BLOCK) -> memoryview:
    """Memory for one block, aligned to a page as direct transfers need it."""
    return memoryview(mmap.mmap(-1, size))


class Sink:
    """Takes a part's bytes in order and writes them in blocks.

    Args:
        start: where the part begins in the file.
        view: the stream's buffer, from ``make_buffer``.
        feed: gets each block after it was written.
    """

    def __init__(
        self,
        file: Path,
        *,
        start: int,
        length: int,
        view: memoryview,
        feed: Callable[[memoryview], None] | None,
    ) -> None:
        self._view, self._feed = view, feed
        self._written, self._stop, self._filled = start, start + length, 0
        self._plain = os.open(file, os.O_WRONLY | _FLAGS)
        self._direct = (
            open_direct(file, os.O_WRONLY) if length >= SMALL_BLOCK and start % _ALIGNED == 0 else -1
        )

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in (self._plain, self._direct):
            if handle >= 0:
                os.close(handle)

    @property
    def position(self) -> int:
        """How far the file has been received, written or still in the buffer."""
        return self._written + self._filled

    def room(self) -> memoryview:
        """The free part of the buffer; no longer than what is to come, nor so long that progress jumps."""
        free = min(len(self._view) - self._filled, self._stop - self.position, SMALL_BLOCK)
        return self._view[self._filled : self._filled + free]

    def advance(self, count: int) -> None:
        """Say how much of the room was filled; a full buffer is written."""
        self._filled += count
        if self._filled == len(self._view):
            self._write()

    def finish(self) -> None:
        """Write what is still in the buffer."""
        if self._filled:
            self._write()

    def _write(self) -> None:
        block = self._view[: self._filled]
        done = 0
        if self._direct >= 0:
            done = self._write_directly(block[: self._filled // _ALIGNED * _ALIGNED])
        while done < len(block):
            done += os.pwrite(self._plain, block[done:], self._written + done)
        if self._feed is not None:
            self._feed(block)
        self._written += self._filled
        self._filled = 0

    def _write_directly(self, block: memoryview) -> int:
        done = 0
        while done < len(block):
            try:
                done += os.pwrite(self._direct, block[done:], self._written + done)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break
            if done % _ALIGNED:
                break  # A short write, at the end of the space: the ordinary way says why.
        return done


class ReadBack:
    """Reads a file back in blocks, for its digest."""

    def __init__(self, file: Path, *, view: memoryview) -> None:
        self._view, self._file = view, file
        self._handle = open_direct(file, os.O_RDONLY)
        if self._handle < 0:
            self._handle = os.open(file, os.O_RDONLY | _FLAGS)

    def read(self, start: int) -> memoryview:
        """The block at a position that is a multiple of a block; shorter at the end of the file."""
        try:
            return self._view[: os.preadv(self._handle, [self._view], start)]
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        # Not after all, or not at this place: the ordinary way.
        self.close()
        self._handle = os.open(self._file, os.O_RDONLY | _FLAGS)
        return self._view[: os.preadv(self._handle, [self._view], start)]

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def open_direct(file: Path, mode: int) -> int:
    """Open a file past the page cache; -1 where its file system cannot."""
    try:
        return os.open(file, mode | _FLAGS | os.O_DIRECT)
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOTSUP}:
            return -1
        raise
