"""Downloads from a web server with a list of digests."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from slipway.errors import UsageError, WeightsError
from slipway.weights import FetchOrder, fetch, parts
from slipway.weights.manifest import READY, SUMS
from tests.unit.weights_gateway import files_in, model, sums

BIG = "model-00001-of-00002.safetensors"


@dataclass
class Web:
    """A server of files with ranges, as a directory at /m/, with faults on request.

    Attributes:
        fault: called before a range is answered, with the file's name and how often it was asked for;
            it returns a name from ``FAULTS`` or None.
    """

    files: dict[str, bytes]
    fault: Callable[[str, int], str | None] = lambda name, count: None
    asked: list[tuple[str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    port: int = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.web.asked.append((self.command, self.path))
        if url.path.startswith("/m/"):
            self.file(unquote(url.path.removeprefix("/m/")))
        else:
            self.send(404, b"")

    def file(self, name: str) -> None:
        data = (
            sums(self.web.files) if name == SUMS and SUMS not in self.web.files else self.web.files.get(name)
        )
        if data is None:
            return self.send(404, b"")
        asked = self.headers.get("Range")
        if self.command == "HEAD" or asked is None:
            return self.send(200, data)
        self.web.counts[name] = self.web.counts.get(name, 0) + 1
        start, stop = (int(end) for end in asked.removeprefix("bytes=").split("-"))
        piece = data[start : stop + 1]
        headers = {"Content-Range": f"bytes {start}-{stop}/{len(data)}"}
        return self.faulty(self.web.fault(name, self.web.counts[name]), piece, headers)

    def faulty(self, fault: str | None, piece: bytes, headers: dict[str, str]) -> None:
        if fault is None:
            self.send(206, piece, headers)
        elif fault.isdigit():
            self.send(int(fault), b"", {"Retry-After": "0"})
        elif fault == "cut":
            self.send(206, piece[: len(piece) // 2], headers, length=len(piece))
            self.close_connection = True
        elif fault == "wrong range":
            self.send(206, piece, {"Content-Range": f"bytes 1-{len(piece)}/{len(piece) + 1}"})
        elif fault == "whole":
            self.send(200, piece + b"more")
        elif fault == "flip":
            self.send(206, bytes([piece[0] ^ 1]) + piece[1:], headers)
        elif fault == "reset":
            self.close_connection = True
            self.connection.close()

    def send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in ({"ETag": '"1"'} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass

    def finish(self) -> None:
        try:
            super().finish()
        except (OSError, ValueError):
            return


@contextmanager
def serving(web: Web) -> Iterator[Web]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HandlerOfOne", (Handler,), {"web": web}))
    server.handle_error = lambda *args: None  # type: ignore[method-assign]
    server.daemon_threads = True
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny" / "0123456789ab"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_LONGEST_WAIT", 0.01)
    for name in [name for name in os.environ if name.startswith("MODELSCOPE")]:
        monkeypatch.delenv(name)


def order(web: Web, destination: Path, **more: float) -> FetchOrder:
    source = f"http://127.0.0.1:{web.port}/m"
    return FetchOrder.model_validate({"source": source, "destination": str(destination)} | more)


def test_a_directory_with_a_list_arrives_verified(destination: Path) -> None:
    files = model() | {"目录/a b#c?.txt": b"x"}
    with serving(Web(files)) as web:
        result = fetch(order(web, destination))
        again = fetch(order(web, destination))
    assert files_in(destination) == files
    assert (result.verified, again.bytes_fetched) == ("sha256", 0)


def test_a_directory_without_a_list_is_refused(destination: Path) -> None:
    with (
        serving(Web({"config.json": b"{}", SUMS: b""})) as web,
        pytest.raises(WeightsError, match="list of files is empty"),
    ):
        fetch(order(web, destination))
    with serving(Web({})) as web:
        wrong = FetchOrder(source=f"http://127.0.0.1:{web.port}/nothing", destination=str(destination))
        with pytest.raises(WeightsError, match=r"needs a list of its files.*sha256sum"):
            fetch(wrong)
    with pytest.raises(
        WeightsError, match=r"cannot be reached.*no connection to 127\.0\.0\.1: it is refused"
    ):
        fetch(wrong)
    unknown = FetchOrder(source="http://models.invalid/tiny", destination=str(destination))
    with pytest.raises(WeightsError, match=r"cannot be reached.*the name models\.invalid is not known there"):
        fetch(unknown)


def listed(files: dict[str, bytes], *, digests: bool) -> bytes:
    """A JSON list of files, such as a marker of Slipway's is one."""
    rows = [
        {"path": name, "size": len(data)} | ({"sha256": hashlib.sha256(data).hexdigest()} if digests else {})
        for name, data in files.items()
    ]
    return json.dumps({"files": rows, "more": "is not read"}).encode()


@pytest.mark.parametrize(
    ("name", "digests", "verified"),
    [(READY, True, "sha256"), ("manifest.json", True, "sha256"), ("manifest.json", False, "only sizes")],
)
def test_a_json_list_serves_too_and_what_it_leaves_out_is_not_called_verified(
    destination: Path, name: str, digests: bool, verified: str
) -> None:
    files = model()
    with serving(Web(files | {name: listed(files, digests=digests), SUMS: None})) as web:  # type: ignore[dict-item]
        result = fetch(order(web, destination))
    assert files_in(destination) == files
    assert verified in result.verified


def test_a_file_that_is_not_as_long_as_its_list_says_is_told_before_anything_is_fetched(
    destination: Path,
) -> None:
    files = model()
    rows = listed(files | {"config.json": b"{}"}, digests=False)
    web = Web(files | {"manifest.json": rows, SUMS: None})  # type: ignore[dict-item]
    with serving(web), pytest.raises(WeightsError, match=r"another length than the list says.*config.json"):
        fetch(order(web, destination))
    assert not web.counts


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "a/../../evil", "a//b", "./x/./y", "a\\..\\b", READY]
)
def test_a_name_that_would_leave_the_destination_is_refused(destination: Path, name: str) -> None:
    listed = sums(model()) + f"{'0' * 64}  {name}\n".encode()
    web = Web(model() | {name: b"x", SUMS: listed})
    with serving(web), pytest.raises(WeightsError, match=r"file name that is not safe"):
        fetch(order(web, destination))
    assert not destination.parent.exists()


@pytest.mark.parametrize("fault", ["408", "429", "500", "503", "cut", "wrong range", "flip", "reset"])
def test_a_fault_that_passes_costs_a_retry_and_nothing_else(destination: Path, fault: str) -> None:
    files = model()
    web = Web(files, fault=lambda name, count: fault if name == BIG and count == 1 else None)
    with serving(web):
        fetch(order(web, destination), say=lambda line: None)
    assert files_in(destination) == files
    assert web.counts[BIG] >= 2


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("503", r"does not get on.*8 tries in a row.*503"),
        ("reset", r"does not get on"),
        ("wrong range", r"does not get on.*not what was asked"),
        ("flip", r"does not have the digest"),
        ("403", r"denied access.*403"),
        ("404", r"changed during the download"),
        ("412", r"changed during the download"),
    ],
)
def test_a_fault_that_stays_is_a_typed_error_and_nothing_is_ready(
    destination: Path, fault: str, message: str
) -> None:
    web = Web(model(), fault=lambda name, count: fault if name == BIG else None)
    with serving(web), pytest.raises(WeightsError, match=message):
        fetch(order(web, destination), say=lambda line: None)
    assert not destination.exists()


def test_what_arrived_before_a_failure_is_not_fetched_again(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = model()
    web = Web(files, fault=lambda name, count: "403" if name == BIG else None)
    with serving(web):
        with pytest.raises(WeightsError):
            fetch(order(web, destination, streams=1), say=lambda line: None)
        web.fault = lambda name, count: None
        before = dict(web.counts)
        result = fetch(order(web, destination))
    assert files_in(destination) == files
    assert web.counts["config.json"] == before["config.json"]
    assert result.bytes_reused > 0


def test_a_server_that_gives_no_ranges_is_refused_for_files_of_many_parts(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = Web(model(size=40_000_000), fault=lambda name, count: "whole" if name == BIG else None)
    with serving(web), pytest.raises(WeightsError, match="does not give ranges"):
        fetch(order(web, destination), say=lambda line: None)


def test_there_are_no_more_streams_than_fit_into_a_pods_memory(destination: Path) -> None:
    with pytest.raises(ValueError, match="streams"):
        FetchOrder(source="https://x/y", destination=str(destination), streams=1000)


def test_credentials_in_a_source_are_refused(destination: Path) -> None:
    with pytest.raises(UsageError, match="must not have credentials") as caught:
        fetch(FetchOrder(source="https://user:hunter2@x/y", destination=str(destination)))
    assert "hunter2" not in str(caught.value)
