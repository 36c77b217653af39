"""Where evidence and raw results lie, and that they come back whole."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import ReleaseError, UsageError
from slipway.releases.artifacts import Artifacts, DirectoryArtifacts, S3Artifacts, checked_name


@pytest.fixture
def s3() -> tuple[S3Artifacts, Stubber]:
    client = boto3.client("s3", region_name="x", aws_access_key_id="a", aws_secret_access_key="b")
    return S3Artifacts(bucket="kept", prefix="slipway", client=client), Stubber(client)


def test_what_is_put_comes_back_by_its_reference(tmp_path: Path) -> None:
    store = DirectoryArtifacts(tmp_path / "artifacts")
    reference = store.put("evidence/qwen3-tiny/1.txt", b"\x00\xff")
    assert store.get(reference) == b"\x00\xff"
    assert Path(reference).is_absolute()
    assert stat.S_IMODE(Path(reference).stat().st_mode) == 0o600
    store.put("evidence/qwen3-tiny/1.txt", b"again")
    assert store.get(reference) == b"again"
    assert [path.name for path in Path(reference).parent.iterdir()] == ["1.txt"]


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReleaseError, match=r"could not be stored.*SLIPWAY_ARTIFACTS"):
        DirectoryArtifacts(tmp_path / "file").put("x", b"")


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="could not be read"):
        DirectoryArtifacts(tmp_path).get(str(tmp_path / "gone"))


def test_a_reference_that_leads_out_of_the_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    for reference in (str(tmp_path / "secret"), str(tmp_path / "artifacts" / ".." / "secret"), "/etc/passwd"):
        with pytest.raises(ReleaseError, match="another store"):
            DirectoryArtifacts(tmp_path / "artifacts").get(reference)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "."])
def test_a_name_that_leads_out_of_the_store_is_refused(name: str) -> None:
    with pytest.raises(ReleaseError, match="cannot have this name"):
        checked_name(name)


@given(st.text(alphabet="ab./\\\n", max_size=12))
def test_no_accepted_name_leads_out_of_the_root(name: str) -> None:
    try:
        path = checked_name(name)
    except ReleaseError:
        return
    root = Path("/root/of/store")
    assert Path("/root/of/store", path).resolve().is_relative_to(root)
    assert Path(root, path) != root


def test_s3_has_the_same_form(s3: tuple[S3Artifacts, Stubber]) -> None:
    store, stub = s3
    stub.add_response("put_object", {}, {"Bucket": "kept", "Key": "slipway/benchmarks/1.json", "Body": b"{}"})
    body = StreamingBody(io.BytesIO(b"{}"), 2)
    stub.add_response("get_object", {"Body": body}, {"Bucket": "kept", "Key": "slipway/benchmarks/1.json"})
    with stub:
        reference = store.put("benchmarks/1.json", b"{}")
        assert reference == "s3://kept/slipway/benchmarks/1.json"
        assert store.get(reference) == b"{}"
        with pytest.raises(ReleaseError, match="another store"):
            store.get("s3://kept/slipway-other/1.json")


def test_s3_refusing_is_one_line(s3: tuple[S3Artifacts, Stubber]) -> None:
    store, stub = s3
    stub.add_client_error("put_object", "NoSuchBucket", "The specified bucket does not exist")
    with stub, pytest.raises(ReleaseError, match=r"s3://kept/slipway/x\): .*NoSuchBucket"):
        store.put("x", b"")


@pytest.mark.parametrize(
    ("value", "bucket", "prefix"),
    [
        ("s3://kept", "kept", ""),
        ("s3://kept/a/b/", "kept", "a/b"),
        ("s3://kept/a?addressing=virtual", "kept", "a"),
    ],
)
def test_the_environment_names_a_bucket(
    value: str, bucket: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_ARTIFACTS", value)
    store = Artifacts.open()
    assert isinstance(store, S3Artifacts)
    assert (store.bucket, store.prefix) == (bucket, prefix)


@pytest.mark.parametrize(
    "value", ["relative", "s3://", "s3:///prefix", "s3://kept?region=x", "s3://k?addressing=y"]
)
def test_a_place_that_cannot_be_meant_is_a_users_mistake(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_ARTIFACTS", value)
    with pytest.raises(UsageError, match="SLIPWAY_ARTIFACTS"):
        Artifacts.open()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/lib/slipway/history.db", "/var/lib/slipway/artifacts"),
        ("postgresql://ada@host/history", "/data/slipway/artifacts"),
        ("", "/data/slipway/artifacts"),
    ],
)
def test_by_default_artefacts_lie_beside_the_history(
    url: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIPWAY_ARTIFACTS", raising=False)
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", url)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    store = Artifacts.open()
    assert isinstance(store, DirectoryArtifacts)
    assert str(store.root) == expected
