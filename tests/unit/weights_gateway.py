"""A real S3 server (versitygw) for tests of downloads, small models to put into it, and how a pod downloads."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from slipway.weights import FetchOrder, FetchResult, S3Settings
from slipway.weights.connect import Refused
from slipway.weights.manifest import READY, FileEntry
from slipway.weights.sources import Source
from slipway.weights.sources.base import Addressed
from slipway.weights.wire import Wire
from tests.hub.server import commit_id

KEYS = {"AWS_ACCESS_KEY_ID": "test-access", "AWS_SECRET_ACCESS_KEY": "test-secret"}
OLD, NEW = commit_id("old"), commit_id("new")
PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def safetensors(size: int, *, seed: int = 1) -> bytes:
    """A weights file of one tensor with ``size`` bytes of data that do not repeat."""
    header = json.dumps({"t": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    data = hashlib.shake_256(seed.to_bytes(4, "little")).digest(size)
    return struct.pack("<Q", len(header)) + header + data


def model(*, size: int = 3_000_000) -> dict[str, bytes]:
    """The files of a small complete model in two shards."""
    shards = {f"model-0000{n}-of-00002.safetensors": safetensors(size // 2, seed=n) for n in (1, 2)}
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": list(shards)[1]}}
    return shards | {
        "config.json": b'{"architectures": ["Qwen3ForCausalLM"]}',
        "model.safetensors.index.json": json.dumps(index).encode(),
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
        "merges.txt": b"",
    }


def sums(files: dict[str, bytes]) -> bytes:
    """A SHA256SUMS as the program writes it."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  ./{name}\n" for name, data in files.items()).encode()


@dataclass
class Gateway:
    """A running S3 server and the directory that its objects are files in."""

    port: int
    root: Path
    client: Any

    def put(self, bucket: str, prefix: str, files: dict[str, bytes], *, with_sums: bool = True) -> str:
        """Upload a model and return its source.

        Without a list of digests the files come past the server, for of what is uploaded it keeps a checksum.
        """
        self.client.create_bucket(Bucket=bucket)
        for name, data in files.items():
            if with_sums:
                self.client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data)
            else:
                file = self.root / bucket / prefix / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
        if with_sums:
            self.client.put_object(Bucket=bucket, Key=f"{prefix}/SHA256SUMS", Body=sums(files))
        return f"s3://{bucket}/{prefix}"

    def order(self, source: str, destination: Path, *, port: int | None = None, **more: Any) -> FetchOrder:
        """An order for this server, or for a proxy in front of it."""
        s3 = S3Settings(endpoint_url=f"http://127.0.0.1:{port or self.port}")
        return FetchOrder(source=source, destination=str(destination), s3=s3, **more)


def read_range(source: Source, entry: FileEntry, *, start: int, stop: int) -> bytes:
    """One try of a range, as the engine makes it."""
    assert isinstance(source, Addressed)
    request = source.request(entry, start=start, stop=stop)
    data = bytearray(stop - start)
    with closing(Wire(stall_seconds=5)) as wire:
        try:
            body = wire.open(request, start=start, stop=stop, size=entry.size)
        except Refused as answer:
            raise source.refused(entry, request, answer) from None
        source.answered(entry, body.headers)
        done = 0
        while count := body.readinto(memoryview(data)[done:]):
            done += count
        body.close()
    return bytes(data[:done])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_versitygw() -> str:
    named = os.environ.get("SLIPWAY_VERSITYGW")
    built = sorted(
        Path.home().glob(".cache/slipway/bin/versitygw-*/versitygw"), key=lambda file: file.stat().st_mtime
    )
    found = named or (str(built[-1]) if built else shutil.which("versitygw"))
    if not found:
        pytest.fail("these tests need the real S3 server versitygw: run `make up` once, which builds it")
    return found


@contextmanager
def serving_s3(
    base: Path, *flags: str, backend: tuple[str, ...] = (), bundle: Path | None = None
) -> Iterator[Gateway]:
    """Run the server for the duration of a block; with a bundle of certificates it speaks TLS."""
    root, sidecar = base / "data", base / "sidecar"
    for directory in (root, sidecar, base / "versions"):
        directory.mkdir(parents=True)
    port = free_port()
    access, secret = KEYS.values()
    address = ["--access", access, "--secret", secret, "--port", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [
            find_versitygw(),
            "--quiet",
            *address,
            *flags,
            "posix",
            "--sidecar",
            str(sidecar),
            *backend,
            str(root),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = boto3.client(
        "s3",
        endpoint_url=f"{'https' if bundle else 'http'}://127.0.0.1:{port}",
        verify=str(bundle) if bundle else None,
        region_name="us-east-1",
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 10}),
    )
    try:
        client.list_buckets()
        yield Gateway(port=port, root=root, client=client)
    finally:
        client.close()
        process.kill()  # asked kindly, it waits for idle connections
        process.wait(timeout=10)


@contextmanager
def accounts(base: Path) -> Iterator[tuple[Gateway, Callable[..., None]]]:
    """A server with accounts of its own, and its administration."""
    (base / "iam").mkdir(parents=True)
    with serving_s3(base, "--iam-dir", str(base / "iam"), "--iam-cache-disable") as server:
        access, secret = KEYS.values()

        def admin(*command: str) -> None:
            url = f"http://127.0.0.1:{server.port}"
            login = ["--access", access, "--secret", secret, "--endpoint-url", url]
            subprocess.run([find_versitygw(), "admin", *login, *command], check=True, capture_output=True)

        yield server, admin


def files_in(directory: Path) -> dict[str, bytes]:
    found = (path for path in directory.rglob("*") if path.is_file() and path.name != READY)
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in found}


def run_pod(order: FetchOrder, tmp_path: Path, **more: str) -> subprocess.Popen[bytes]:
    """Start the download as a pod does: an order in the environment, a file for the result."""
    environment = os.environ | {
        "PYTHONPATH": str(PLUGINS),
        "SLIPWAY_ORDER": order.model_dump_json(),
        "SLIPWAY_RESULT": str(tmp_path / "termination-log"),
        **more,
    }
    return subprocess.Popen([sys.executable, "-m", "slipway.weights"], env=environment)


def order(source: str, destination: Path, *fallbacks: str, **more: object) -> FetchOrder:
    return FetchOrder.model_validate(
        {"source": source, "fallbacks": fallbacks, "destination": str(destination), **more}
    )


def quietly(
    work: Callable[..., FetchResult], source: str, destination: Path, *fallbacks: str, **more: object
) -> FetchResult:
    return work(order(source, destination, *fallbacks, **more), say=lambda line: None)


def fill(directory: Path, files: dict[str, bytes]) -> None:
    """Write files readable for everybody."""
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755)
