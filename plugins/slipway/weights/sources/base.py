"""What the engine asks of a source, and how a source says 'try again'."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from time import time
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from slipway.errors import WeightsError
from slipway.weights.manifest import FileEntry, Manifest

if TYPE_CHECKING:
    from slipway.weights.connect import Refused
    from slipway.weights.wire import Request

BLOCK = 1024 * 1024
"""Bytes in one piece of a range: big enough that it costs little, small enough that memory stays bounded."""

RENEWAL_SECONDS = 20.0
"""How long to wait for a Secret's files to follow the Secret before the next try: kubelet looks every minute or so."""


class TransientError(Exception):
    """A read that failed and is worth another try.

    Attributes:
        why: one line for people, without credentials or signed URLs.
        retry_after: seconds that the server asked to wait, or None.
        wait: seconds that the source itself wants to wait, or None.
        lasting: what it is when it does not pass; None for a download that just does not get on.
    """

    def __init__(
        self,
        why: str,
        *,
        retry_after: float | None = None,
        wait: float | None = None,
        lasting: WeightsError | None = None,
    ) -> None:
        super().__init__(why)
        self.why, self.retry_after, self.wait, self.lasting = why, retry_after, wait, lasting


class _Listed(Protocol):
    """One place that weights come from."""

    def manifest(self) -> Manifest:
        """List the files; raises ``WeightsError`` with what to do when that is impossible."""
        ...


@runtime_checkable
class Readable(_Listed, Protocol):
    """A source that reads by itself: a file system."""

    def read(self, entry: FileEntry, *, start: int, stop: int) -> Generator[bytes]:
        """Yield the bytes ``start`` to ``stop`` (exclusive) of a file in pieces of at most ``BLOCK``.

        It may end early (a connection that was cut): the engine counts. It raises ``TransientError`` for what
        is worth another try and ``WeightsError`` for what is not.
        """
        ...


@runtime_checkable
class Addressed(_Listed, Protocol):
    """A source whose ranges are HTTP requests, which the engine sends by itself (``wire.py``)."""

    def request(self, entry: FileEntry, *, start: int, stop: int) -> Request:
        """Make the request for a range, signed for this try."""
        ...

    def answered(self, entry: FileEntry, headers: Mapping[str, str]) -> None:
        """Take note of an answer that is the range."""
        ...

    def refused(self, entry: FileEntry, request: Request, answer: Refused) -> Exception:
        """Say what an answer that is not the range means: ``TransientError`` or ``WeightsError``."""
        ...


Source = Readable | Addressed
"""One place that weights come from: it lists them, and either reads ranges or says how they are asked for."""


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
