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
        source: ``s3://bucket/prefix``, ``modelscope://org/name?revision=``, ``https://…`` with a list of digests,
            ``nfs://server/export/path`` or ``pvc://claim/path``.
        fallbacks: other sources of the same model, tried in this order when the one before has failed.
        destination: an absolute directory ``<volume>/<model>/<key>``, one for each model and revision.
        s3: how an ``s3://`` source is reached.
        claims: where the claims that ``pvc://`` sources name are mounted in this pod.
        expected_bytes: the model's size by the catalog; a difference of more than 5 % is a warning.
        stall_seconds: no bytes on a connection for so long counts as a failed try.
        streams: the most ranges that are downloaded at once; fewer where more would not be faster.
        verify: ``marker`` trusts files that are as they were verified by size and time; ``full`` reads all again.
        wait_seconds: how long to wait while another pod downloads to the same destination.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    fallbacks: list[str] = []
    destination: str
    s3: S3Settings = S3Settings()
    claims: dict[str, str] = {}
    expected_bytes: int | None = Field(default=None, ge=0)
    stall_seconds: float = Field(default=60, gt=0)
    streams: int = Field(default=64, ge=1, le=64)
    verify: Literal["marker", "full"] = "marker"
    wait_seconds: float = Field(default=6 * 3600, ge=0)

    @field_validator("destination")
    @classmethod
    def _is_deep_and_absolute(cls, value: str) -> str:
        path = PurePosixPath(value)
        if not path.is_absolute() or ".." in path.parts or len(path.parts) < 3:
            raise ValueError("must be an absolute directory below a volume, like /models/name/key")
        return str(path)

    @property
    def sources(self) -> list[str]:
        """All sources in the order in which they are tried."""
        return [self.source, *self.fallbacks]


class FetchResult(BaseModel):
    """What was brought, and how far it is proven.

    Attributes:
        source: the one that delivered, pinned where its kind knows versions: a ModelScope branch is replaced by
            the commit that it was.
        requested: that source as it was asked for, with the branch's name.
        failed_sources: those that were tried before, each with its reason.
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
    requested: str = ""
    failed_sources: list[str] = []
