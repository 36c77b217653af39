"""What the pods of the active checks do: each order, carried out here."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.checks import pod_script


def test_what_one_pod_writes_another_reads(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "data")
    written = pod_script.carry_out({"do": "write", "path": path, "bytes": 2 << 20})
    assert written["ok"] and written["write"] > 0 and written["read"] > 0
    assert Path(path).stat().st_size == 2 << 20
    read = pod_script.carry_out({"do": "read", "path": path, "sha256": written["sha256"]})
    assert read["ok"]
    Path(path).write_bytes(b"somebody else's")
    spoilt = pod_script.carry_out({"do": "read", "path": path, "sha256": written["sha256"]})
    assert not spoilt["ok"] and "not what the other pod wrote" in spoilt["told"]


def test_a_volume_that_takes_nothing_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = pod_script.carry_out({"do": "write", "path": str(tmp_path / "file" / "x"), "bytes": 1 << 20})
    assert not answer["ok"] and answer["told"]


@pytest.fixture
def server() -> Iterator[int]:
    """An HTTP server that has nothing."""
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_address[1]
    made.shutdown()
    made.server_close()


def test_any_http_answer_is_one(server: int) -> None:
    order = {"do": "request", "scheme": "http", "host": "127.0.0.1", "port": server, "path": "/"}
    assert "answers with 501" in pod_script.carry_out(order)["told"]
    refused = pod_script.carry_out({**order, "port": 1})
    assert not refused["ok"] and "refused" in refused["told"].lower()


GREETINGS = {
    "MySQL": ("mysql", b"\x4a\0\0\0\x0a8.0.36\0rest", True, "is 8.0.36"),
    "MySQL with too many clients": (
        "mysql",
        b"\x17\0\0\0\xff\x10\x04Too many connections",
        False,
        "Too many",
    ),
    "a server that says nothing": ("mysql", b"", False, "says nothing"),
    "Redis": ("redis", b"+PONG\r\n", True, "answers"),
    "Redis with a password": ("redis", b"-NOAUTH Authentication required.\r\n", True, "asks for a password"),
    "Redis that loads": ("redis", b"-LOADING Redis is loading the dataset in memory\r\n", False, "LOADING"),
}


@pytest.mark.parametrize("case", GREETINGS)
def test_a_database_is_heard_without_logging_in(case: str) -> None:
    protocol, greeting, fine, words = GREETINGS[case]
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as client:
                if protocol == "redis":
                    assert client.recv(100) == b"PING\r\n"
                client.sendall(greeting)

        server = threading.Thread(target=serve)
        server.start()
        port = listening.getsockname()[1]
        order = {"do": "greet", "protocol": protocol, "host": "127.0.0.1", "port": port}
        answer = pod_script.carry_out(order)
        server.join()
    assert (answer["ok"], words in answer["told"]) == (fine, True), answer


def test_a_nodes_files_tell_its_library_and_default_runtime(tmp_path: Path) -> None:
    assert pod_script.carry_out({"do": "host", "root": str(tmp_path)})["glibc"] == ""
    library = tmp_path / "usr/lib/x86_64-linux-gnu"
    library.mkdir(parents=True)
    (library / "libc-2.28.so").write_bytes(
        b"\0GNU C Library (Debian) stable release version 2.28.\nCopyright\0"
    )
    # On the node the link starts at the node's root.
    (library / "libc.so.6").symlink_to("/usr/lib/x86_64-linux-gnu/libc-2.28.so")
    (tmp_path / "etc/containerd").mkdir(parents=True)
    (tmp_path / "etc/containerd/config.toml").write_text('[x]\n  default_runtime_name = "nvidia"\n')
    answer = pod_script.carry_out({"do": "host", "root": str(tmp_path)})
    assert (answer["glibc"], answer["runtime"]) == ("2.28", "nvidia")


def test_a_failed_order_does_not_end_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [
        {"do": "read", "path": "/nowhere", "sha256": ""},
        {"do": "resolve", "name": "localhost"},
        {"do": "x"},
    ]
    monkeypatch.setenv(pod_script.ORDERS, json.dumps(orders))
    monkeypatch.setenv(pod_script.RESULT, str(tmp_path / "result"))
    pod_script.main()
    assert [one["ok"] for one in json.loads((tmp_path / "result").read_text())] == [False, True, False]


def test_a_source_is_listed_and_not_downloaded(tmp_path: Path) -> None:
    order = {"source": "s3://models/x", "destination": "/tmp/slipway/check", "stall_seconds": 1}
    answer = pod_script.carry_out({"do": "source", "order": {**order, "unknown": 1}})
    assert not answer["ok"], "an order that the package does not know is an answer, too"


def test_long_answers_fit_into_a_termination_message() -> None:
    answer = pod_script.carry_out({"do": "resolve", "name": "x" * 5000})
    assert not answer["ok"] and len(answer["told"]) <= pod_script.LONGEST
