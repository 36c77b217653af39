"""A TCP proxy that lets the kernel pace each connection: ``python -m benchmarks.throttle HOST:PORT BYTES_PER_SECOND``.

Bytes go from socket to socket through a pipe by splice(2), so that Python never touches them, and the client's socket
has SO_MAX_PACING_RATE (socket(7)): the proxy costs little whatever passes. It prints its port and serves until it is
killed. A rate of 0 is no limit.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

_SO_MAX_PACING_RATE = 47
_PIPE = 1024 * 1024


def serve(upstream: tuple[str, int], *, rate: int) -> None:
    """Accept connections for ever."""
    server = socket.create_server(("127.0.0.1", 0), backlog=256)
    print(server.getsockname()[1], flush=True)
    while True:
        near, _ = server.accept()
        far = socket.create_connection(upstream)
        if rate:
            near.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, rate)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    reader, writer = os.pipe()
    try:
        while count := os.splice(source.fileno(), writer, _PIPE):
            while count:
                count -= os.splice(reader, sink.fileno(), count)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
    finally:
        os.close(reader)
        os.close(writer)


if __name__ == "__main__":
    host, _, port = sys.argv[1].rpartition(":")
    serve((host, int(port)), rate=int(sys.argv[2]))
