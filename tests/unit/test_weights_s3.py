"""Downloads from a real S3 server (versitygw): what arrives is right, and what is wrong is said."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from slipway.errors import UsageError, WeightsError
from slipway.pods import parse_result
from slipway.weights import FetchOrder, FetchResult, S3Settings, fetch
from slipway.weights.connect import Refused
from slipway.weights.manifest import READY, FileEntry
from slipway.weights.sources import Source
from slipway.weights.sources.base import Addressed
from slipway.weights.wire import Wire

KEYS = {"AWS_ACCESS_KEY_ID": "test-access", "AWS_SECRET_ACCESS_KEY": "test-secret"}
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
def serving_s3(base: Path, *flags: str) -> Iterator[Gateway]:
    """Run the server for the duration of a block."""
    root, sidecar = base / "data", base / "sidecar"
    root.mkdir(parents=True)
    sidecar.mkdir()
    port = free_port()
    access, secret = KEYS.values()
    address = ["--access", access, "--secret", secret, "--port", f"127.0.0.1:{port}"]
    process = subprocess.Popen(
        [find_versitygw(), "--quiet", *address, *flags, "posix", "--sidecar", str(sidecar), str(root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
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


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


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


def test_a_model_arrives_whole_verified_and_readable_by_others(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    files = model()
    source = gateway.put(bucket, "models/tiny", files)
    result = fetch(gateway.order(source, destination))
    assert files_in(destination) == files
    assert result.verified == "sha256"
    assert (result.files, result.bytes_reused) == (len(files), 0)
    assert result.bytes_total == result.bytes_fetched == sum(map(len, files.values()))
    assert result.warnings == []
    marker = json.loads((destination / READY).read_text())
    assert marker["manifest_digest"] == result.manifest_digest
    assert {file["path"]: file["sha256"] for file in marker["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in destination.rglob("*") if path.is_file())
    assert destination.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in destination.parent.iterdir()] == [destination.name]


def test_a_second_run_moves_no_byte(gateway: Gateway, bucket: str, destination: Path) -> None:
    source = gateway.put(bucket, "m", model())
    first = fetch(gateway.order(source, destination))
    second = fetch(gateway.order(source, destination))
    assert second.bytes_fetched == 0
    assert second.bytes_reused == second.bytes_total == first.bytes_total
    assert second.manifest_digest == first.manifest_digest


def test_a_prefix_does_not_take_in_its_longer_namesake(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    files = model()
    source = gateway.put(bucket, "qwen", files)
    gateway.client.put_object(Bucket=bucket, Key="qwen2/config.json", Body=b"other")
    gateway.client.put_object(Bucket=bucket, Key="qwen/empty-directory/", Body=b"")
    fetch(gateway.order(source, destination))
    assert files_in(destination) == files


def test_more_files_than_one_page_of_a_listing_arrive(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    files = model() | {f"extra/{number:04}.txt": b"%d" % number for number in range(1005)}
    result = fetch(gateway.order(gateway.put(bucket, "m", files), destination, streams=16))
    assert result.files == len(files)
    assert files_in(destination) == files


def test_names_in_chinese_and_empty_files_arrive(gateway: Gateway, bucket: str, destination: Path) -> None:
    files = model() | {"说明/模型 卡片.md": "你好".encode(), "empty": b""}
    fetch(gateway.order(gateway.put(bucket, "m", files), destination))
    assert files_in(destination) == files


def test_changed_files_behind_a_source_are_refused_and_the_old_ones_stay(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    files = model()
    source = gateway.put(bucket, "m", files)
    fetch(gateway.order(source, destination))
    changed = files | {"config.json": b'{"changed": 1}'}
    gateway.client.put_object(Bucket=bucket, Key="m/config.json", Body=changed["config.json"])
    gateway.client.put_object(Bucket=bucket, Key="m/SHA256SUMS", Body=sums(changed))
    with pytest.raises(WeightsError, match=r"changed since they were downloaded.*name a new revision"):
        fetch(gateway.order(source, destination))
    assert files_in(destination) == files


def test_a_damaged_file_on_the_volume_is_replaced_and_the_others_are_kept(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    files = model()
    order = gateway.order(gateway.put(bucket, "m", files), destination)
    fetch(order)
    damaged = destination / "model-00001-of-00002.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    result = fetch(order)
    assert files_in(destination) == files
    assert result.bytes_fetched == len(data)
    assert (destination / READY).exists()


def test_a_kill_between_publishing_and_marking_costs_no_byte(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    order = gateway.order(gateway.put(bucket, "m", model()), destination)
    fetch(order)
    (destination / READY).unlink()
    result = fetch(order)
    assert result.bytes_fetched <= 200  # files whose few bytes prove nothing about sparseness
    assert (destination / READY).exists()


def test_a_directory_with_something_else_in_it_is_not_touched(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    source = gateway.put(bucket, "m", model())
    destination.mkdir(parents=True)
    (destination / "diary.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"not a directory of Slipway's.*diary\.txt.*name a new directory"):
        fetch(gateway.order(source, destination))
    assert files_in(destination) == {"diary.txt": b"mine"}
    with pytest.raises(UsageError, match=r"it is a file"):
        fetch(gateway.order(source, destination / "diary.txt"))
    assert [path.name for path in destination.parent.rglob("*")] == [destination.name, "diary.txt"]


def test_a_copy_that_somebody_made_by_hand_is_verified_and_adopted(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    files = model(size=2_000_000)
    order = gateway.order(gateway.put(bucket, "m", files), destination)
    destination.mkdir(parents=True)
    wrong = "model-00001-of-00002.safetensors"
    for name, data in files.items():
        (destination / name).write_bytes(bytes(len(data) - 1) + b"x" if name == wrong else data)
    os.sync()  # only what is on the disk counts as there
    result = fetch(order)
    assert files_in(destination) == files
    assert result.bytes_fetched <= len(files[wrong]) + 500


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


def wait_for(condition: Any, *, seconds: float = 60, what: str) -> None:
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
        assert process.wait(timeout=20) == 143
    with pytest.raises(Exception, match="terminated"):
        parse_result((tmp_path / "termination-log").read_text(), FetchResult)
    assert parts_in(journal) >= 1
    assert not destination.with_name(f"{destination.name}.owner").exists()


def test_a_flipped_bit_in_the_object_is_caught_and_never_marked_ready(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    source = gateway.put(bucket, "m", model())
    stored = gateway.root / bucket / "m" / "model-00002-of-00002.safetensors"
    with stored.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)[0]
        file.seek(1000)
        file.write(bytes([byte ^ 1]))
    said: list[str] = []
    with pytest.raises(
        WeightsError, match=r"does not have the digest.*after 3 downloads.*upload the file again"
    ):
        fetch(gateway.order(source, destination), say=said.append)
    assert sum("wrong digest" in line for line in said) == 2
    assert not destination.exists()
    assert not list(destination.parent.rglob(READY))


def test_without_a_list_an_objects_own_sha256_is_used(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    files = model()
    gateway.client.create_bucket(Bucket=bucket)
    for name, data in files.items():
        gateway.client.put_object(Bucket=bucket, Key=f"m/{name}", Body=data, ChecksumAlgorithm="SHA256")
    result = fetch(gateway.order(f"s3://{bucket}/m", destination))
    assert result.verified == "sha256"


def test_where_there_is_only_a_crc64nvme_it_is_checked_and_named(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    files = model()
    gateway.client.create_bucket(Bucket=bucket)
    for name, data in files.items():
        gateway.client.put_object(Bucket=bucket, Key=f"m/{name}", Body=data, ChecksumAlgorithm="CRC64NVME")
    order = gateway.order(f"s3://{bucket}/m", destination)
    assert fetch(order).verified == "CRC64NVME"
    assert fetch(order).bytes_fetched == 0
    stored = gateway.root / bucket / "m" / "model-00002-of-00002.safetensors"
    data = bytearray(stored.read_bytes())
    data[1000] ^= 1
    with stored.open("r+b") as file:
        file.write(data)
    with pytest.raises(WeightsError, match=r"does not have the digest.*CRC64NVME is"):
        fetch(order.model_copy(update={"destination": f"{destination}-again"}))


COMPOSITES = ["SHA256", "SHA1", "CRC32C", "CRC32"]


def upload_in_parts(gateway: Gateway, bucket: str, key: str, data: bytes, *, kind: str, whole: bool) -> None:
    """As boto3 and the AWS tools upload what is large: parts of 5 MiB, each with a checksum."""
    place = {"Bucket": bucket, "Key": key}
    type_of = "FULL_OBJECT" if whole else "COMPOSITE"
    upload = gateway.client.create_multipart_upload(**place, ChecksumAlgorithm=kind, ChecksumType=type_of)
    place["UploadId"] = upload["UploadId"]
    size, done = 5 * 1024 * 1024, []
    for number, start in enumerate(range(0, max(1, len(data)), size), start=1):
        body = data[start : start + size]
        answer = gateway.client.upload_part(**place, PartNumber=number, Body=body, ChecksumAlgorithm=kind)
        stated = {name: answer[name] for name in ("ETag", f"Checksum{kind}")}
        done.append({"PartNumber": number, **stated})
    gateway.client.complete_multipart_upload(**place, MultipartUpload={"Parts": done}, ChecksumType=type_of)


@pytest.mark.parametrize(
    ("kind", "whole", "name"),
    [
        *((kind, False, f"part checksums ({kind})") for kind in COMPOSITES),
        *((kind, True, kind) for kind in ("CRC64NVME", "CRC32C", "CRC32")),
    ],
)
def test_what_was_uploaded_in_parts_is_checked_by_what_s3_keeps_of_them(
    gateway: Gateway, bucket: str, destination: Path, kind: str, whole: bool, name: str
) -> None:
    gateway.client.create_bucket(Bucket=bucket)
    files = model(size=12_000_000)
    for path, data in files.items():
        upload_in_parts(gateway, bucket, f"m/{path}", data, kind=kind, whole=whole)
    order = gateway.order(f"s3://{bucket}/m", destination)
    result = fetch(order)
    assert files_in(destination) == files
    assert result.verified == name
    assert fetch(order).bytes_fetched == 0
    stored = gateway.root / bucket / "m" / "model-00002-of-00002.safetensors"
    with stored.open("r+b") as file:
        file.seek(6_000_000)
        byte = file.read(1)
        file.seek(6_000_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(WeightsError, match=r"does not have the digest.*, stated is"):
        fetch(order.model_copy(update={"destination": f"{destination}-again"}), say=lambda line: None)


def test_what_is_not_verified_is_not_called_verified(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    result = fetch(gateway.order(gateway.put(bucket, "m", model(), with_sums=False), destination))
    assert result.verified == "sha256 of our own read; the source gives only sizes"


def without(name: str) -> dict[str, bytes]:
    return {path: data for path, data in model().items() if path != name}


def truncated() -> dict[str, bytes]:
    files = model()
    shard = "model-00002-of-00002.safetensors"
    return files | {shard: files[shard][:-10]}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            without("config.json"),
            r"not a complete model: it lacks config\.json.*upload the whole model directory",
        ),
        (without("tokenizer.json"), r"lacks a tokenizer"),
        (
            without("model-00002-of-00002.safetensors"),
            r"lacks shards.*model-00002-of-00002\.safetensors.*finish the upload",
        ),
        (truncated(), r"a weights file is not whole.*header describes \d+ bytes, the file has \d+"),
        (
            {"sub/" + name: data for name, data in model().items()},
            r"lacks config\.json.*it has sub/config\.json",
        ),
        (model() | {"..\\evil": b"x"}, r"file name that is not safe.*backslash"),
        (model() | {"config.json": b"not json"}, r"is not JSON.*config\.json"),
    ],
    ids=[
        "no config",
        "no tokenizer",
        "no shard",
        "truncated",
        "one level up",
        "unsafe name",
        "config no JSON",
    ],
)
def test_a_source_that_is_no_model_is_refused(
    gateway: Gateway, bucket: str, destination: Path, files: dict[str, bytes], message: str
) -> None:
    source = gateway.put(bucket, "m", files)
    with pytest.raises(WeightsError, match=message):
        fetch(gateway.order(source, destination))
    assert not destination.exists()


def test_a_file_of_the_list_that_was_not_uploaded_is_named(
    gateway: Gateway, bucket: str, destination: Path
) -> None:
    source = gateway.put(bucket, "m", model())
    gateway.client.delete_object(Bucket=bucket, Key="m/tokenizer.json")
    with pytest.raises(WeightsError, match=r"lacks files that its SHA256SUMS lists.*tokenizer\.json"):
        fetch(gateway.order(source, destination))


def test_a_wrong_key_a_missing_bucket_and_bad_credentials_say_what_to_do(
    gateway: Gateway, bucket: str, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.put(bucket, "m", model())
    with pytest.raises(WeightsError, match=r"no objects under s3://.*/wrong.*is the key right\?"):
        fetch(gateway.order(f"s3://{bucket}/wrong", destination))
    with pytest.raises(WeightsError, match=r"there is no bucket not-there"):
        fetch(gateway.order("s3://not-there/m", destination))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(WeightsError, match=r"S3 denied access.*SignatureDoesNotMatch.*in the Secret"):
        fetch(gateway.order(f"s3://{bucket}/m", destination))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(WeightsError, match=r"S3 denied access.*does not know the access key id"):
        fetch(gateway.order(f"s3://{bucket}/m", destination))
    assert not destination.parent.exists()


def test_a_server_that_is_not_there_says_so(gateway: Gateway, destination: Path) -> None:
    with pytest.raises(WeightsError, match=r"the S3 server cannot be reached.*check endpoint_url"):
        fetch(gateway.order("s3://any/m", destination, port=free_port()))


def test_sources_that_cannot_be_understood_are_a_users_mistake(destination: Path) -> None:
    for source in ("ftp://x/y", "s3://only-a-bucket", "modelscope://one"):
        with pytest.raises(UsageError):
            fetch(FetchOrder(source=source, destination=str(destination)))


def test_two_pods_on_one_destination_end_with_one_right_model(
    gateway: Gateway, bucket: str, destination: Path, tmp_path: Path
) -> None:
    files = model(size=40_000_000)
    order = gateway.order(gateway.put(bucket, "m", files), destination)
    results = [tmp_path / "one", tmp_path / "two"]
    pods = [run_pod(order, tmp_path, SLIPWAY_RESULT=str(file)) for file in results]
    assert [pod.wait(timeout=120) for pod in pods] == [0, 0]
    fetched = [parse_result(file.read_text(), FetchResult).bytes_fetched for file in results]
    assert sorted(fetched) == [0, sum(map(len, files.values()))]
    assert files_in(destination) == files


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount a small tmpfs")
def test_a_volume_that_is_too_small_is_refused_before_the_first_byte(
    gateway: Gateway, bucket: str, tmp_path: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", volume], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr!r}")
    try:
        order = gateway.order(gateway.put(bucket, "m", model()), volume / "tiny" / "0123456789ab")
        with pytest.raises(WeightsError, match=r"too little free space.*enlarge the volume"):
            fetch(order)
    finally:
        subprocess.run(["umount", volume], check=True)
