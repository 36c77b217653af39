"""S3 as a source: versions, private certificates, both ways of addressing, and keys that expire in the middle."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slipway.errors import WeightsError
from slipway.weights import fetch, parts
from slipway.weights.manifest import FileEntry
from slipway.weights.orders import FetchOrder, S3Settings
from slipway.weights.sources import Source, TransientError, open_source
from tests.unit.weights_gateway import KEYS, read_range, serving_s3


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment alone."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "SLIPWAY_CREDENTIALS"))]:
        monkeypatch.delenv(name)
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody has signed, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    paths = directory / "ca.crt", directory / "tls.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
    )
    return paths


def source_at(url: str, **settings: Any) -> Source:
    s3 = S3Settings.model_validate({"endpoint_url": url, **settings})
    return open_source(FetchOrder(source="s3://bucket/m", destination="/v/m/k", s3=s3))


def whole(source: Source, entry: FileEntry) -> bytes:
    return read_range(source, entry, start=0, stop=entry.size)


def test_an_object_that_is_replaced_after_its_first_range_is_read_on_in_its_old_version(
    tmp_path: Path,
) -> None:
    with serving_s3(tmp_path, backend=("--versioning-dir", str(tmp_path / "versions"))) as server:
        s3, port = server.client, server.port
        s3.create_bucket(Bucket="bucket")
        s3.put_bucket_versioning(Bucket="bucket", VersioningConfiguration={"Status": "Enabled"})
        s3.put_object(Bucket="bucket", Key="m/model.bin", Body=b"old" * 1000)
        source = source_at(f"http://127.0.0.1:{port}")
        (entry,) = source.manifest().files
        first = read_range(source, entry, start=0, stop=1500)
        s3.put_object(Bucket="bucket", Key="m/model.bin", Body=b"new" * 1000)
        rest = read_range(source, entry, start=1500, stop=3000)
        assert first + rest == b"old" * 1000


def test_an_object_that_is_replaced_without_versions_is_refused(tmp_path: Path) -> None:
    with serving_s3(tmp_path) as server:
        s3, port = server.client, server.port
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="m/model.bin", Body=b"old")
        source = source_at(f"http://127.0.0.1:{port}")
        (entry,) = source.manifest().files
        s3.put_object(Bucket="bucket", Key="m/model.bin", Body=b"new")
        with pytest.raises(WeightsError, match="changed during the download"):
            whole(source, entry)


def test_a_servers_own_certificate_is_trusted_by_the_bundle_of_the_secret(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, key = certificate
    with serving_s3(tmp_path, "--cert", str(bundle), "--key", str(key), bundle=bundle) as server:
        s3, port = server.client, server.port
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="m/config.json", Body=b"{}")
        with pytest.raises(WeightsError, match=r"certificate is not trusted.*AWS_CA_BUNDLE"):
            source_at(f"https://127.0.0.1:{port}").manifest()
        monkeypatch.setenv("SLIPWAY_CREDENTIALS", str(bundle.parent))
        source = source_at(f"https://127.0.0.1:{port}")
        (entry,) = source.manifest().files
        assert whole(source, entry) == b"{}"


def test_both_ways_of_addressing_reach_the_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *rest: Any) -> Any:
        return found("127.0.0.1" if host.endswith(".localhost") else host, *rest)

    found = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with serving_s3(tmp_path, "--virtual-domain", "localhost") as server:
        s3, port = server.client, server.port
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="m/config.json", Body=b"{}")
        for addressing, host in (("path", "127.0.0.1"), ("virtual", "localhost")):
            source = source_at(f"http://{host}:{port}", addressing=addressing)
            (entry,) = source.manifest().files
            assert whole(source, entry) == b"{}", addressing


@dataclass
class Store:
    """What speaks enough of S3 for one object, and knows which session tokens are good.

    Attributes:
        expired: called when a token is refused, as the Secret's file would be renewed then.
    """

    good: set[str]
    names: tuple[str, ...] = ("model.bin",)
    expired: Callable[[], None] = lambda: None
    tokens: list[str] = field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: Store

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        token = self.headers.get("x-amz-security-token") or query.get("X-Amz-Security-Token", [""])[0]
        self.store.tokens.append(token)
        if "list-type" in query:
            items = "".join(
                f"<Contents><Key>m/{name}</Key><Size>4</Size><ETag>&quot;e&quot;</ETag></Contents>"
                for name in self.store.names
            )
            return self._send(
                200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
            )
        if token not in self.store.good:
            self.store.expired()
            return self._send(
                400, "<Error><Code>ExpiredToken</Code><Message>it has expired</Message></Error>"
            )
        return self._send(206, "data", {"Content-Range": "bytes 0-3/4", "ETag": '"e"'})

    def do_HEAD(self) -> None:
        self._send(200, "", {"ETag": '"e"'})

    def _send(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/xml", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(store: Store) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": store}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mounted Secret with keys and a session token, instead of the environment's."""
    for name, value in {**KEYS, "AWS_SESSION_TOKEN": "first"}.items():
        monkeypatch.delenv(name, raising=False)
        (tmp_path / name).write_text(value)
    monkeypatch.setenv("SLIPWAY_CREDENTIALS", str(tmp_path))
    return tmp_path


def test_a_session_token_that_expires_in_the_middle_is_read_again_and_the_download_goes_on(
    secret: Path,
) -> None:
    store = Store(good={"first", "second"})
    with serving(store) as url:
        source = source_at(url)
        (entry,) = source.manifest().files
        assert whole(source, entry) == b"data"
        store.good.discard("first")
        store.expired = lambda: (secret / "AWS_SESSION_TOKEN").write_text("second")  # type: ignore[assignment, return-value]
        with pytest.raises(TransientError, match=r"ExpiredToken.*renewed"):
            whole(source, entry)
        assert whole(source, entry) == b"data"
    assert store.tokens[-1] == "second"


def test_a_session_token_that_nobody_renews_is_waited_for_and_then_said(
    secret: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parts, "_LONGEST_WAIT", 0.01)
    said: list[str] = []
    with serving(Store(good=set(), names=("config.json", "tokenizer.json", "model.bin"))) as url:
        order = FetchOrder(
            source="s3://bucket/m",
            destination=str(tmp_path / "v" / "m" / "k"),
            s3=S3Settings(endpoint_url=url),
        )
        with pytest.raises(WeightsError, match=r"S3 denied access.*session token has expired") as caught:
            fetch(order, say=said.append)
    assert "waiting for new keys in the Secret" in " ".join(said)
    assert "first" not in str(caught.value) + " ".join(said)


def test_keys_of_the_environment_cannot_change_so_an_expired_one_fails_at_once(
    secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*KEYS, "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, (secret / name).read_text())
    monkeypatch.delenv("SLIPWAY_CREDENTIALS")
    with serving(Store(good=set())) as url:
        source = source_at(url)
        (entry,) = source.manifest().files
        with pytest.raises(WeightsError, match=r"S3 denied access.*session token has expired"):
            whole(source, entry)


def test_keys_of_a_shared_file_are_found_by_botos_own_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name)
    shared = tmp_path / "credentials"
    shared.write_text(
        "[default]\naws_access_key_id = a\naws_secret_access_key = b\naws_session_token = shared\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
    store = Store(good={"shared"})
    with serving(store) as url:
        source = source_at(url)
        (entry,) = source.manifest().files
        assert whole(source, entry) == b"data"
