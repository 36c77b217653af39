"""Weights from ModelScope's hub, or from a mirror that speaks its protocol (``MODELSCOPE_ENDPOINT``).

The SDK lists the files with their sha256 and makes their URLs; the bytes go through our engine, because the
SDK's own download re-reads everything at a second run, checks no free space and syncs nothing
(research/download.md, 2C). Only ``modelscope-hub`` is used: since 1.38 ``modelscope`` itself is a shim over
it.

Limit: a branch name such as ``master`` can move between listing and reading. A file that changed in between
fails its sha256 and the run; the digest in the result says what was really downloaded.
"""

# ruff: noqa: TID253 - this module itself is imported only when such a source is used
from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from modelscope_hub import HubApi
from modelscope_hub.config import HubConfig
from modelscope_hub.errors import (
    AuthenticationError,
    HubError,
    NetworkError,
    NotExistError,
    PermissionDeniedError,
)

from slipway.errors import UsageError, WeightsError, bounded
from slipway.weights.manifest import READY, FileEntry, Manifest, make_manifest
from slipway.weights.orders import FetchOrder
from slipway.weights.sources.web import Web

TOKEN = "MODELSCOPE_API_TOKEN"  # noqa: S105 - a variable's name


class ModelScopeSource:
    """One revision of a model on the hub."""

    def __init__(self, order: FetchOrder) -> None:
        parts = urlsplit(order.source)
        query = parse_qs(parts.query, keep_blank_values=True)
        name = parts.path.strip("/")
        if not parts.netloc or not name or "/" in name or set(query) - {"revision"}:
            raise UsageError(
                "a ModelScope source needs an organisation and a name",
                about=order.source,
                remedy="modelscope://Qwen/Qwen3-0.6B?revision=v1.0",
            )
        self._source, self._repo = order.source, f"{parts.netloc}/{name}"
        self._revision = query.get("revision", [""])[0] or "master"
        token = os.environ.get(TOKEN, "")
        # The SDK would read a stored login from the home directory; in a pod and for a repeatable run only
        # the environment counts. The directory is never written to: nothing logs in.
        nowhere = Path(tempfile.gettempdir()) / "slipway-modelscope"
        self._api = HubApi(HubConfig(token=token, config_dir=nowhere, cache_dir=nowhere))
        self._web = Web(
            source=order.source,
            headers={"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {},
            stall_seconds=order.stall_seconds,
            streams=order.streams,
        )

    def manifest(self) -> Manifest:
        """List the revision's files."""
        try:
            listed = self._api.list_repo_files(self._repo, "model", revision=self._revision, recursive=True)
        except (HubError, ValueError) as error:
            raise self._explain(error) from error
        files = [
            FileEntry(path=item.path, size=item.size, sha256=item.sha256.lower() if item.sha256 else None)
            for item in listed
            if not item.is_dir and item.path != READY
        ]
        if not files:
            raise WeightsError(
                f"no files in {self._repo} at revision {self._revision}",
                about=str(self._api.legacy.endpoint),
                remedy="are name and revision right?",
            )
        return make_manifest(source=self._source, files=files)

    def read(self, entry: FileEntry, *, start: int, stop: int) -> Generator[bytes]:
        """Read a range; the hub redirects each request to a freshly signed URL of its store."""
        url = self._api.legacy.get_download_url(self._repo, "model", entry.path, self._revision)
        return self._web.read(url, entry, start=start, stop=stop)

    def _explain(self, error: Exception) -> WeightsError:
        about = f"{self._source} at {self._api.legacy.endpoint}"
        why = bounded(str(error), limit=200)
        if isinstance(error, NotExistError):
            return WeightsError(
                f"ModelScope has no model {self._repo} at revision {self._revision}",
                about=about,
                remedy="correct name or revision; a private model needs a token",
            )
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            return WeightsError(
                "ModelScope denied access", about=about, why=why, remedy=f"check the token in {TOKEN}"
            )
        if isinstance(error, NetworkError):
            return WeightsError(
                "ModelScope cannot be reached",
                about=about,
                why=why,
                remedy="check that this pod may reach it, or name a mirror in MODELSCOPE_ENDPOINT",
            )
        return WeightsError("ModelScope answered with an error", about=about, why=why)
