"""A proxy before an S3 server that breaks answers to ranges on purpose, and counts what it lets through."""

from __future__ import annotations

import random
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

FAULTS = (
    "429",
    "500",
    "503",
    "expired",
    "cut",
    "reset",
    "wrong range",
    "whole",
    "trickle",
    "flip",
    "long",
    "short",
)

_EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
_REFUSALS = {
    "429": b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n",
    "500": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "503": b"HTTP/1.1 503 Slow Down\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n",
    "expired": b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(_EXPIRED), _EXPIRED),
}


@dataclass
class Proxy:
    """The proxy's state.

    Attributes:
        fault: asked before each range is answered; a name of ``FAULTS`` or None.
        served: bytes of ranges that were passed on.
    """

    upstream: int
    fault: Callable[[], str | None] = lambda: None
    served: int = 0
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, number: int) -> None:
        with self.lock:
            self.served += number


def schedule(seed: int, *, without: tuple[str, ...] = ()) -> Callable[[], str | None]:
    """A random sequence of faults: some kinds, now and then or most of the time, for ever or for a while."""
    draw = random.Random(seed)
    kinds = draw.sample([kind for kind in FAULTS if kind not in without], k=draw.randint(1, 4))
    share, left = draw.choice([0.05, 0.2, 0.5, 0.9]), draw.choice([3, 10, 1_000_000])
    lock = threading.Lock()

    def fault() -> str | None:
        nonlocal left
        with lock:
            if left <= 0 or draw.random() > share:
                return None
            left -= 1
            return draw.choice(kinds)

    return fault


@contextmanager
def proxying(proxy: Proxy) -> Iterator[Proxy]:
    """Serve until the block ends."""
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    proxy.port = server.getsockname()[1]
    open_ends: set[socket.socket] = set()

    def accept() -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            open_ends.add(near)
            threading.Thread(target=_answer, args=(proxy, near), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield proxy
    finally:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        for end in open_ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _answer(proxy: Proxy, near: socket.socket) -> None:
    with suppress(OSError, ConnectionError), near:
        while head := _head(near):
            with socket.create_connection(("127.0.0.1", proxy.upstream)) as far:
                is_range = head.startswith(b"GET ") and re.search(rb"(?i)\r\nrange:", head) is not None
                if not _one(
                    proxy, near, far, head, fault=proxy.fault() if is_range else None, counted=is_range
                ):
                    return


def _head(end: socket.socket) -> bytes:
    """Read up to the empty line and not beyond it."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        seen = end.recv(65536, socket.MSG_PEEK)
        if not seen:
            return b""
        stop = (data + seen).find(b"\r\n\r\n")
        data += end.recv(len(seen) if stop < 0 else stop + 4 - len(data))
    return data


def _one(
    proxy: Proxy, near: socket.socket, far: socket.socket, head: bytes, *, fault: str | None, counted: bool
) -> bool:
    """Pass one request on and its answer back; False when the connection is over."""
    if fault in _REFUSALS:
        near.sendall(_REFUSALS[fault])
        return True
    if fault == "reset":
        return False
    far.sendall(head)
    answer = _head(far)
    found = re.search(rb"(?i)content-length: (\d+)", answer)
    length = int(found[1]) if found and not head.startswith(b"HEAD ") else 0
    near.sendall(_changed(answer, fault=fault, length=length))
    stops_at = {"cut": length // 2, "trickle": min(100, length // 2)}.get(fault or "", length)
    passed = 0
    while passed < stops_at and (piece := far.recv(min(65536, stops_at - passed))):
        if fault == "flip" and passed == 0:
            piece = bytes([piece[0] ^ 1]) + piece[1:]
        near.sendall(piece)
        passed += len(piece)
        if counted:
            proxy.count(len(piece))
    if fault == "trickle":
        near.recv(1)  # Until the client gives up.
    return passed == length and fault is None and b"connection: close" not in answer.lower()


def _changed(answer: bytes, *, fault: str | None, length: int) -> bytes:
    """An answer's head as the fault makes it."""
    if fault == "wrong range":
        return re.sub(rb"(?i)(content-range: bytes )\d", rb"\g<1>9", answer)
    if fault == "whole":
        return re.sub(rb"(?i)content-range: [^\r]*\r\n", b"", answer).replace(b" 206 ", b" 200 ", 1)
    if fault in {"long", "short"}:
        other = length + 1 if fault == "long" else max(0, length - 1)
        return re.sub(rb"(?i)(content-length: )\d+", rb"\g<1>%d" % other, answer)
    return answer
