"""Connections to HTTP servers: directly or through a proxy, plain or TLS, and the head of an answer."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
import threading
import urllib.request
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from slipway.weights.sources.base import TransientError, is_transient

_CONNECT_SECONDS = 10
_LONGEST_HEAD = 64 * 1024


class Refused(Exception):  # noqa: N818 - not a fault yet: the source says what it means
    """The server answered with something else than the range."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status, self.headers, self.body = status, headers, body


def find_proxy(url: str) -> SplitResult | None:
    """The proxy that the environment names for a URL (``HTTPS_PROXY``, ``NO_PROXY``), None where there is none."""
    parts = urlsplit(url)
    named = urllib.request.getproxies().get(parts.scheme)
    if not named or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urlsplit(named if "//" in named else f"http://{named}")


_contexts: dict[str | None, ssl.SSLContext] = {}
_contexts_lock = threading.Lock()


def connect(
    parts: SplitResult, *, proxy: SplitResult | None, ca_bundle: str | None, stall: float
) -> socket.socket:
    """Connect to a URL's server, with TLS where the URL says so.

    Args:
        parts: the URL.
        proxy: what to connect through; None goes straight to the server.
        ca_bundle: a file of certificates to trust; None for the system's.
        stall: seconds without a byte that end a read.
    """
    port = parts.port or (443 if parts.scheme == "https" else 80)
    first = (proxy.hostname or "", proxy.port or 80) if proxy else (parts.hostname or "", port)
    connection = socket.create_connection(first, timeout=_CONNECT_SECONDS)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if parts.scheme == "https":
            if proxy:
                _tunnel(connection, proxy, f"{parts.hostname}:{port}")
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


def _tunnel(connection: socket.socket, proxy: SplitResult, place: str) -> None:
    """Let a proxy connect us to a TLS server."""
    connection.sendall(message(f"CONNECT {place}", {"Host": place, **proxy_authorization(proxy)}))
    status, headers, rest = read_head(connection)
    if status != 200:
        if is_transient(status):
            raise TransientError(f"the proxy {proxy.hostname} answered {status}")
        raise Refused(status, headers, rest)


def proxy_authorization(proxy: SplitResult) -> dict[str, str]:
    """The header that a proxy with a login wants, if any."""
    if not proxy.username:
        return {}
    words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}


def message(request: str, headers: Mapping[str, str]) -> bytes:
    """A request without a body, as it goes over the wire."""
    lines = [f"{request} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def read_head(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Read an answer's status and headers, their names in lower case, and what of the body came with them."""
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
