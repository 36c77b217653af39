"""A download as a pod runs it: killed in the middle, told to stop, and how much memory it takes."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.weights import throttled
from slipway.pods import parse_result
from slipway.weights import FetchResult, fetch
from tests.unit.weights_gateway import KEYS, Gateway, files_in, model, run_pod


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    return "b-" + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny" / "0123456789ab"


@contextmanager
def proxy_that_stops(port: int, *, after: int) -> Iterator[int]:
    """A TCP proxy that passes ``after`` bytes of answers and then holds every connection still."""
    server = socket.create_server(("127.0.0.1", 0))
    budget, lock, over = [after], threading.Lock(), threading.Event()

    def pump(source: socket.socket, sink: socket.socket, *, counted: bool) -> None:
        try:
            while data := source.recv(65536):
                if counted:
                    with lock:
                        budget[0] -= len(data)
                    if budget[0] < 0:
                        over.wait()
                        return
                sink.sendall(data)
        except OSError:
            return
        finally:
            for end in (source, sink):
                end.close()

    def accept() -> None:
        while True:
            try:
                near, _ = server.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=pump, args=(near, far), kwargs={"counted": False}, daemon=True).start()
            threading.Thread(target=pump, args=(far, near), kwargs={"counted": True}, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(server.getsockname()[1])
    finally:
        over.set()
        server.close()


def wait_for(condition: Any, *, seconds: float = 600, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        time.sleep(0.01)


def parts_in(journal: Path) -> int:
    """The parts of shards that are written; small files have one part each, and may come before any of these."""
    if not journal.exists():
        return 0
    return sum(b'safetensors"' in line and b'"p":' in line for line in journal.read_bytes().splitlines())


@pytest.mark.parametrize("with_sums", [True, False], ids=["digests", "sizes only"])
def test_a_download_killed_in_the_middle_continues(
    gateway: Gateway, bucket: str, destination: Path, tmp_path: Path, with_sums: bool
) -> None:
    files = model(size=150_000_000)
    source = gateway.put(bucket, "m", files, with_sums=with_sums)
    journal = destination.with_name(f"{destination.name}.journal")
    with proxy_that_stops(gateway.port, after=80_000_000) as port:
        process = run_pod(gateway.order(source, destination, port=port, streams=3), tmp_path)
        wait_for(lambda: parts_in(journal) >= 2, what="a second part in the journal")
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not destination.exists()
    kept = parts_in(journal)
    result = fetch(gateway.order(source, destination))
    assert files_in(destination) == files
    assert result.bytes_reused >= 16_000_000 * (kept - 2)
    assert result.bytes_fetched + result.bytes_reused == result.bytes_total


def test_a_pod_that_is_told_to_stop_says_so_and_keeps_what_it_has(
    gateway: Gateway, bucket: str, destination: Path, tmp_path: Path
) -> None:
    source = gateway.put(bucket, "m", model(size=100_000_000))
    journal = destination.with_name(f"{destination.name}.journal")
    with proxy_that_stops(gateway.port, after=60_000_000) as port:
        process = run_pod(gateway.order(source, destination, port=port, streams=2), tmp_path)
        wait_for(lambda: parts_in(journal) >= 1, what="a part in the journal")
        process.terminate()
        assert process.wait(timeout=600) == 143
    with pytest.raises(Exception, match="terminated"):
        parse_result((tmp_path / "termination-log").read_text(), FetchResult)
    assert parts_in(journal) >= 1
    assert not destination.with_name(f"{destination.name}.owner").exists()


def most_memory(pid: int) -> int:
    """The most resident memory that a process had since it was started, in KiB; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


@contextmanager
def slow_line(port: int) -> Iterator[int]:
    """A server that limits each connection, so that a download opens as many as it may."""
    with throttled(f"127.0.0.1:{port}", rate=10_000_000) as url:
        yield int(url.rpartition(":")[2])


def test_memory_stays_below_a_pods_limit_with_all_streams_open(
    gateway: Gateway, bucket: str, destination: Path, tmp_path: Path
) -> None:
    source = gateway.put(bucket, "m", model(), with_sums=False)
    # A file of zeros that takes no room on the server: its header says how long it is.
    size = 80 * 16 * 1024 * 1024
    with (gateway.root / bucket / "m" / "model-00003-of-00003.safetensors").open("wb") as file:
        header = json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
    with slow_line(gateway.port) as port:
        process, peak = run_pod(gateway.order(source, destination, port=port), tmp_path), 0
        while process.poll() is None:
            peak = max(peak, most_memory(process.pid))
            time.sleep(0.05)
    result = parse_result((tmp_path / "termination-log").read_text(), FetchResult)
    assert process.returncode == 0
    assert result.bytes_fetched > size
    assert 0 < peak < 200 * 1024, "the pod's limit is 256 MiB, and the kernel's buffers count too"
