"""Ranges over HTTP/1.1 on plain sockets, received into memory that the caller owns.

A general client hands out new byte strings, which costs an allocation, page faults and a copy for every block; on a
machine whose cores also hash, that decides how fast a download is. This client does one thing: it sends a GET that a
source has made (signed for this try alone) and lets the kernel fill the caller's buffer. It follows redirects, goes
through the proxies that the environment names, and knows no other framing than a stated length, which every server of
files and every object store gives a range.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, urljoin, urlsplit

from slipway.errors import WeightsError
from slipway.weights.connect import Refused, connect, find_proxy, message, proxy_authorization, read_head
from slipway.weights.sources.base import TransientError

_LONGEST_REFUSAL = 64 * 1024
_MANY_BYTES = 256 * 1024
_MOST_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_AUTHORISING = {"authorization", "cookie"}


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """A GET for one range, made anew for every try: a signature or a token never outlives its request, nor is it shown.

    Attributes:
        headers: all that was signed, ``Range`` and ``If-Match`` included; ``Host`` is added here.
        ca_bundle: a file of certificates to trust; None for the system's.
        signed_by: whatever the source wants to know again when the request is refused.
        follow: whether a redirect is gone after; what authorises us stays behind when it leads elsewhere.
    """

    url: str
    headers: Mapping[str, str]
    ca_bundle: str | None = None
    signed_by: object = None
    follow: bool = True


class Wire:
    """Connections for one thread, kept open between ranges where the server allows it.

    Args:
        stall_seconds: no bytes for so long ends a read with ``TransientError``.
    """

    def __init__(self, *, stall_seconds: float) -> None:
        self._stall = stall_seconds
        self._kept: dict[tuple[str, str], socket.socket] = {}

    def open(self, request: Request, *, start: int, stop: int, size: int) -> Body:
        """Send a request and check that the answer is exactly the range ``start`` to ``stop`` of ``size`` bytes.

        Raises:
            TransientError: the connection failed, or the answer is another range.
            Refused: the server's status says no.
            WeightsError: what no other try mends: a certificate that is not trusted, redirects without an end.
        """
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                return self._open_at(request, start=start, stop=stop, size=size)
            except Refused as answer:
                where = answer.headers.get("location")
                if not request.follow or answer.status not in _REDIRECTS or not where:
                    raise
                request = _redirected(request, where)
        raise WeightsError("the server redirects without an end", about=urlsplit(request.url).hostname or "")

    def _open_at(self, request: Request, *, start: int, stop: int, size: int) -> Body:
        parts = urlsplit(request.url)
        place = (parts.scheme, parts.netloc)
        proxy = find_proxy(request.url)
        kept = self._kept.pop(place, None)
        if kept is not None:
            try:
                return self._ask(kept, parts, request, proxy=proxy, start=start, stop=stop, size=size)
            except (OSError, TransientError):
                kept.close()  # The server has closed it meanwhile: a new one decides.
        try:
            fresh = connect(parts, proxy=proxy, ca_bundle=request.ca_bundle, stall=self._stall)
            return self._ask(fresh, parts, request, proxy=proxy, start=start, stop=stop, size=size)
        except ssl.SSLCertVerificationError as error:
            raise WeightsError(
                "the server's certificate is not trusted",
                about=parts.hostname or "",
                why=error.verify_message,
                remedy="name the server's CA bundle in AWS_CA_BUNDLE, or put it as ca.crt into the Secret",
            ) from error
        except OSError as error:
            raise TransientError(
                f"{type(error).__name__} at {parts.hostname}: {error.strerror or error}"
            ) from error

    def close(self) -> None:
        """Close what is kept open."""
        for connection in self._kept.values():
            connection.close()
        self._kept.clear()

    def _ask(
        self,
        connection: socket.socket,
        parts: SplitResult,
        request: Request,
        *,
        proxy: SplitResult | None,
        start: int,
        stop: int,
        size: int,
    ) -> Body:
        try:
            connection.sendall(_message(parts, request.headers, proxy=proxy))
            status, headers, rest = read_head(connection)
            is_kept = headers.get("connection", "").lower() != "close"
            if status not in {200, 206}:
                refusal, is_read = _refusal(connection, status, headers, rest)
                if is_read and is_kept:
                    self.keep((parts.scheme, parts.netloc), connection)
                else:
                    connection.close()
                raise refusal
            _check_range(status, headers, start=start, stop=stop, size=size)
        except Refused:
            raise
        except BaseException:
            connection.close()
            raise
        place = (parts.scheme, parts.netloc) if is_kept else None
        return Body(self, connection, place=place, headers=headers, rest=rest, length=stop - start)

    def keep(self, place: tuple[str, str], connection: socket.socket) -> None:
        """Take back a connection whose answer was read to its end."""
        self._kept[place] = connection


class Body:
    """The bytes of one answer, and its headers with their names in lower case."""

    def __init__(
        self,
        wire: Wire,
        connection: socket.socket,
        *,
        place: tuple[str, str] | None,
        headers: Mapping[str, str],
        rest: bytes,
        length: int,
    ) -> None:
        self.headers = headers
        self._wire, self._connection, self._place = wire, connection, place
        self._rest, self._left = memoryview(rest)[:length], length
        self._too_long = len(rest) > length
        # A kernel that waits until the buffer is full saves most of the calls; TLS has no such wait.
        self._plain = not isinstance(connection, ssl.SSLSocket)
        self._wakes_at = 1

    def readinto(self, view: memoryview) -> int:
        """Fill a buffer as far as bytes are there; 0 is the end, or a connection that was cut."""
        wanted = min(len(view), self._left)
        if not wanted:
            return 0
        if self._rest:
            count = min(wanted, len(self._rest))
            view[:count] = self._rest[:count]
            self._rest = self._rest[count:]
        else:
            try:
                if self._plain:
                    self._wake_at(_MANY_BYTES if wanted < self._left else 1)
                count = self._connection.recv_into(view, wanted, socket.MSG_WAITALL if self._plain else 0)
            except (BlockingIOError, TimeoutError) as error:
                raise TransientError("no bytes came for too long") from error
            except OSError as error:
                raise TransientError(f"{type(error).__name__}: {error.strerror or error}") from error
        self._left -= count
        return count

    def _wake_at(self, count: int) -> None:
        """Let the kernel wake this thread only when so many bytes are there, not for each packet.

        The last bytes of an answer are never that many, and nothing comes after them: they wake at once.
        """
        if count != self._wakes_at:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
            self._wakes_at = count

    def close(self) -> None:
        """Give the connection back if all was read and it can be used again."""
        if self._left == 0 and self._place is not None and not self._too_long:
            self._wire.keep(self._place, self._connection)
        else:
            self._connection.close()


def _redirected(request: Request, where: str) -> Request:
    url = urljoin(request.url, where)
    headers = dict(request.headers)
    if urlsplit(url)[:2] != urlsplit(request.url)[:2]:  # another host, or no TLS any more
        headers = {name: value for name, value in headers.items() if name.lower() not in _AUTHORISING}
    if urlsplit(url).scheme not in {"http", "https"}:
        raise WeightsError("the server redirects to something that is no web server", about=url[:80])
    return replace(request, url=url, headers=headers)


def _message(parts: SplitResult, headers: Mapping[str, str], *, proxy: SplitResult | None) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    common = {"Host": parts.netloc, "Accept-Encoding": "identity"}
    if proxy and parts.scheme == "http":
        target = f"http://{parts.netloc}{target}"
        common |= proxy_authorization(proxy)
    return message(f"GET {target}", {**common, **headers})


def _refusal(
    connection: socket.socket, status: int, headers: Mapping[str, str], rest: bytes
) -> tuple[Refused, bool]:
    """What the server says instead, and whether all of it was read, so that the connection can be used again."""
    stated = headers.get("content-length", "")
    length = int(stated) if stated.isdigit() else -1
    try:
        while len(rest) < min(length, _LONGEST_REFUSAL) and (piece := connection.recv(length - len(rest))):
            rest += piece
    except OSError:
        pass  # What is there of the reason has to do.
    return Refused(status, headers, rest), len(rest) == length


def _check_range(status: int, headers: Mapping[str, str], *, start: int, stop: int, size: int) -> None:
    length = headers.get("content-length", "")
    if not length.isdigit():
        raise WeightsError(
            "the server does not say how long its answer is",
            why="it sends a range in chunks",
            remedy="serve the model as plain files, without a filter that changes them: nginx, Caddy, an object store",
        )
    got = headers.get("content-range", "")
    whole = start == 0 and stop == size
    if status == 206 and got not in {f"bytes {start}-{stop - 1}/{size}", f"bytes {start}-{stop - 1}/*"}:
        raise TransientError(f"the server answered with the range {got!r}, not what was asked")
    if status == 200 and not whole:
        raise TransientError(
            "the server answered with the whole file, not the range that was asked",
            lasting=WeightsError(
                "the server does not give ranges of a file",
                remedy="serve the model with a server that does: nginx, Caddy, an object store",
            ),
        )
    if int(length) != stop - start:
        raise TransientError(f"the server announces {length} bytes, {stop - start} were asked for")
