"""The engine's own HTTP client: exact ranges, connections kept and renewed, TLS, and what it leaves to others."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slipway.weights.sink import make_buffer
from slipway.weights.sources.base import TransientError
from slipway.weights.wire import Refused, Request, Unsuited, Wire, suits

DATA = bytes(range(256)) * 20_000


class Handler(BaseHTTPRequestHandler):
    """Answers ranges of ``DATA``; the path says how."""

    protocol_version = "HTTP/1.1"
    connections: list[object]

    def do_GET(self) -> None:
        self.connections.append(self.client_address)
        start, stop = (int(end) for end in self.headers["Range"].removeprefix("bytes=").split("-"))
        body, status, headers = DATA[start : stop + 1], 206, {}
        headers["Content-Range"] = f"bytes {start}-{stop}/{len(DATA)}"
        if self.path == "/elsewhere":
            status, body, headers = 302, b"", {"Location": "/"}
        elif self.path == "/denied":
            status, body = 403, b"<Code>No</Code>"
        elif self.path == "/chunked":
            return self.chunked(headers)
        elif self.path == "/once":
            headers["Connection"] = "close"
        elif self.path == "/dies":
            self.close_connection = True
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def chunked(self, headers: dict[str, str]) -> None:
        self.send_response(206)
        for name, value in (headers | {"Transfer-Encoding": "chunked"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[object]]]:
    connections: list[object] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"connections": connections}))
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}", connections
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with closing(Wire(stall_seconds=5)) as made:
        yield made


def read(
    wire: Wire, url: str, *, start: int = 0, stop: int = len(DATA), ca_bundle: Path | None = None
) -> bytes:
    request = Request(
        url=url,
        headers={"Range": f"bytes={start}-{stop - 1}"},
        ca_bundle=str(ca_bundle) if ca_bundle else None,
    )
    view, got = make_buffer(), b""
    with closing(wire.open(request, start=start, stop=stop, size=len(DATA))) as body:
        while count := body.readinto(view):
            got += bytes(view[:count])
    return got


@pytest.mark.parametrize(("path", "connections"), [("/", 1), ("/once", 3), ("/dies", 3)])
def test_ranges_come_exactly_over_connections_that_are_kept_where_the_server_keeps_them(
    wire: Wire, path: str, connections: int
) -> None:
    with serving() as (url, seen):
        for start, stop in ((0, len(DATA)), (5, 3_000_000), (len(DATA) - 1, len(DATA))):
            assert read(wire, url + path, start=start, stop=stop) == DATA[start:stop]
    assert len(set(seen)) == connections


def test_what_it_does_not_know_is_left_to_another_client(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as (url, _):
        for path in ("/elsewhere", "/chunked"):
            with pytest.raises(Unsuited):
                read(wire, url + path)
        with pytest.raises(Refused) as caught:
            read(wire, url + "/denied")
        assert (caught.value.status, caught.value.body) == (403, b"<Code>No</Code>")
    with pytest.raises(TransientError, match="ConnectionRefusedError at 127"):
        read(wire, url)
    assert suits("https://store.example/x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert not suits("https://store.example/x")
    monkeypatch.setenv("NO_PROXY", "store.example")
    assert suits("https://store.example/x")


def test_tls_is_checked_against_the_bundle_that_is_named(wire: Wire, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    subprocess.run([*command, "-keyout", key, "-out", certificate, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(context) as (url, seen):
        assert read(wire, url, ca_bundle=certificate) == DATA
        assert read(wire, url, start=7, stop=9, ca_bundle=certificate) == DATA[7:9]
        assert len(set(seen)) == 1
        with pytest.raises(Unsuited):
            read(Wire(stall_seconds=5), url)
