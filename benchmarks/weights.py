"""How fast a model comes from S3, against s5cmd, boto3 and KServe's storage initializer, in one run.

``python -m benchmarks.weights`` uploads random shards into a bucket of its own in the sandbox's S3, lets every program
download them in turn, round after round, and prints one JSON object for each program and case:

* ``wall_ratio``: Slipway's wall time by that program's in the same round, the median of all rounds: below 1, Slipway
  is faster. Slipway hashes and syncs what it writes; the others do neither.
* ``cpu_s_per_gib``: CPU seconds, user and system, of the program and its children, the start of Python included.
* ``cpu_net_s_per_gib``: the same without what sha256 costs on this machine (measured in the same run).
* ``peak_mib``: the most anonymous memory of the program and its children together.

Between runs the server's files are dropped from the page cache, and what was downloaded is deleted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PER_CONNECTION = 10_000_000
MIB = 1024 * 1024

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
    """What one download took."""

    wall: float
    cpu: float
    peak: int


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
    shutil.rmtree(target)
    if there != place.size:
        raise RuntimeError(f"{peer} brought {there} of {place.size} bytes")
    return Run(wall=wall, cpu=usage.ru_utime + usage.ru_stime, peak=peak)


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


def upload(client: Any, place: Place, *, shards: int) -> None:
    """Put random shards and what makes them a model into the bucket."""
    digests = {}
    small = {"config.json": b"{}", "tokenizer.json": b"{}"}
    for number in range(shards):
        data = os.urandom(place.size // shards)
        name = f"shard-{number}.bin"
        digests[name] = hashlib.sha256(data).hexdigest()
        client.put_object(Bucket=place.bucket, Key=f"{place.prefix}/{name}", Body=data)
    for name, data in small.items():
        digests[name] = hashlib.sha256(data).hexdigest()
        client.put_object(Bucket=place.bucket, Key=f"{place.prefix}/{name}", Body=data)
    listed = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    client.put_object(Bucket=place.bucket, Key=f"{place.prefix}/SHA256SUMS", Body=listed.encode())


def remove(client: Any, bucket: str) -> None:
    """Delete the bucket with all that is in it."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            client.delete_object(Bucket=bucket, Key=item["Key"])
    client.delete_bucket(Bucket=bucket)


def drop_from_page_cache(directory: Path) -> None:
    """Let the server read its files from the disk again."""
    for file in directory.rglob("*"):
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            try:
                os.fdatasync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


@contextmanager
def throttled(address: str, *, rate: int) -> Iterator[str]:
    """A proxy before the server that limits each connection; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.throttle", address, str(rate)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as proxy:
        assert proxy.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(proxy.stdout.readline())}"
        finally:
            proxy.kill()


def make_peers(directory: Path) -> None:
    """Install the peers where they are not yet."""
    wanted = (HERE / "requirements-peers.txt").read_text()
    done = directory / "installed.txt"
    if done.exists() and done.read_text() == wanted:
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
    install = [directory / "bin" / "python", "-m", "pip", "install", "--quiet", "--requirement"]
    subprocess.run([*install, HERE / "requirements-peers.txt"], check=True, stdout=sys.stderr)
    done.write_text(wanted)


def sha256_seconds() -> float:
    """CPU seconds that hashing a GiB takes here."""
    block = os.urandom(MIB)
    began, digest = time.thread_time(), hashlib.sha256()
    for _ in range(256):
        digest.update(block)
    return (time.thread_time() - began) * 4


PEERS = ("slipway", "s5cmd", "boto3 default", "boto3 tuned", "kserve-storage")


def compare(
    case: str, place: Place, *, rounds: int, directory: Path, stored: Path, peers: Path, hashing: float
) -> None:
    """Run a case and print its figures."""
    runs: dict[str, list[Run]] = {peer: [] for peer in PEERS}
    for number in range(rounds):
        # Another order each round, so that none always comes after the same one.
        for peer in PEERS[number % len(PEERS) :] + PEERS[: number % len(PEERS)]:
            drop_from_page_cache(stored)
            runs[peer].append(measure(peer, place, directory=directory, peers=peers))
    gib = place.size / 1024**3
    for peer in PEERS:
        ratios = [mine.wall / its.wall for mine, its in zip(runs["slipway"], runs[peer], strict=True)]
        cpu = statistics.median(run.cpu for run in runs[peer]) / gib
        figures = {
            "benchmark": "weights",
            "case": case,
            "peer": peer,
            "wall_ratio": round(statistics.median(ratios), 2),
            "wall_s": round(statistics.median(run.wall for run in runs[peer]), 2),
            "cpu_s_per_gib": round(cpu, 2),
            "cpu_net_s_per_gib": round(cpu - (hashing if peer == "slipway" else 0), 2),
            "peak_mib": round(statistics.median(run.peak for run in runs[peer]) / MIB),
            "rounds": rounds,
            "gib": round(gib, 2),
            "load": round(os.getloadavg()[0], 1),
        }
        print(json.dumps(figures), flush=True)


def main() -> int:
    """Upload, measure both cases, clean up."""
    import boto3
    from botocore.config import Config

    from sandbox import s3, settings

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--mib", type=int, default=2048, help="of the uncapped case; the capped one has half of it"
    )
    parser.add_argument("--case", choices=["uncapped", "capped"], help="only this one")
    parser.add_argument("--peers", type=Path, default=Path(tempfile.gettempdir()) / "slipway-weights-peers")
    options = parser.parse_args()
    config = settings.load(recorded=True)
    make_peers(options.peers)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": s3.access_key(config),
        "AWS_SECRET_ACCESS_KEY": s3.secret_key(config),
        "AWS_DEFAULT_REGION": s3.REGION,
        "AWS_REGION": s3.REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    client = boto3.client("s3", endpoint_url=config.s3_url, config=Config(s3={"addressing_style": "path"}))
    bucket = f"bench-weights-{os.getpid()}"
    # A bucket is a directory of the server's, an object a file in it.
    stored = config.home / "s3" / bucket
    uncapped = Place(config.s3_url, bucket, "uncapped", size=options.mib * MIB)
    client.create_bucket(Bucket=bucket)
    try:
        hashing = sha256_seconds()
        with tempfile.TemporaryDirectory(prefix="slipway-bench-", dir=config.home) as directory:
            # A copy: whoever works on the code meanwhile changes nothing of what is measured.
            shutil.copytree(HERE.parent / "plugins" / "slipway", Path(directory) / "plugins" / "slipway")
            common = {
                "rounds": options.rounds,
                "directory": Path(directory),
                "stored": stored,
                "peers": options.peers,
                "hashing": hashing,
            }
            if options.case != "capped":
                upload(client, uncapped, shards=8)
                compare("uncapped", uncapped, **common)
            if options.case != "uncapped":
                address = config.s3_url.removeprefix("http://")
                with throttled(address, rate=PER_CONNECTION) as url:
                    capped = Place(url, bucket, "capped", size=options.mib // 2 * MIB)
                    upload(client, capped, shards=8)
                    compare("10 MB/s per connection", capped, **common)
    finally:
        remove(client, bucket)
    return 0


if __name__ == "__main__":
    sys.exit(main())
