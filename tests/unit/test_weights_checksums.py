"""What S3 itself states of objects, of the whole or of their parts, is what they are checked by."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from slipway.errors import WeightsError
from slipway.weights import fetch
from tests.unit.weights_gateway import KEYS, Gateway, files_in, model


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
