"""What the benchmark of downloads does with the disk: forget, sync, and say how fast the disk alone is."""

from __future__ import annotations

import mmap
import os
import threading
import time
from pathlib import Path

_BLOCK = 4 * 1024 * 1024


def drop_from_page_cache(directory: Path) -> None:
    """Let the server read its files from the disk again."""
    for file in directory.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            try:
                os.fdatasync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def sync(directory: Path) -> float:
    """Bring what was written to the disk, as a program that syncs would have; returns the seconds it takes."""
    began = time.perf_counter()
    for file in directory.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle)
    return time.perf_counter() - began


def disk_seconds(stored: Path, *, beside: Path | None) -> float:
    """How long reading all stored files past the page cache takes, while as much is written ``beside`` it."""
    files = sorted(file for file in stored.rglob("*.bin"))

    def read() -> None:
        view = mmap.mmap(-1, _BLOCK)
        for file in files:
            handle, position = os.open(file, os.O_RDONLY | os.O_DIRECT), 0
            while count := os.preadv(handle, [view], position):
                position += count
            os.close(handle)

    def write(target: Path) -> None:
        view = mmap.mmap(-1, _BLOCK)
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        for position in range(0, sum(file.stat().st_size for file in files), _BLOCK):
            os.pwrite(handle, view, position)
        os.fsync(handle)
        os.close(handle)

    work = [threading.Thread(target=read)]
    if beside is not None:
        work.append(threading.Thread(target=write, args=(beside,)))
    began = time.perf_counter()
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    if beside is not None:
        beside.unlink()
    return time.perf_counter() - began
