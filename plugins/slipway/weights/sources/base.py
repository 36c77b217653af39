"""What the engine asks of a source, and how a source says 'try again'."""

from __future__ import annotations

from collections.abc import Generator
from email.utils import parsedate_to_datetime
from math import isfinite
from time import time
from typing import Protocol

from slipway.weights.manifest import FileEntry, Manifest

BLOCK = 1024 * 1024
"""Bytes in one piece of a range: big enough that it costs little, small enough that memory stays bounded."""


class TransientError(Exception):
    """A read that failed and is worth another try.

    Attributes:
        why: one line for people, without credentials or signed URLs.
        retry_after: seconds that the server asked to wait, or None.
    """

    def __init__(self, why: str, *, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.why, self.retry_after = why, retry_after


class Source(Protocol):
    """One place that weights come from."""

    def manifest(self) -> Manifest:
        """List the files; raises ``WeightsError`` with what to do when that is impossible."""
        ...

    def read(self, entry: FileEntry, *, start: int, stop: int) -> Generator[bytes]:
        """Yield the bytes ``start`` to ``stop`` (exclusive) of a file in pieces of at most ``BLOCK``.

        It may end early (a connection that was cut): the engine counts. It raises ``TransientError`` for what
        is worth another try and ``WeightsError`` for what is not.
        """
        ...


def is_transient(status: int) -> bool:
    """Whether an HTTP status is worth another try: 408, 429 and the 5xx."""
    return status in {408, 429} or status >= 500


def parse_retry_after(value: str | None) -> float | None:
    """Read a ``Retry-After`` header: seconds or a date; None when there is none or it makes no sense."""
    if not value:
        return None
    try:
        seconds = float(value)
        return max(0.0, seconds) if isfinite(seconds) else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (TypeError, ValueError):
        return None
