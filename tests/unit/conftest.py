"""Fixtures of the unit tests: a catalog of one's own to break, and a real S3 server."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from slipway.weights.manifest import SUMS
from tests.hub.server import Hub, Repository, serving
from tests.unit.weights_gateway import NEW, OLD, Gateway, fill, model, serving_s3, sums

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """A copy of the project's include directory."""
    return Path(shutil.copytree(PROJECT / "include", tmp_path / "include"))


@pytest.fixture
def change(include: Path) -> Callable[..., None]:
    """Change keys of one record: ``change("endpoints/qwen3-tiny", replicas=2)``; None removes a key."""

    def apply(record: str, **values: object) -> None:
        path = include / "catalog" / f"{record}.yaml"
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        data.update(values)
        kept = {key: value for key, value in data.items() if value is not None}
        path.write_text(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True), encoding="utf-8")

    return apply


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A real S3 server for all tests of downloads."""
    with serving_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model whose branch master is at the old commit."""
    files = model() | {"sub/目录.txt": b"x"}
    repository = Repository(
        commits={OLD: files, NEW: files | {"config.json": b'{"new": true}'}}, branches={"master": OLD}
    )
    with serving(Hub(models={"org/tiny": repository})) as running:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.url)
        yield running


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    """A claim's mount with a model in it, as a cache of links would hold it."""
    files = model()
    mount = tmp_path / "claim"
    fill(mount / "models" / "tiny", files | {SUMS: sums(files)})
    return mount


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that nobody has signed, and a server's side of it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    subprocess.run([*command, "-keyout", key, "-out", certificate, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context
