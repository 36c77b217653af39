"""How many ranges are fetched at once: more as long as more of them bring more.

Where a server limits each connection, the number of connections decides how fast a download is; where nothing does,
more than a few only cost. So a transfer begins with a few streams and opens more while that raises its rate enough.
"""

from __future__ import annotations

import time

_FIRST = 8
_WINDOW = 0.2
_STEADY = 0.15
_LONGEST_LOOK = 2.0
"""More streams are tried when the rate keeps to this share for two windows (a limit does, a busy machine does not),
or after so many seconds at the latest."""

_WORTH_IT = 1.3
"""How much faster twice as many streams must be for them to stay: under a limit for each connection it is 2."""

_SLOW_STREAM = 15e6
_FAST_STREAM = 120e6
"""Bytes a second: a stream below the first is limited by its connection, one above the second by this machine."""


class Pace:
    """The number of streams.

    Args:
        most: never more than these.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self.streams = self._fewer = min(_FIRST, most)
        self._since = self._changed = time.monotonic()
        self._bytes = 0
        self._rate = self._rate_before = 0.0
        self._settling, self._settled = True, self.streams >= most

    def measure(self, fetched: int) -> None:
        """Look at the bytes that have come so far, now and then."""
        now = time.monotonic()
        if self._settled or now - self._since < _WINDOW:
            return
        rate, last = (fetched - self._bytes) / (now - self._since), self._rate
        self._since, self._bytes, self._rate = now, fetched, rate
        if self._settling or not rate:
            # The window in which connections are made says nothing.
            self._settling = not rate
        elif rate < _WORTH_IT * self._rate_before:
            self.streams, self._settled = self._fewer, True
        elif self.streams >= self._most or rate > _FAST_STREAM * self.streams:
            self._settled = True
        elif rate < _SLOW_STREAM * self.streams:
            self._open(4, rate=rate, now=now)
        elif abs(rate - last) < _STEADY * rate or now - self._changed > _LONGEST_LOOK:
            self._open(2, rate=rate, now=now)
            self._settling = True

    def slow_down(self) -> None:
        """The server has asked for fewer requests: half as many streams from now on, but not fewer than two."""
        self._settled = True
        self.streams = max(min(2, self._most), self.streams // 2)

    def _open(self, factor: int, *, rate: float, now: float) -> None:
        self._fewer, self._rate_before, self._changed = self.streams, rate, now
        self.streams = min(self._most, factor * self.streams)
