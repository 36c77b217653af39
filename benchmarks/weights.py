"""How fast a model comes from S3, against s5cmd, boto3 and KServe's storage initializer, in one run.

``python -m benchmarks.weights`` uploads random shards into a bucket of its own in the sandbox's S3, lets every program
download them in turn, round after round, and prints one JSON object for each program and case:

* ``wall_ratio``: Slipway's wall time by that program's in the same round, the median of all rounds: below 1, Slipway
  is faster. Slipway hashes and syncs what it writes; the others do neither.
* ``synced_wall_ratio``: the same, each time until what was written is on the disk: for a program that leaves it in
  memory the time that fsync of its files then takes is added.
* ``cpu_s_per_gib``: CPU seconds, user and system, of the program and its children, the start of Python included.
* ``cpu_net_s_per_gib``: the same without what sha256 costs on this machine (measured in the same run).
* ``peak_mib``: the most anonymous memory of the program and its children together.

Between runs the server's files are dropped from the page cache, and what was downloaded is deleted.

A model is larger than what the kernel keeps in memory before it makes a program wait for the disk (vm.dirty_ratio, a
fifth of it): 2 GiB would measure how fast memory is. It has six by default; all rounds of all programs take some twenty
minutes.

Two lines that are no programs say what this machine's disk can do: ``read`` is the server's files read once past the
page cache, the least that any download can take; ``read and write`` is that while as many bytes are written, the least
for one that has them on the disk at its end. ``start_s`` of Slipway's line is what Python and its libraries take
before the first request.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.weights_disk import disk_seconds, drop_from_page_cache
from benchmarks.weights_peers import PEERS, Place, Run, make_peers, measure

HERE = Path(__file__).resolve().parent
PER_CONNECTION = 10_000_000
MIB = 1024 * 1024


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


def sha256_seconds() -> float:
    """CPU seconds that hashing a GiB takes here."""
    block = os.urandom(MIB)
    began, digest = time.thread_time(), hashlib.sha256()
    for _ in range(256):
        digest.update(block)
    return (time.thread_time() - began) * 4


def compare(
    case: str,
    place: Place,
    *,
    programs: tuple[str, ...],
    rounds: int,
    directory: Path,
    stored: Path,
    peers: Path,
    hashing: float,
) -> None:
    """Run a case and print its figures."""
    runs: dict[str, list[Run]] = {peer: [] for peer in programs}
    for number in range(rounds):
        # Another order each round, so that none always comes after the same one.
        first = number % len(programs)
        for peer in programs[first:] + programs[:first]:
            drop_from_page_cache(stored)
            runs[peer].append(measure(peer, place, directory=directory, peers=peers))
    gib = place.size / 1024**3
    common = {"rounds": rounds, "gib": round(gib, 2), "load": round(os.getloadavg()[0], 1)}
    mine = runs["slipway"]
    for peer in programs:
        its = runs[peer]
        cpu = median(run.cpu for run in its) / gib
        figures = {
            "benchmark": "weights",
            "case": case,
            "peer": peer,
            "wall_ratio": round(median(ours.wall / run.wall for ours, run in zip(mine, its, strict=True)), 2),
            "synced_wall_ratio": round(
                median(
                    (ours.wall + ours.syncing) / (run.wall + run.syncing)
                    for ours, run in zip(mine, its, strict=True)
                ),
                2,
            ),
            "wall_s": round(median(run.wall for run in its), 2),
            "syncing_s": round(median(run.syncing for run in its), 2),
            "cpu_s_per_gib": round(cpu, 2),
            "cpu_net_s_per_gib": round(cpu - (hashing if peer == "slipway" else 0), 2),
            "peak_mib": round(median(run.peak for run in its) / MIB),
        }
        if peer == "slipway":
            figures["start_s"] = round(median(run.start or 0 for run in its), 2)
        print(json.dumps(figures | common), flush=True)
    for name, beside in (("read", None), ("read and write", directory / "written")):
        wall = median(disk_seconds(stored / place.prefix, beside=beside) for _ in range(rounds))
        told = {"benchmark": "weights", "case": case, "disk": name, "wall_s": round(wall, 2)}
        print(json.dumps(told | common), flush=True)


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
        "--mib", type=int, default=6144, help="of the uncapped case; the capped one has a third of it"
    )
    parser.add_argument("--against", nargs="+", choices=PEERS[1:], default=PEERS[1:], help="only these")
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
                "programs": ("slipway", *options.against),
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
                    capped = Place(url, bucket, "capped", size=options.mib // 3 * MIB)
                    upload(client, capped, shards=8)
                    compare("10 MB/s per connection", capped, **common)
    finally:
        remove(client, bucket)
    return 0


if __name__ == "__main__":
    sys.exit(main())
