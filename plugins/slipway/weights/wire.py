"""Ranges over HTTP/1.1 on plain sockets, received into memory that the caller owns.

A general client hands out new byte strings, which costs an allocation, page faults and a copy for every block; on a
machine whose cores also hash, that decides how fast a download is. This client does one thing: it sends a GET that a
source has made (signed for this try alone) and lets the kernel fill the caller's buffer. Whatever it does not know
(a proxy, a redirect, a chunked answer) it leaves to the source's own reader, by ``Unsuited``.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from slipway.weights.sources.base import TransientError

_CONNECT_SECONDS = 10
_LONGEST_HEAD = 64 * 1024
_LONGEST_REFUSAL = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """A GET for one range, made anew for every try: a signature or a token never outlives its request.

    Attributes:
        headers: all that was signed, ``Range`` and ``If-Match`` included; ``Host`` is added here.
        ca_bundle: a file of certificates to trust; None for the system's.
        signed_by: whatever the source wants to know again when the request is refused.
    """

    url: str
    headers: Mapping[str, str]
    ca_bundle: str | None = None
    signed_by: object = None


class Unsuited(Exception):  # noqa: N818 - no fault: another reader has to take over
    """This client cannot read from here; the source's own reader can."""


class Refused(Exception):  # noqa: N818 - not a fault yet: the source says what it means
    """The server answered with something else than the range."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status, self.headers, self.body = status, headers, body


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
            Unsuited: the source's own reader is needed.
        """
        parts = urlsplit(request.url)
        place = (parts.scheme, parts.netloc)
        kept = self._kept.pop(place, None)
        if kept is not None:
            try:
                return self._ask(kept, parts, request, start=start, stop=stop, size=size)
            except (OSError, TransientError):
                kept.close()  # The server has closed it meanwhile: a new one decides.
        try:
            fresh = _connect(parts, ca_bundle=request.ca_bundle, stall=self._stall)
            return self._ask(fresh, parts, request, start=start, stop=stop, size=size)
        except ssl.SSLCertVerificationError as error:
            raise Unsuited from error
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
        start: int,
        stop: int,
        size: int,
    ) -> Body:
        try:
            connection.sendall(_message(parts, request.headers))
            status, headers, rest = _read_head(connection)
            if status not in {200, 206}:
                raise _refusal(connection, status, headers, rest)
            _check_range(status, headers, start=start, stop=stop, size=size)
        except BaseException:
            connection.close()
            raise
        place = (parts.scheme, parts.netloc) if headers.get("connection", "").lower() != "close" else None
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
        self._flags = 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_WAITALL

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
                count = self._connection.recv_into(view, wanted, self._flags)
            except (BlockingIOError, TimeoutError) as error:
                raise TransientError("no bytes came for too long") from error
            except OSError as error:
                raise TransientError(f"{type(error).__name__}: {error.strerror or error}") from error
        self._left -= count
        return count

    def close(self) -> None:
        """Give the connection back if all was read and it can be used again."""
        if self._left == 0 and self._place is not None and not self._too_long:
            self._wire.keep(self._place, self._connection)
        else:
            self._connection.close()


def suits(url: str) -> bool:
    """Whether this client reaches a URL by itself: no proxy is configured on the way to it."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    return parts.scheme not in proxies or bool(urllib.request.proxy_bypass(parts.hostname or ""))


_contexts: dict[str | None, ssl.SSLContext] = {}
_contexts_lock = threading.Lock()


def _connect(parts: SplitResult, *, ca_bundle: str | None, stall: float) -> socket.socket:
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connection = socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_SECONDS)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "https":
            with _contexts_lock:
                if ca_bundle not in _contexts:
                    _contexts[ca_bundle] = ssl.create_default_context(cafile=ca_bundle)
            connection = _contexts[ca_bundle].wrap_socket(connection, server_hostname=parts.hostname)
            connection.settimeout(stall)
        else:
            # The kernel's own timeouts: Python's would make the socket non-blocking, and MSG_WAITALL void.
            limit = struct.pack("@ll", int(stall), int(stall % 1 * 1e6))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            connection.settimeout(None)
    except BaseException:
        connection.close()
        raise
    return connection


def _message(parts: SplitResult, headers: Mapping[str, str]) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", "Accept-Encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _read_head(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        try:
            piece = connection.recv(_LONGEST_HEAD)
        except (BlockingIOError, TimeoutError) as error:
            raise TransientError("the server did not answer in time") from error
        if not piece or len(data) > _LONGEST_HEAD:
            raise TransientError(
                "the connection ended before an answer" if not piece else "an endless answer"
            )
        data += piece
    lines = data[:end].decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
        raise TransientError("the server does not speak HTTP/1.1")
    pairs = (line.partition(":") for line in lines[1:])
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if version == "HTTP/1.0":
        headers.setdefault("connection", "close")
    return int(rest[:3]), headers, data[end + 4 :]


def _refusal(connection: socket.socket, status: int, headers: Mapping[str, str], rest: bytes) -> Exception:
    if 300 <= status < 400 and status != 304:
        return Unsuited()
    length = headers.get("content-length", "0")
    wanted = min(int(length) if length.isdigit() else 0, _LONGEST_REFUSAL)
    try:
        while len(rest) < wanted and (piece := connection.recv(wanted - len(rest))):
            rest += piece
    except OSError:
        pass  # What is there of the reason has to do.
    return Refused(status, headers, rest)


def _check_range(status: int, headers: Mapping[str, str], *, start: int, stop: int, size: int) -> None:
    length = headers.get("content-length", "")
    if not length.isdigit():
        raise Unsuited
    got = headers.get("content-range", "")
    whole = start == 0 and stop == size
    if status == 206 and got not in {f"bytes {start}-{stop - 1}/{size}", f"bytes {start}-{stop - 1}/*"}:
        raise TransientError(f"the server answered with the range {got!r}, not what was asked")
    if status == 200 and not whole:
        raise TransientError("the server answered with the whole file, not the range that was asked")
    if int(length) != stop - start:
        raise TransientError(f"the server announces {length} bytes, {stop - start} were asked for")
