"""The engine's own HTTP client: exact ranges, kept connections, TLS, redirects, proxies, and what it refuses."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from slipway.errors import WeightsError
from slipway.weights.connect import Refused
from slipway.weights.sink import make_buffer
from slipway.weights.sources.base import TransientError
from slipway.weights.wire import Request, Wire

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
        headers["X-Authorised"] = (
            "yes" if self.headers.get("Authorization", self.headers.get("Cookie")) else "no"
        )
        if self.path.startswith("/elsewhere"):
            status, body, headers = 302, b"", {"Location": self.path.partition("?")[2]}
        elif self.path == "/round":
            status, body, headers = 307, b"", {"Location": "/round"}
        elif self.path == "/denied":
            status, body = 403, b"<Code>No</Code>"
        elif self.path == "/chunked":
            return self.chunked(headers)
        elif self.path == "/stalls":
            return self.stall(headers, body)
        elif self.path == "/once":
            headers["Connection"] = "close"
        elif self.path == "/dies":
            self.close_connection = True
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def stall(self, headers: dict[str, str], body: bytes) -> None:
        self.send_response(206)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:100_000])
        self.connection.recv(1)  # nothing more, until the client has had enough
        self.close_connection = True

    def chunked(self, headers: dict[str, str]) -> None:
        self.send_response(206)
        for name, value in (headers | {"Transfer-Encoding": "chunked"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(
    context: ssl.SSLContext | None = None, *, handler: type[BaseHTTPRequestHandler] = Handler
) -> Iterator[tuple[str, list[object]]]:
    connections: list[object] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (handler,), {"connections": connections}))
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


def test_an_answer_that_is_not_the_range_is_refused_as_what_it_is(wire: Wire) -> None:
    with serving() as (url, _):
        with pytest.raises(WeightsError, match="does not say how long its answer is"):
            read(wire, url + "/chunked")
        with pytest.raises(Refused) as caught:
            read(wire, url + "/denied")
        assert (caught.value.status, caught.value.body) == (403, b"<Code>No</Code>")
    with (
        closing(Wire(stall_seconds=5)) as other,
        pytest.raises(TransientError, match="ConnectionRefusedError at 127"),
    ):
        read(other, url)


def test_what_came_before_a_line_stalled_is_kept() -> None:
    view, request = make_buffer(), Request(url="", headers={"Range": f"bytes=0-{len(DATA) - 1}"})
    with serving() as (url, _), closing(Wire(stall_seconds=0.2)) as wire:
        request = replace(request, url=f"{url}/stalls")
        with closing(wire.open(request, start=0, stop=len(DATA), size=len(DATA))) as body:
            got = 0
            with pytest.raises(TransientError, match="no bytes came for too long"):
                while count := body.readinto(view[: 1024 * 1024]):
                    assert view[:count] == DATA[got : got + count]
                    got += count
            assert got == 100_000


def test_a_redirect_is_followed_and_what_authorises_us_stays_with_its_host(wire: Wire) -> None:
    with serving() as (url, seen), serving() as (other, seen_there):
        place = other.replace("127.0.0.1", "localhost") + "/keeps"
        request = Request(
            url=f"{url}/elsewhere?{place}",
            headers={"Range": f"bytes=5-{len(DATA) - 1}", "Authorization": "Bearer s", "Cookie": "s"},
        )
        with closing(wire.open(request, start=5, stop=len(DATA), size=len(DATA))) as body:
            assert body.readinto(make_buffer()) > 0
        assert (len(seen), len(seen_there)) == (1, 1)
        assert body.headers["x-authorised"] == "no"
        with pytest.raises(Refused):
            wire.open(replace(request, follow=False), start=5, stop=len(DATA), size=len(DATA))
        endless = replace(request, url=f"{url}/round")
        with pytest.raises(WeightsError, match="redirects without an end"):
            wire.open(endless, start=5, stop=len(DATA), size=len(DATA))


def test_connections_are_kept_over_redirects_too(wire: Wire) -> None:
    with serving() as (hub, seen), serving() as (store, seen_there):
        for start in (0, 9, 99):
            assert read(wire, f"{hub}/elsewhere?{store}/", start=start) == DATA[start:]
        assert (len(set(seen)), len(set(seen_there))) == (1, 1)


class Proxy(BaseHTTPRequestHandler):
    """A forward proxy: requests with whole URLs, and CONNECT for TLS."""

    protocol_version = "HTTP/1.1"
    connections: list[object]

    def do_GET(self) -> None:
        self.connections.append(("GET", self.headers.get("Proxy-Authorization")))
        headers = {"Range": self.headers["Range"]}
        with urllib.request.urlopen(urllib.request.Request(self.path, headers=headers)) as answer:
            body = answer.read()
            self.send_response(answer.status)
            for name in ("Content-Range", "Content-Length"):
                self.send_header(name, answer.headers[name])
            self.end_headers()
            self.wfile.write(body)

    def do_CONNECT(self) -> None:
        self.connections.append(("CONNECT", self.headers.get("Proxy-Authorization")))
        host, _, port = self.path.rpartition(":")
        self.send_response(200)
        self.end_headers()
        with socket.create_connection((host, int(port))) as far:
            ends = {self.connection: far, far: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    if not (data := end.recv(65536)):
                        return
                    ends[end].sendall(data)

    def log_message(self, *args: object) -> None:
        pass


def test_a_proxy_that_the_environment_names_is_gone_through(
    wire: Wire, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, context = certificate
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(handler=Proxy) as (proxy, seen), serving() as (plain, _), serving(context) as (tls, _):
        monkeypatch.setenv("http_proxy", proxy.replace("//", "//me:pass%21@"))
        monkeypatch.setenv("https_proxy", proxy.removeprefix("http://"))
        # The proxy itself goes straight to the server.
        monkeypatch.setattr(
            urllib.request, "urlopen", urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        )
        assert read(wire, plain, start=3, stop=1_000_000) == DATA[3:1_000_000]
        assert read(wire, tls, start=7, stop=99, ca_bundle=bundle) == DATA[7:99]
        assert seen == [("GET", "Basic bWU6cGFzcyE="), ("CONNECT", None)]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with closing(Wire(stall_seconds=5)) as direct:
            assert read(direct, plain, start=3, stop=9) == DATA[3:9]
        assert len(seen) == 2


def test_tls_is_checked_against_the_bundle_that_is_named(
    wire: Wire, certificate: tuple[Path, ssl.SSLContext]
) -> None:
    bundle, context = certificate
    with serving(context) as (url, seen):
        assert read(wire, url, ca_bundle=bundle) == DATA
        assert read(wire, url, start=7, stop=9, ca_bundle=bundle) == DATA[7:9]
        assert len(set(seen)) == 1
        with (
            closing(Wire(stall_seconds=5)) as other,
            pytest.raises(WeightsError, match=r"certificate is not trusted.*AWS_CA_BUNDLE"),
        ):
            read(other, url)
