"""Weights from ModelScope's hub, or from a mirror that speaks its protocol (``MODELSCOPE_ENDPOINT``).

The SDK lists the files with their sha256 and makes their URLs; the bytes go through our engine, because the
SDK's own download re-reads everything at a second run, checks no free space and syncs nothing. Only
``modelscope-hub`` is used: since 1.38 ``modelscope`` itself is a shim over it.

A branch such as ``master`` moves. The listing names its last commit, by a short id and, in the files that it
touched, by the whole one; the files are then read at that commit, and the source is recorded with it. Where the
listing does not tell, the branch's name is used, and a file that changed in between fails its sha256.
"""

# ruff: noqa: TID253 - this module itself is imported only when such a source is used
from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
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
from slipway.weights.sources.credentials import ca_bundle, credential
from slipway.weights.sources.web import Web
from slipway.weights.wire import Request

TOKEN = "MODELSCOPE_API_TOKEN"  # noqa: S105 - a variable's name
ENDPOINT = "MODELSCOPE_ENDPOINT"
"""Names a mirror; beside the token, since who has one of his own has both."""

DEFAULT_REVISION = "master"

_COMMIT = re.compile(r"[0-9a-f]{40}")


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
        self._revision = query.get("revision", [""])[0] or DEFAULT_REVISION
        # The SDK would read a stored login from the home directory; in a pod and for a repeatable run only
        # the environment counts. The directory is never written to: nothing logs in.
        nowhere = Path(tempfile.gettempdir()) / "slipway-modelscope"
        mirror = {"endpoint": endpoint} if (endpoint := credential(ENDPOINT)) else {}
        self._api = HubApi(
            HubConfig(token=credential(TOKEN) or "", config_dir=nowhere, cache_dir=nowhere, **mirror)
        )
        self._pinned = self._revision
        self._web = Web(
            source=order.source,
            headers=_headers,
            secrets=(TOKEN,),
            stall_seconds=order.stall_seconds,
            ca_bundle=ca_bundle(),
        )
        self.answered, self.refused = self._web.answered, self._web.refused

    def manifest(self) -> Manifest:
        """List the revision's files and pin the commit that they are of."""
        answers = _Answers(self._api.legacy)
        try:
            with answers:
                listed = self._api.list_repo_files(
                    self._repo, "model", revision=self._revision, recursive=True
                )
        except (HubError, ValueError) as error:
            raise self._explain(error) from error
        if answers.truncated:
            raise WeightsError(
                "ModelScope does not list all files of the model",
                about=self._source,
                why="a directory has more files than one answer holds",
                remedy="put fewer files into one directory, or use another source",
            )
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
        self._pinned = answers.commit or self._revision
        return make_manifest(source=f"modelscope://{self._repo}?revision={self._pinned}", files=files)

    def request(self, entry: FileEntry, *, start: int, stop: int) -> Request:
        """Ask for a range; the hub redirects each request to a freshly signed URL of its store."""
        url = self._api.legacy.get_download_url(self._repo, "model", entry.path, self._pinned)
        return self._web.request(url, entry, start=start, stop=stop)

    def _explain(self, error: Exception) -> WeightsError:
        about = f"{self._source} at {self._api.legacy.endpoint}"
        why = bounded(getattr(error, "message", "") or str(error), limit=200)
        if isinstance(error, NotExistError):
            if "revision" in why.lower():
                return WeightsError(
                    f"{self._repo} has no revision {self._revision}",
                    about=about,
                    why=why,
                    remedy="name a branch, a tag or a commit of the model",
                )
            return WeightsError(
                f"ModelScope has no model {self._repo} at revision {self._revision}",
                about=about,
                remedy=f"correct name or revision; a private model needs a token in {TOKEN}",
            )
        if isinstance(error, AuthenticationError):
            return WeightsError(
                "ModelScope does not accept the token",
                about=about,
                why=why,
                remedy=f"it is wrong or has expired: make a new one and put it into the Secret's {TOKEN}",
            )
        if isinstance(error, PermissionDeniedError):
            return WeightsError(
                "ModelScope denied access",
                about=about,
                why=why,
                remedy="accept the model's conditions on its page if it is gated, and check that the token in "
                f"{TOKEN} may read it",
            )
        if isinstance(error, NetworkError):
            return WeightsError(
                "ModelScope cannot be reached",
                about=about,
                why=why,
                remedy="check that this pod may reach it, or name a mirror in MODELSCOPE_ENDPOINT",
            )
        return WeightsError("ModelScope answered with an error", about=about, why=why)


class _Answers(logging.Handler):
    """What the SDK knows of a listing and does not return: the commit, and whether files are missing.

    The commit is in the body of each answer, that a listing was cut short in a warning of the SDK's.
    """

    def __init__(self, client: Any) -> None:
        super().__init__(level=logging.WARNING)
        self.commit: str | None = None
        self.truncated = False
        self._client = client
        self._logger = logging.getLogger("modelscope_hub")

    def __enter__(self) -> _Answers:
        self._unwrap, self._client._json_data = self._client._json_data, self._read
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._client._json_data = self._unwrap
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Notice the SDK's warning."""
        self.truncated = self.truncated or "incomplete" in record.getMessage()

    def _read(self, answer: Any) -> Any:
        data = self._unwrap(answer)
        if self.commit is None and isinstance(data, Mapping):
            self.commit = commit_of(data)
        return data


def commit_of(listing: Mapping[str, Any]) -> str | None:
    """The whole id of the commit that a listing is of, or None where it does not tell.

    ``LatestCommitter`` mostly has only ``ShortId``; the files name the last commit that touched each.
    """
    latest = listing.get("LatestCommitter")
    if not isinstance(latest, Mapping):
        return None
    whole, short = str(latest.get("Id") or ""), str(latest.get("ShortId") or "")
    if _COMMIT.fullmatch(whole):
        return whole
    if len(short) < 7:
        return None
    files = listing.get("Files") or []
    found = {str(file.get("Revision") or "") for file in files if isinstance(file, Mapping)}
    matching = [commit for commit in found if commit.startswith(short) and _COMMIT.fullmatch(commit)]
    return matching[0] if len(matching) == 1 else None


def _headers() -> dict[str, str]:
    token = credential(TOKEN)
    return {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"} if token else {}
