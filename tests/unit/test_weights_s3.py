"""Downloads from a real S3 server (versitygw): what arrives is right, and what is wrong is said."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from slipway.errors import UsageError, WeightsError
from slipway.pods import parse_result
from slipway.weights import FetchOrder, FetchResult, fetch
from slipway.weights.manifest import READY
from tests.unit.weights_gateway import KEYS, Gateway, files_in, free_port, model, run_pod, sums


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
    assert [pod.wait(timeout=600) for pod in pods] == [0, 0]
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
