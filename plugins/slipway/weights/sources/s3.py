"""Weights from S3 and what speaks its protocol.

Listing and reading go through boto3 for signing, credentials and their renewal; ranges, retries and
verification are ours, because boto3's own ranged download accepts a flipped bit and does not continue in another
process.

Credentials are those of a mounted Secret, else what boto3's own chain finds: the environment, a shared file, a role
of the pod (IRSA), the instance's. boto3 renews roles by itself; keys that a server calls expired are read again.
"""

# ruff: noqa: TID253 - this module itself is imported only when such a source is used
from __future__ import annotations

import base64
import re
import threading
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from slipway.errors import UsageError, WeightsError, bounded
from slipway.weights.digest import find_crc64nvme
from slipway.weights.manifest import (
    READY,
    SUMS,
    FileEntry,
    Manifest,
    check_sums_complete,
    make_manifest,
    parse_sums,
)
from slipway.weights.orders import FetchOrder
from slipway.weights.sources.base import TransientError, is_transient, parse_retry_after
from slipway.weights.sources.credentials import ca_bundle, credential
from slipway.weights.wire import Refused, Request

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_KEY_ID, _SECRET_KEY, _SESSION_TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
_RENEWABLE = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId", "RequestExpired"}
_CONNECT_SECONDS = 10
_PIECE = 128 * 1024  # as for other sources over HTTP (web.py)
_SIGNED_SECONDS = 3600
"""A signature is used at once; it holds this long so that clocks may differ."""
_ERROR_CODE = re.compile(rb"<Code>([^<]{1,100})</Code>")
_ERROR_MESSAGE = re.compile(rb"<Message>([^<]{1,300})</Message>")
_LONGEST_SUMS = 16 * 1024 * 1024

_DENIED = {
    "AccessDenied": "the keys are valid but may not list or read here",
    "AllAccessDisabled": "the keys are valid but may not list or read here",
    "403": "the server refused without a reason",
    "InvalidAccessKeyId": "the server does not know the access key id",
    "XAdminUserNotFound": "the server (versitygw) does not know the access key id",
    "SignatureDoesNotMatch": "the secret key is wrong, or a proxy changes requests",
    "ExpiredToken": "the session token has expired",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "this machine's clock differs too much from the server's",
    "AuthorizationHeaderMalformed": "the region that requests are signed for is not the server's",
}


class S3Source:
    """The objects below a prefix of a bucket."""

    def __init__(self, order: FetchOrder) -> None:
        parts = urlsplit(order.source)
        self._bucket, prefix = parts.netloc, parts.path.strip("/")
        if not self._bucket or not prefix or parts.query:
            raise UsageError(
                "an S3 source needs a bucket and a prefix", about=order.source, remedy="s3://bucket/prefix"
            )
        self._prefix = f"{prefix}/"
        self._source = order.source
        # Filled while listing or by a file's first range; the version stays readable when the object is replaced.
        self._versions: dict[str, str] = {}
        self._endpoint = order.s3.endpoint_url or f"Amazon S3, {order.s3.region}"
        try:
            self._lister = _client(order, attempts=4)
            self._reader = _Reader(order)
        except (BotoCoreError, ValueError) as error:
            raise UsageError(
                "the S3 settings cannot be used", about=self._endpoint, why=str(error)
            ) from error

    def manifest(self) -> Manifest:
        """List the prefix; digests from SHA256SUMS, else from the objects' full SHA-256 or CRC64NVME checksums."""
        try:
            found = self._list()
            present = {entry.path: entry for entry in found}
            sums = self._read_sums(present.pop(SUMS, None))
            present.pop(READY, None)
            if not present:
                raise WeightsError(
                    f"no objects under {self._source}",
                    about=self._endpoint,
                    remedy="is the key right? A prefix names a directory: s3://bucket/path/to/model",
                )
            check_sums_complete(sums, present=present, source=self._source)
            unknown = [entry for entry in present.values() if entry.path not in sums]
            with ThreadPoolExecutor(max_workers=8, thread_name_prefix="head") as pool:
                present |= {entry.path: entry for entry in pool.map(self._stated, unknown)}
        except (ClientError, BotoCoreError) as error:
            raise self._explain(error) from error
        return make_manifest(
            source=self._source,
            files=(replace(entry, sha256=sums.get(entry.path) or entry.sha256) for entry in present.values()),
        )

    def read(self, entry: FileEntry, *, start: int, stop: int) -> Generator[bytes]:
        """Read a range of the very version that was listed (If-Match)."""
        key = self._prefix + entry.path
        wanted: dict[str, Any] = {"IfMatch": entry.etag} if entry.etag else {}
        if version := self._versions.get(entry.path):
            wanted["VersionId"] = version
        client = self._reader.client
        try:
            answer = client.get_object(
                Bucket=self._bucket, Key=key, Range=f"bytes={start}-{stop - 1}", **wanted
            )
        except ClientError as error:
            if _code(error) in _RENEWABLE and self._reader.renew(client):
                raise TransientError(f"{_code(error)}; the keys were renewed meanwhile") from error
            raise self._read_failure(error, entry=entry) from error
        except BotoCoreError as error:
            raise self._connection_failure(error) from error
        body = answer["Body"]
        self._note_version(entry.path, answer.get("VersionId"))
        try:
            got = answer.get("ContentRange", "")
            whole = start == 0 and stop == entry.size
            if got != f"bytes {start}-{stop - 1}/{entry.size}" and not (whole and not got):
                raise TransientError(
                    f"the server answered with the range {got or 'whole file'!r}, not what was asked"
                )
            while piece := body.read(_PIECE):
                yield piece
        except (BotoCoreError, OSError) as error:
            raise self._connection_failure(error) from error
        finally:
            body.close()

    def request(self, entry: FileEntry, *, start: int, stop: int) -> Request:
        """Sign the request for a range, for the engine to send; see ``read``."""
        client = self._reader.client
        wanted: dict[str, Any] = {"Range": f"bytes={start}-{stop - 1}"}
        headers = {"Range": wanted["Range"]}
        if entry.etag:
            wanted["IfMatch"] = headers["If-Match"] = entry.etag
        if version := self._versions.get(entry.path):
            wanted["VersionId"] = version
        try:
            url = client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._bucket, "Key": self._prefix + entry.path, **wanted},
                ExpiresIn=_SIGNED_SECONDS,
            )
        except BotoCoreError as error:
            raise self._connection_failure(error) from error
        return Request(url=url, headers=headers, ca_bundle=ca_bundle(), signed_by=client)

    def answered(self, entry: FileEntry, headers: Mapping[str, str]) -> None:
        """Note the version that a range came from: it stays readable when the object is replaced."""
        self._note_version(entry.path, headers.get("x-amz-version-id"))

    def refused(self, entry: FileEntry, request: Request, answer: Refused) -> Exception:
        """Say what an answer to a request of ours means that is not the range."""
        found = _ERROR_CODE.search(answer.body)
        code = found[1].decode("utf-8", "replace") if found else str(answer.status)
        message = _ERROR_MESSAGE.search(answer.body)
        error = ClientError(
            {
                "Error": {"Code": code, "Message": message[1].decode("utf-8", "replace") if message else ""},
                "ResponseMetadata": {"HTTPStatusCode": answer.status, "HTTPHeaders": dict(answer.headers)},  # type: ignore[typeddict-item]
            },
            "GetObject",
        )
        if code in _RENEWABLE and self._reader.renew(cast("S3Client", request.signed_by)):
            return TransientError(f"{code}; the keys were renewed meanwhile")
        return self._read_failure(error, entry=entry)

    def _list(self) -> list[FileEntry]:
        entries: list[FileEntry] = []
        pages = self._lister.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        )
        for page in pages:
            for item in page.get("Contents", []):
                path = item["Key"][len(self._prefix) :]
                # Consoles make 'directories' as empty objects whose name ends in a slash: they are no files.
                if (not path or path.endswith("/")) and not item["Size"]:
                    continue
                entries.append(FileEntry(path=path, size=item["Size"], etag=item.get("ETag")))
        return entries

    def _read_sums(self, entry: FileEntry | None) -> dict[str, str]:
        if entry is None:
            return {}
        about = f"{self._source}/{SUMS}"
        if entry.size > _LONGEST_SUMS:
            raise WeightsError("a list of digests is far too long", about=about, why=f"{entry.size} bytes")
        body = self._lister.get_object(Bucket=self._bucket, Key=self._prefix + SUMS)["Body"].read()
        return parse_sums(body.decode("utf-8", "replace"), about=about)

    def _stated(self, entry: FileEntry) -> FileEntry:
        """Add what the server states of an object's bytes: its sha256, else its CRC64NVME."""
        head = self._lister.head_object(
            Bucket=self._bucket, Key=self._prefix + entry.path, ChecksumMode="ENABLED"
        )
        self._note_version(entry.path, head.get("VersionId") if head.get("ETag") == entry.etag else None)
        # Of a multipart upload SHA-256 is a checksum of checksums ('…-3'): no digest of the file.
        whole = head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        sha256 = _hex_of(head.get("ChecksumSHA256"), length=32) if whole else None
        crc = _hex_of(head.get("ChecksumCRC64NVME"), length=8) if whole and find_crc64nvme() else None
        return replace(entry, sha256=sha256, crc64nvme=crc)

    def _note_version(self, path: str, version: str | None) -> None:
        # What was there before a bucket had versions has the version 'null', which an overwrite replaces.
        if version and version != "null":
            self._versions.setdefault(path, version)

    def _read_failure(self, error: ClientError, *, entry: FileEntry) -> Exception:
        status, code = _status(error), _code(error)
        if status == 412 or code in {"NoSuchKey", "404", "InvalidRange"}:
            return WeightsError(
                "a file behind the source changed during the download",
                about=f"{self._source}/{entry.path}",
                why=f"the server answered {code}",
                remedy="start again when the upload is finished",
            )
        if is_transient(status) or code in {"RequestTimeout", "SlowDown"}:
            headers: Mapping[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            return TransientError(
                f"{status} {code}", retry_after=parse_retry_after(headers.get("retry-after"))
            )
        return self._explain(error)

    def _connection_failure(self, error: Exception) -> Exception:
        if isinstance(error, NoCredentialsError | SSLError):
            return self._explain(error)
        return TransientError(bounded(f"{type(error).__name__}: {error}", limit=160))

    def _explain(self, error: Exception) -> WeightsError:
        about = f"{self._source} at {self._endpoint}"
        if isinstance(error, ClientError):
            code = _code(error)
            message = bounded(str(error.response.get("Error", {}).get("Message", "")), limit=160)
            if code == "NoSuchBucket":
                return WeightsError(
                    f"there is no bucket {self._bucket}",
                    about=about,
                    remedy="correct the source, or make the bucket",
                )
            if code in _DENIED or _status(error) == 403:
                return WeightsError(
                    "S3 denied access",
                    about=about,
                    why=f"{code}: {_DENIED.get(code, message)}",
                    remedy="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the Secret and their rights",
                )
            return WeightsError(
                "S3 answered with an error", about=about, why=f"{_status(error)} {code}: {message}"
            )
        if isinstance(error, NoCredentialsError):
            return WeightsError(
                "there are no S3 credentials",
                about=about,
                remedy="give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to the pod from a Secret",
            )
        if isinstance(error, SSLError):
            return WeightsError(
                "the S3 server's certificate is not trusted",
                about=about,
                why=str(error),
                remedy="name the server's CA bundle in AWS_CA_BUNDLE",
            )
        if isinstance(
            error, EndpointConnectionError | ConnectTimeoutError | BotoConnectionError | HTTPClientError
        ):
            return WeightsError(
                "the S3 server cannot be reached",
                about=about,
                why=bounded(str(error), limit=200),
                remedy="check endpoint_url, and that the cluster's network lets this pod out to it",
            )
        return WeightsError("S3 failed", about=about, why=bounded(f"{type(error).__name__}: {error}"))


class _Reader:
    """The client that reads, made anew when its keys have expired and others are there."""

    def __init__(self, order: FetchOrder) -> None:
        self._order, self._lock = order, threading.Lock()
        self._keys = _keys()
        self.client = _client(order, attempts=1)

    def renew(self, refused: S3Client) -> bool:
        """Read the keys again; returns whether a request with the refused client is worth another try."""
        with self._lock:
            if self.client is not refused:
                return True
            keys = _keys()
            if keys == self._keys:
                return False
            self._keys, self.client = keys, _client(self._order, attempts=1)
            return True


def _keys() -> tuple[str | None, ...]:
    """The keys that boto3 would find now; reading a role's renews it when it is due."""
    if credential(_KEY_ID):
        return tuple(credential(name) for name in (_KEY_ID, _SECRET_KEY, _SESSION_TOKEN))
    found = boto3.session.Session().get_credentials()
    if found is None:
        return ()
    frozen = found.get_frozen_credentials()
    return (frozen.access_key, frozen.secret_key, frozen.token)


def _client(order: FetchOrder, *, attempts: int) -> S3Client:
    # Without a key id of ours all three stay None, and boto3 asks its own chain.
    key_id = credential(_KEY_ID)
    return boto3.session.Session().client(
        "s3",
        endpoint_url=order.s3.endpoint_url,
        region_name=order.s3.region,
        verify=ca_bundle(),
        aws_access_key_id=key_id,
        aws_secret_access_key=credential(_SECRET_KEY) if key_id else None,
        aws_session_token=credential(_SESSION_TOKEN) if key_id else None,
        config=Config(
            signature_version="s3v4",
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=order.stall_seconds,
            max_pool_connections=order.streams + 8,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            s3={"addressing_style": order.s3.addressing},
            # Ranges carry no usable checksum and whole files are hashed by us: don't pay for it twice.
            response_checksum_validation="when_required",
        ),
    )


def _hex_of(encoded: str | None, *, length: int) -> str | None:
    if not encoded or "-" in encoded:
        return None
    data = base64.b64decode(encoded)
    return data.hex() if len(data) == length else None


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
