"""Weights from S3 and what speaks its protocol.

Listing and reading go through boto3 for signing, credentials and their renewal; ranges, retries and
verification are ours, because boto3's own ranged download accepts a flipped bit (research/download.md,
finding 3) and does not continue in another process (finding 4).
"""

# ruff: noqa: TID253 - this module itself is imported only when such a source is used
from __future__ import annotations

import base64
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any
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
from slipway.weights.sources.base import BLOCK, TransientError, is_transient, parse_retry_after

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONNECT_SECONDS = 10
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
        self._endpoint = order.s3.endpoint_url or f"Amazon S3, {order.s3.region}"
        try:
            self._lister = _client(order, attempts=4)
            self._reader = _client(order, attempts=1)
        except (BotoCoreError, ValueError) as error:
            raise UsageError(
                "the S3 settings cannot be used", about=self._endpoint, why=str(error)
            ) from error

    def manifest(self) -> Manifest:
        """List the prefix; digests from SHA256SUMS, else from the objects' full SHA-256 checksums."""
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
                stated = dict(
                    zip((entry.path for entry in unknown), pool.map(self._checksum, unknown), strict=True)
                )
        except (ClientError, BotoCoreError) as error:
            raise self._explain(error) from error
        return make_manifest(
            source=self._source,
            files=(
                replace(entry, sha256=sums.get(entry.path) or stated.get(entry.path))
                for entry in present.values()
            ),
        )

    def read(self, entry: FileEntry, *, start: int, stop: int) -> Generator[bytes]:
        """Read a range of the very version that was listed (If-Match)."""
        key = self._prefix + entry.path
        match: dict[str, Any] = {"IfMatch": entry.etag} if entry.etag else {}
        try:
            answer = self._reader.get_object(
                Bucket=self._bucket, Key=key, Range=f"bytes={start}-{stop - 1}", **match
            )
        except ClientError as error:
            raise self._read_failure(error, entry=entry) from error
        except BotoCoreError as error:
            raise self._connection_failure(error) from error
        body = answer["Body"]
        try:
            got = answer.get("ContentRange", "")
            whole = start == 0 and stop == entry.size
            if got != f"bytes {start}-{stop - 1}/{entry.size}" and not (whole and not got):
                raise TransientError(
                    f"the server answered with the range {got or 'whole file'!r}, not what was asked"
                )
            while piece := body.read(BLOCK):
                yield piece
        except (BotoCoreError, OSError) as error:
            raise self._connection_failure(error) from error
        finally:
            body.close()

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

    def _checksum(self, entry: FileEntry) -> str | None:
        head = self._lister.head_object(
            Bucket=self._bucket, Key=self._prefix + entry.path, ChecksumMode="ENABLED"
        )
        encoded = head.get("ChecksumSHA256")
        # Of a multipart upload SHA-256 is a checksum of checksums ('…-3'): no digest of the file.
        if not encoded or "-" in encoded or head.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
            return None
        digest = base64.b64decode(encoded).hex()
        return digest if len(digest) == 64 else None

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


def _client(order: FetchOrder, *, attempts: int) -> S3Client:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=order.s3.endpoint_url,
        region_name=order.s3.region,
        config=Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=order.stall_seconds,
            max_pool_connections=order.streams + 8,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            s3={"addressing_style": order.s3.addressing},
            # Ranges carry no usable checksum and whole files are hashed by us: don't pay for it twice.
            response_checksum_validation="when_required",
        ),
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
