"""Fetching one part: ranges with retries that continue inside it, written to its place and synced."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import WeightsError
from slipway.weights.journal import Journal
from slipway.weights.layout import part_length
from slipway.weights.manifest import FileEntry
from slipway.weights.progress import Progress
from slipway.weights.sources.base import BLOCK, Source, TransientError
from slipway.weights.space import explain

PART = 16 * 1024 * 1024
"""Bytes in a part: what a killed download fetches again for each stream."""

ATTEMPTS = 8
"""Tries in a row without a megabyte of progress before a part fails: a minute or two with the waits below."""

_LONGEST_WAIT = 30.0
_SLOWEST = 1024


@dataclass
class Settings:
    """What the engine needs to know besides the files.

    Attributes:
        directory: where the files are put, under their names.
        check: called now and then by the waiting thread; raises to stop everything (a lost claim).
    """

    source: Source
    directory: Path
    journal: Journal
    progress: Progress
    streams: int
    stall_seconds: float
    say: Callable[[str], None]
    check: Callable[[], None] = lambda: None
    part_size: int = PART


def fetch_part(entry: FileEntry, part: int, *, stop_all: threading.Event, settings: Settings) -> int:
    """Fetch one part, with retries that continue inside it, and sync it."""
    start = part * settings.part_size
    stop = start + part_length(entry, part, part_size=settings.part_size)
    position = proven = start
    attempt = 0
    file = settings.directory / entry.path
    try:
        handle = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise explain(error, about=str(file)) from error
    try:
        while position < stop and not stop_all.is_set():
            try:
                position = _read_into(
                    handle, entry, start=position, stop=stop, stop_all=stop_all, settings=settings
                )
                if position < stop and not stop_all.is_set():
                    raise TransientError("the connection ended early")
            except TransientError as error:
                position = os.lseek(handle, 0, os.SEEK_CUR)
                attempt = 1 if position - proven >= BLOCK else attempt + 1
                proven = position
                if attempt >= ATTEMPTS:
                    raise WeightsError(
                        "the download does not get on",
                        about=entry.path,
                        why=f"{ATTEMPTS} tries in a row failed, the last one with: {error.why}",
                        remedy="check the source's server and the network; a new start continues from here",
                    ) from error
                wait = _pause(attempt, retry_after=error.retry_after)
                settings.say(f"{entry.path}, byte {position}: try {attempt + 1} in {wait:.1f} s: {error.why}")
                stop_all.wait(wait)
        os.fdatasync(handle)
    except OSError as error:
        raise explain(error, about=str(file)) from error
    finally:
        os.close(handle)
    return stop - start


def _read_into(
    handle: int, entry: FileEntry, *, start: int, stop: int, stop_all: threading.Event, settings: Settings
) -> int:
    """Write one range at its place and return the position reached; the handle's own position follows it.

    A connection that trickles would never hit the socket's timeout: less than a kilobyte a second over
    ``stall_seconds`` counts as stalled too.
    """
    position = os.lseek(handle, start, os.SEEK_SET)
    began, begun_at = time.monotonic(), position
    with closing(settings.source.read(entry, start=start, stop=stop)) as pieces:
        for piece in pieces:
            if position + len(piece) > stop:
                raise TransientError("the server sent more than was asked for")
            view = memoryview(piece)
            while view:
                view = view[os.write(handle, view) :]
            position += len(piece)
            settings.progress.add_fetched(len(piece))
            if stop_all.is_set():
                break
            elapsed = time.monotonic() - began
            if elapsed > settings.stall_seconds:
                if (position - begun_at) / elapsed < _SLOWEST:
                    raise TransientError(f"fewer than {_SLOWEST} bytes a second for {elapsed:.0f} s")
                began, begun_at = time.monotonic(), position
    return position


def _pause(attempt: int, *, retry_after: float | None) -> float:
    """Full jitter (AWS Architecture Blog, 2015), or what the server asked for plus a little of it."""
    if retry_after is not None:
        return min(retry_after, 10 * _LONGEST_WAIT) + random.uniform(0, 0.5)
    return random.uniform(0, min(_LONGEST_WAIT, 0.5 * 2.0**attempt))
