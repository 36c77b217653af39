"""Fetching one part: ranges with retries that continue inside it, received into a stream's own buffer and written."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from slipway.errors import WeightsError
from slipway.weights.connect import Refused
from slipway.weights.journal import Journal
from slipway.weights.layout import part_length
from slipway.weights.manifest import FileEntry
from slipway.weights.progress import Progress
from slipway.weights.sink import Sink
from slipway.weights.sources.base import Readable, Source, TransientError
from slipway.weights.space import explain
from slipway.weights.wire import Body, Wire

PART = 16 * 1024 * 1024
"""Bytes in a part: what a killed download fetches again for each stream."""

ATTEMPTS = 8
"""Tries in a row without a megabyte of progress before a part fails: a minute or two with the waits below."""

_LONGEST_WAIT = 30.0
_SLOWEST = 1024
_PROGRESS = 1024 * 1024


@dataclass
class Settings:
    """What the engine needs to know besides the files.

    Attributes:
        directory: where the files are put, under their names.
        streams: the most ranges that are fetched at once.
        check: called now and then by the waiting thread; raises to stop everything (a lost claim).
        slow_down: called when the server asks for fewer requests.
    """

    source: Source
    directory: Path
    journal: Journal
    progress: Progress
    streams: int
    stall_seconds: float
    say: Callable[[str], None]
    part_size: int
    check: Callable[[], None] = lambda: None
    slow_down: Callable[[], None] = lambda: None


@dataclass
class Stream:
    """What one thread keeps between parts: its buffer and its connections."""

    wire: Wire
    view: memoryview


class _Pieces:
    """A source's own pieces, poured into the caller's buffer."""

    def __init__(self, pieces: Generator[bytes], *, length: int) -> None:
        self._pieces, self._left = pieces, length
        self._piece = memoryview(b"")

    def readinto(self, view: memoryview) -> int:
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
            if len(self._piece) > self._left:
                raise TransientError("the server sent more than was asked for")
            self._left -= len(self._piece)
        count = min(len(view), len(self._piece))
        view[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count

    def close(self) -> None:
        self._pieces.close()


def fetch_part(
    entry: FileEntry,
    part: int,
    *,
    stream: Stream,
    feed: Callable[[memoryview], None] | None,
    stop_all: threading.Event,
    settings: Settings,
) -> int:
    """Fetch one part, with retries that continue inside it, and write it.

    ``feed`` gets the part's bytes in order, as they are written: for a digest that is at this place.

    Returns:
        The part's length; when ``stop_all`` was set in between, the part is not complete.
    """
    start = part * settings.part_size
    stop = start + part_length(entry, part, part_size=settings.part_size)
    proven, attempt = start, 0
    file = settings.directory / entry.path
    try:
        with Sink(file, start=start, length=stop - start, view=stream.view, feed=feed) as sink:
            while sink.position < stop and not stop_all.is_set():
                try:
                    _receive(sink, entry, stop=stop, stream=stream, stop_all=stop_all, settings=settings)
                    if sink.position < stop and not stop_all.is_set():
                        raise TransientError("the connection ended early")
                except TransientError as error:
                    attempt = 1 if sink.position - proven >= _PROGRESS else attempt + 1
                    proven = sink.position
                    if attempt >= ATTEMPTS:
                        raise error.lasting or WeightsError(
                            "the download does not get on",
                            about=entry.path,
                            why=f"{ATTEMPTS} tries in a row failed, the last one with: {error.why}",
                            remedy="check the source's server and the network; a new start continues from here",
                        ) from error
                    if error.retry_after is not None:
                        settings.slow_down()
                    wait = _pause(attempt, error)
                    settings.say(
                        f"{entry.path}, byte {sink.position}: try {attempt + 1} in {wait:.1f} s: {error.why}"
                    )
                    stop_all.wait(wait)
            if sink.position == stop:
                sink.finish()
    except OSError as error:
        raise explain(error, about=str(file)) from error
    return stop - start


def _receive(
    sink: Sink,
    entry: FileEntry,
    *,
    stop: int,
    stream: Stream,
    stop_all: threading.Event,
    settings: Settings,
) -> None:
    """Read one range into the sink until its end, or the connection's.

    A connection that trickles would never hit the socket's timeout: less than a kilobyte a second over
    ``stall_seconds`` counts as stalled too.
    """
    began, begun_at = time.monotonic(), sink.position
    with closing(_open(entry, start=sink.position, stop=stop, stream=stream, settings=settings)) as body:
        while sink.position < stop and not stop_all.is_set():
            count = body.readinto(sink.room())
            if not count:
                return
            sink.advance(count)
            settings.progress.add_fetched(count)
            elapsed = time.monotonic() - began
            if elapsed > settings.stall_seconds:
                if (sink.position - begun_at) / elapsed < _SLOWEST:
                    raise TransientError(f"fewer than {_SLOWEST} bytes a second for {elapsed:.0f} s")
                began, begun_at = time.monotonic(), sink.position


def _open(entry: FileEntry, *, start: int, stop: int, stream: Stream, settings: Settings) -> Body | _Pieces:
    source = settings.source
    if isinstance(source, Readable):
        return _Pieces(source.read(entry, start=start, stop=stop), length=stop - start)
    request = source.request(entry, start=start, stop=stop)
    try:
        body = stream.wire.open(request, start=start, stop=stop, size=entry.size)
    except Refused as answer:
        raise source.refused(entry, request, answer) from None
    source.answered(entry, body.headers)
    return body


def _pause(attempt: int, error: TransientError) -> float:
    """Full jitter (AWS Architecture Blog, 2015), or what was asked for plus a little of it."""
    if error.retry_after is not None:
        return min(error.retry_after, 10 * _LONGEST_WAIT) + random.uniform(0, min(0.5, _LONGEST_WAIT))
    if error.wait is not None:
        return min(error.wait, _LONGEST_WAIT)
    return random.uniform(0, min(_LONGEST_WAIT, 0.5 * 2.0**attempt))
