"""Counting bytes, and saying how far a download is in lines that a log keeps readable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from slipway.weights.space import human_bytes


class Progress:
    """Bytes fetched, reused and verified; safe to use from several threads.

    Args:
        total: the size of all files.
        say: takes one line; a pod prints it, a terminal may draw a bar.
        every: seconds between two lines.
    """

    def __init__(self, *, total: int, say: Callable[[str], None], every: float = 5.0) -> None:
        self._lock = threading.Lock()
        self._say, self._every = say, every
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
        self._say(
            f"{share:5.1f} %  {human_bytes(there)} of {human_bytes(self.total)}, {human_bytes(rate)}/s, {eta}"
        )
