"""Weights from S3 and what speaks its protocol.

botocore lists and says what is stated of an object's bytes; ranges, retries and verification are the engine's, because
boto3's own ranged download accepts a flipped bit and does not continue in another process.
"""

# ruff: noqa: TID253 - this module itself is imported only when such a source is used
from __future__ import annotations

import base64
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from slipway.errors import UsageError, WeightsError, bounded
from slipway.weights.checksums import LENGTHS, Checksum, is_known
from slipway.weights.connect import Refused
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
from slipway.weights.sources.base import RENEWAL_SECONDS, TransientError
from slipway.weights.sources.credentials import ca_bundle
from slipway.weights.sources.s3_access import Access
from slipway.weights.sources.s3_faults import (
    RENEWABLE,
    explain_error,
    explain_fault,
    explain_range,
    fault_of,
)
from slipway.weights.wire import Request

_LONGEST_SUMS = 16 * 1024 * 1024
_MOST_UNEVEN_PARTS = 1000
"""Of an object whose parts differ in length each is asked for; of others the first and the last tell."""


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
            self._access = Access(order)
        except (BotoCoreError, ValueError) as error:
            raise UsageError(
                "the S3 settings cannot be used", about=self._endpoint, why=str(error)
            ) from error

    def manifest(self) -> Manifest:
        """List the prefix; digests from SHA256SUMS, else what S3 states of the objects."""
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
            raise explain_error(error, source=self._source, endpoint=self._endpoint) from error
        return make_manifest(
            source=self._source,
            files=(replace(entry, sha256=sums.get(entry.path) or entry.sha256) for entry in present.values()),
        )

    def request(self, entry: FileEntry, *, start: int, stop: int) -> Request:
        """Sign the request for a range of the very version that was listed, with the keys as they are now."""
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if entry.etag:
            headers["If-Match"] = entry.etag
        try:
            keys = self._access.keys()
            url = self._access.sign(
                bucket=self._bucket,
                key=self._prefix + entry.path,
                version=self._versions.get(entry.path),
                headers=headers,
                keys=keys,
            )
        except BotoCoreError as error:
            if isinstance(error, NoCredentialsError):
                raise explain_error(error, source=self._source, endpoint=self._endpoint) from error
            # A role's keys are fetched from a server too.
            raise TransientError(bounded(f"{type(error).__name__}: {error}", limit=160)) from error
        # A signature is made for one host: a redirect is answered with an error that names the region.
        return Request(url=url, headers=headers, ca_bundle=ca_bundle(), signed_by=keys, follow=False)

    def answered(self, entry: FileEntry, headers: Mapping[str, str]) -> None:
        """Note the version that a range came from: it stays readable when the object is replaced."""
        self._note_version(entry.path, headers.get("x-amz-version-id"))

    def refused(self, entry: FileEntry, request: Request, answer: Refused) -> Exception:
        """Say what an answer means that is not the range; keys that have expired may be others by now."""
        fault = fault_of(answer)
        if fault.code in RENEWABLE or fault.status in {401, 403}:
            # Also keys of which one was read before and one after the Secret's files were replaced.
            if self._access.keys_now() != request.signed_by:
                return TransientError(f"{fault.code}; the keys were renewed meanwhile")
            if fault.code in RENEWABLE and self._access.may_be_renewed():
                return TransientError(
                    f"{fault.code}; waiting for new keys in the Secret",
                    wait=RENEWAL_SECONDS,
                    lasting=explain_fault(fault, source=self._source, endpoint=self._endpoint),
                )
        return explain_range(fault, source=self._source, path=entry.path, endpoint=self._endpoint)

    def _list(self) -> list[FileEntry]:
        entries: list[FileEntry] = []
        pages = self._access.client.get_paginator("list_objects_v2").paginate(
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
        answer = self._access.client.get_object(Bucket=self._bucket, Key=self._prefix + SUMS)
        return parse_sums(answer["Body"].read().decode("utf-8", "replace"), about=about)

    def _stated(self, entry: FileEntry) -> FileEntry:
        """Add what the server states of an object's bytes: its sha256, else another checksum."""
        head = self._head(entry.path)
        self._note_version(entry.path, head.get("VersionId") if head.get("ETag") == entry.etag else None)
        whole = head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        for kind in LENGTHS if entry.size else ():
            value, count = _parse_checksum(head.get(f"Checksum{kind}"), kind=kind)
            if not value or not is_known(kind):
                continue
            if count == 0 and whole:
                if kind == "SHA256":
                    return replace(entry, sha256=value)
                return replace(entry, checksum=Checksum(kind, value))
            if count and (lengths := self._part_lengths(entry, count=count)):
                return replace(entry, checksum=Checksum(kind, value, lengths))
        return entry

    def _part_lengths(self, entry: FileEntry, *, count: int) -> tuple[int, ...]:
        """In what parts an object was uploaded; empty when the server does not tell."""

        def length(number: int) -> int:
            head = self._head(entry.path, PartNumber=number)
            # A server that does not know part numbers answers with the whole object.
            return int(head["ContentLength"]) if head.get("PartsCount") == count else -1

        first, last = length(1), length(count)
        if min(first, last) < 0:
            return ()
        if first * (count - 1) + last == entry.size:
            return (*[first] * (count - 1), last)
        lengths = tuple(map(length, range(1, count + 1))) if count <= _MOST_UNEVEN_PARTS else ()
        return lengths if sum(lengths) == entry.size and min(lengths, default=0) > 0 else ()

    def _head(self, path: str, **more: Any) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = self._access.client.head_object(
            Bucket=self._bucket, Key=self._prefix + path, ChecksumMode="ENABLED", **more
        )
        return answer

    def _note_version(self, path: str, version: str | None) -> None:
        # What was there before a bucket had versions has the version 'null', which an overwrite replaces.
        if version and version != "null":
            self._versions.setdefault(path, version)


def _parse_checksum(stated: str | None, *, kind: str) -> tuple[str, int]:
    """A checksum as S3 writes it: base64, and after a dash how many parts it is the checksum of; "" for none."""
    encoded, _, count = (stated or "").partition("-")
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        return "", 0
    if len(data) != LENGTHS[kind] or (count and not count.isdigit()):
        return "", 0
    return data.hex(), int(count or 0)
