"""The programs that the benchmark of downloads compares, and how one run of one of them is measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.weights_disk import sync

HERE = Path(__file__).resolve().parent
PEERS = ("slipway", "s5cmd", "boto3 default", "boto3 tuned", "kserve-storage")

BOTO3_DEFAULT = """
import boto3, sys
client = boto3.client("s3", endpoint_url=sys.argv[1])
for item in client.list_objects_v2(Bucket=sys.argv[2], Prefix=sys.argv[3] + "/")["Contents"]:
    client.download_file(sys.argv[2], item["Key"], sys.argv[4] + "/" + item["Key"].rpartition("/")[2])
"""
BOTO3_TUNED = """
import boto3, sys
from botocore.config import Config
from s3transfer.manager import TransferConfig, TransferManager
client = boto3.client("s3", endpoint_url=sys.argv[1], config=Config(max_pool_connections=64))
config = TransferConfig(
    multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_request_concurrency=64, io_chunksize=1 << 20
)
with TransferManager(client, config) as manager:
    futures = [
        manager.download(sys.argv[2], item["Key"], sys.argv[4] + "/" + item["Key"].rpartition("/")[2])
        for item in client.list_objects_v2(Bucket=sys.argv[2], Prefix=sys.argv[3] + "/")["Contents"]
    ]
    for future in futures:
        future.result()
"""
KSERVE = """
import sys
from kserve_storage import Storage
Storage.download(f"s3://{sys.argv[2]}/{sys.argv[3]}", sys.argv[4])
"""


@dataclass
class Place:
    """Where the model is: a bucket's prefix, reached at an address."""

    url: str
    bucket: str
    prefix: str
    size: int


@dataclass
class Run:
    """What one download took; ``syncing`` is how long what it left in memory then took to the disk."""

    wall: float
    cpu: float
    peak: int
    syncing: float
    start: float | None = None


def command_of(peer: str, place: Place, target: Path, *, peers: Path) -> tuple[list[str], dict[str, str]]:
    """The command and environment that download a place into a directory."""
    python = str(peers / "bin" / "python")
    arguments = [place.url, place.bucket, place.prefix, str(target)]
    if peer == "slipway":
        order = {
            "source": f"s3://{place.bucket}/{place.prefix}",
            "destination": str(target / "model" / "version"),
            "s3": {"endpoint_url": place.url},
        }
        paths = {"PYTHONPATH": str(target.parent / "plugins"), "SLIPWAY_RESULT": str(target / "result.json")}
        return [sys.executable, "-m", "slipway.weights"], {**paths, "SLIPWAY_ORDER": json.dumps(order)}
    if peer == "s5cmd":
        found = sorted(peers.glob("lib/python*/site-packages/s5cmd/bin/s5cmd"))
        source = f"s3://{place.bucket}/{place.prefix}/*"
        return [str(found[0]), "--endpoint-url", place.url, "cp", source, f"{target}/"], {}
    script = {"boto3 default": BOTO3_DEFAULT, "boto3 tuned": BOTO3_TUNED, "kserve-storage": KSERVE}[peer]
    return [python, "-c", script, *arguments], {"AWS_ENDPOINT_URL": place.url}


def measure(peer: str, place: Place, *, directory: Path, peers: Path) -> Run:
    """Let one program download everything and look at what it takes.

    Raises:
        RuntimeError: it failed, or bytes are missing.
    """
    target = directory / "target"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    command, environment = command_of(peer, place, target, peers=peers)
    began = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log)
        watch = _Memory(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = watch.stop()
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{peer} failed: {log.read()[-500:]!r}")
    there = sum(file.stat().st_size for file in target.rglob("*.bin"))
    if there != place.size:
        raise RuntimeError(f"{peer} brought {there} of {place.size} bytes")
    syncing = sync(target)
    told = target / "result.json"
    start = wall - json.loads(told.read_text())["result"]["seconds"] if told.exists() else None
    shutil.rmtree(target)
    return Run(wall=wall, cpu=usage.ru_utime + usage.ru_stime, peak=peak, syncing=syncing, start=start)


class _Memory:
    """Looks at the anonymous memory of a process and its children, ten times a second."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._over = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        while not self._over.wait(0.1):
            self._peak = max(self._peak, sum(_anonymous(pid) for pid in _tree(self._pid)))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = " ".join(
            (task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()
        ).split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(found[0]) * 1024 if found else 0


def make_peers(directory: Path) -> None:
    """Install the peers where they are not yet."""
    wanted = (HERE / "requirements-peers.txt").read_text()
    done = directory / "installed.txt"
    if done.exists() and done.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
    install = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", "--requirement"]
    subprocess.run([*install, str(HERE / "requirements-peers.txt")], check=True, stdout=sys.stderr)
    done.write_text(wanted)
