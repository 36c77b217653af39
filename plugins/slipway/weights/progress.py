"""Counting bytes, and saying how far a download is in lines that a log keeps readable."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable

from slipway.weights.space import human_bytes

_CLEAR = "\r\x1b[2K"


class Progress:
    """Bytes fetched, reused and verified; safe to use from several threads.

    Args:
        total: the size of all files.
        say: takes one line; a pod prints it.
        every: seconds between two lines.
        bar: draw a bar on standard error instead, over and over on one line.
    """

    def __init__(
        self, *, total: int, say: Callable[[str], None], every: float = 5.0, bar: bool = False
    ) -> None:
        self._lock = threading.Lock()
        self._bar = bar
        self._say, self._every = say, 0.5 if bar else every
        self.total = total
        self.fetched = 0
        self.reused = 0
        self._discarded = 0
        self._started = self._told = time.monotonic()
        self._told_bytes = 0

    def add_fetched(self, count: int) -> None:
        """Count bytes from the network."""
        with self._lock:
            self.fetched += count

    def add_reused(self, count: int) -> None:
        """Count bytes that were on the disk already."""
        with self._lock:
            self.reused += count

    def discard(self, *, fetched: int = 0, reused: int = 0) -> None:
        """Take back bytes that turned out wrong and have to come again; what was fetched stays counted."""
        with self._lock:
            self._discarded += fetched
            self.reused -= reused

    def tell(self) -> None:
        """Print a line if the last one is old enough: percent, rate since then, time left at that rate."""
        now = time.monotonic()
        if now - self._told < self._every:
            return
        with self._lock:
            fetched, there = self.fetched, self.fetched + self.reused - self._discarded
        rate = (fetched - self._told_bytes) / (now - self._told)
        left = max(0, self.total - there)
        eta = f"{left / rate:.0f} s left" if rate > 0 else "no bytes are coming"
        if not left:
            eta = "verifying"
        self._told, self._told_bytes = now, fetched
        share = 100 * there / self.total if self.total else 100.0
        line = (
            f"{share:5.1f} %  {human_bytes(there)} of {human_bytes(self.total)}, {human_bytes(rate)}/s, {eta}"
        )
        if self._bar:
            self._draw(line, share=share)
        else:
            self._say(line)

    def say(self, line: str) -> None:
        """Say something in between, on a line of its own."""
        self.close()
        self._say(line)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar:
            sys.stderr.write(_CLEAR)
            sys.stderr.flush()

    def _draw(self, line: str, *, share: float) -> None:
        width = shutil.get_terminal_size().columns - 1
        blocks = max(0, min(30, width - len(line) - 3))
        full = int(blocks * min(share, 100.0) / 100)
        drawn = f"[{'#' * full}{'-' * (blocks - full)}] {line}" if blocks > 4 else line
        sys.stderr.write(_CLEAR + drawn[:width])
        sys.stderr.flush()


def on_terminal() -> bool:
    """Whether a person is watching."""
    return sys.stderr.isatty() and sys.stdout.isatty()
