"""What is too large for a row: evidence of failures and raw benchmark results, in a directory or in S3.

``SLIPWAY_ARTIFACTS`` names the place: an absolute directory, or ``s3://bucket/prefix``. Credentials, region and
endpoint of S3 are the usual ``AWS_*`` variables; ``?addressing=virtual`` is for services that want the bucket in the
host name although they are reached through ``AWS_ENDPOINT_URL``.
"""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from slipway.errors import ReleaseError, UsageError
from slipway.releases.locations import ARTIFACTS_VARIABLE as VARIABLE
from slipway.releases.locations import artifacts_directory

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Artifacts(ABC):
    """A store of files by name. A reference is what ``put`` returns: a path or an s3:// URL that people can open."""

    @staticmethod
    def open() -> Artifacts:
        """Open the store that the environment names; by default a directory beside the history.

        Raises:
            UsageError: the variable's value cannot be meant.
        """
        named = os.environ.get(VARIABLE) or str(artifacts_directory())
        if named.startswith("s3://"):
            return S3Artifacts.from_url(named)
        if not Path(named).is_absolute():
            raise UsageError(
                "the artefact store cannot be used",
                about=f"{VARIABLE}={named}",
                remedy="Give an absolute directory or s3://bucket/prefix",
            )
        return DirectoryArtifacts(Path(named))

    @abstractmethod
    def put(self, name: str, content: bytes) -> str:
        """Store a file whole or not at all, in the place of one of the same name.

        Args:
            name: a relative path with slashes.
            content: the bytes.

        Returns:
            The reference.

        Raises:
            ReleaseError: it could not be stored.
        """

    @abstractmethod
    def get(self, reference: str) -> bytes:
        """Return a file by its reference.

        Raises:
            ReleaseError: it is not there, or lies in another store.
        """


class DirectoryArtifacts(Artifacts):
    """Files in a directory.

    Args:
        root: the directory; it is made, for its owner alone, when the first file comes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, name: str, content: bytes) -> str:
        """Write beside the final name and rename, so that a reader never sees half a file."""
        path = self.root / checked_name(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".put-", delete=False) as file:
                half = Path(file.name)
                try:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                    half.replace(path)
                except BaseException:
                    half.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise _failed("stored", str(path), error) from error
        return str(path)

    def get(self, reference: str) -> bytes:
        """Read a file of this directory; a reference that leads out of it is refused."""
        path = Path(reference)
        try:
            if not path.resolve().is_relative_to(self.root.resolve()):
                raise ReleaseError(
                    "the artefact lies in another store", about=reference, remedy=_which(self.root)
                )
            return path.read_bytes()
        except OSError as error:
            raise _failed("read", reference, error) from error


class S3Artifacts(Artifacts):
    """Objects under a prefix of a bucket.

    Args:
        bucket: the bucket; it is not made here.
        prefix: without slashes around it; may be empty.
        client: of boto3; by default made from the environment at first use.
        addressing: ``path`` or ``virtual``; None is path where an endpoint is named, else as AWS wants it.
    """

    def __init__(
        self, *, bucket: str, prefix: str, client: S3Client | None = None, addressing: str | None = None
    ) -> None:
        self.bucket, self.prefix, self.addressing = bucket, prefix, addressing
        self._given = client

    @staticmethod
    def from_url(url: str) -> S3Artifacts:
        """Read ``s3://bucket/prefix``.

        Raises:
            UsageError: it names no bucket, or has an option that is not known.
        """
        parts = urlsplit(url)
        options = parse_qs(parts.query)
        addressing = options.pop("addressing", [None])[-1]
        if not parts.netloc or options or addressing not in (None, "path", "virtual"):
            raise UsageError(
                "the artefact store cannot be used",
                about=VARIABLE,
                why="it is not s3://bucket/prefix, with ?addressing=path or ?addressing=virtual at most",
            )
        return S3Artifacts(bucket=parts.netloc, prefix=parts.path.strip("/"), addressing=addressing)

    def put(self, name: str, content: bytes) -> str:
        """Put one object; S3 shows it whole or not at all."""
        from botocore.exceptions import BotoCoreError, ClientError

        key = f"{self.prefix}/{checked_name(name)}" if self.prefix else str(checked_name(name))
        reference = f"s3://{self.bucket}/{key}"
        try:
            self._client().put_object(Bucket=self.bucket, Key=key, Body=content)
        except (BotoCoreError, ClientError) as error:
            raise _failed("stored", reference, error) from error
        return reference

    def get(self, reference: str) -> bytes:
        """Read one object under this prefix."""
        from botocore.exceptions import BotoCoreError, ClientError

        root = f"s3://{self.bucket}/{self.prefix}/" if self.prefix else f"s3://{self.bucket}/"
        if not reference.startswith(root):
            raise ReleaseError("the artefact lies in another store", about=reference, remedy=_which(root))
        try:
            answer = self._client().get_object(
                Bucket=self.bucket, Key=reference.removeprefix(f"s3://{self.bucket}/")
            )
            return answer["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise _failed("read", reference, error) from error

    def _client(self) -> S3Client:
        if self._given is None:
            import boto3
            from botocore.config import Config

            named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            style: Any = self.addressing or ("path" if named else "auto")
            config = Config(
                connect_timeout=10,
                read_timeout=60,
                retries={"mode": "standard", "total_max_attempts": 5},
                s3={"addressing_style": style},
            )
            self._given = boto3.client("s3", config=config)
        return self._given


def checked_name(name: str) -> PurePosixPath:
    """Return a file's name if it stays under the store's root.

    Raises:
        ReleaseError: it is absolute, empty or leads upwards.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise ReleaseError("an artefact cannot have this name", about=name)
    return path


def _which(root: object) -> str:
    return f"{VARIABLE} names {root} now; set it to where the artefact was stored"


def _failed(done: str, reference: str, error: Exception) -> ReleaseError:
    return ReleaseError(
        f"the artefact could not be {done}",
        about=reference,
        why=str(error),
        remedy=f"See that the place which {VARIABLE} names is there and may be used",
    )
