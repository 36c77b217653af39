"""The order to bring a model's weights into a volume, and what comes back."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class S3Settings(BaseModel):
    """How an S3 server is reached; the keys come from ``AWS_*`` in the environment, never from here.

    Attributes:
        endpoint_url: the server's address; None is Amazon's own for the region.
        region: the region that requests are signed for.
        addressing: ``path`` (http://server/bucket/key: most servers that are not Amazon's) or ``virtual``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint_url: str | None = None
    region: str = "us-east-1"
    addressing: Literal["path", "virtual"] = "path"


class FetchOrder(BaseModel):
    """Bring what lies behind ``source`` into the directory ``destination``.

    Attributes:
        source: ``s3://bucket/prefix``, ``modelscope://org/name?revision=``, or ``https://…`` with a
            SHA256SUMS.
        destination: an absolute directory ``<volume>/<model>/<key>``, one for each model and source revision.
        s3: how an ``s3://`` source is reached.
        expected_bytes: the model's size by the catalog; a difference of more than 5 % is a warning.
        stall_seconds: no bytes on a connection for so long counts as a failed try.
        streams: ranges that are downloaded at once.
        wait_seconds: how long to wait while another pod downloads to the same destination.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    destination: str
    s3: S3Settings = S3Settings()
    expected_bytes: int | None = Field(default=None, ge=0)
    stall_seconds: float = Field(default=60, gt=0)
    streams: int = Field(default=8, ge=1, le=64)
    wait_seconds: float = Field(default=6 * 3600, ge=0)

    @field_validator("destination")
    @classmethod
    def _is_deep_and_absolute(cls, value: str) -> str:
        path = PurePosixPath(value)
        if not path.is_absolute() or ".." in path.parts or len(path.parts) < 3:
            raise ValueError("must be an absolute directory below a volume, like /models/name/key")
        return str(path)


class FetchResult(BaseModel):
    """What was brought, and how far it is proven.

    Attributes:
        manifest_digest: sha256 over the sorted names, sizes and digests of the files: what was really
            downloaded.
        bytes_fetched: over the network in this run, refetched parts included.
        bytes_reused: already on the volume and known to be right.
        verified: in words, what the files were checked against.
        warnings: what is unusual but no fault, like a missing chat template.
    """

    model_config = ConfigDict(extra="forbid")

    destination: str
    source: str
    manifest_digest: str
    files: int
    bytes_total: int
    bytes_fetched: int
    bytes_reused: int
    seconds: float
    verified: str
    warnings: list[str] = []
