"""Weights from a web server: a directory with a SHA256SUMS in it.

Plain HTTP has no listing, so the list of digests is also the list of files; without it there would be nothing
to check against, and such a source is refused.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

from slipway.errors import UsageError, WeightsError
from slipway.weights.manifest import SUMS, FileEntry, Manifest, check_path, make_manifest, parse_sums
from slipway.weights.orders import FetchOrder
from slipway.weights.sources.web import Web

TOKEN = "SLIPWAY_HTTPS_TOKEN"  # noqa: S105 - a variable's name
"""Sent as a bearer token when it is set."""


class HttpsSource:
    """The files that ``<url>/SHA256SUMS`` lists."""

    def __init__(self, order: FetchOrder) -> None:
        parts = urlsplit(order.source)
        if not parts.hostname or parts.query or parts.fragment:
            raise UsageError(
                "an https source names a directory", about=order.source, remedy="https://server/path/to/model"
            )
        self._source = order.source
        self._base = order.source.rstrip("/").removesuffix(f"/{SUMS}")
        token = os.environ.get(TOKEN)
        self._web = Web(
            source=self._base,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            stall_seconds=order.stall_seconds,
            streams=order.streams,
        )

    def manifest(self) -> Manifest:
        """Read the list and ask for each file's size."""
        text = self._web.text(f"{self._base}/{SUMS}", about=SUMS)
        if text is None:
            raise WeightsError(
                "an https source needs a list of its files",
                about=f"{self._base}/{SUMS}",
                why="the server has no such file",
                remedy="in the model's directory: sha256sum $(find . -type f) > SHA256SUMS",
            )
        sums = parse_sums(text, about=f"{self._base}/{SUMS}")
        if not sums:
            raise WeightsError("the list of files is empty", about=f"{self._base}/{SUMS}")
        for path in sums:
            # Before it becomes a part of a URL.
            check_path(path, source=self._source)
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="head") as pool:
            files = list(pool.map(self._entry, sums.items()))
        return make_manifest(source=self._source, files=files)

    def read(self, entry: FileEntry, *, start: int, stop: int) -> Generator[bytes]:
        """Read a range; see ``Source.read``."""
        return self._web.read(self._url(entry.path), entry, start=start, stop=stop)

    def _entry(self, item: tuple[str, str]) -> FileEntry:
        path, digest = item
        size, etag = self._web.head(self._url(path), about=path)
        return FileEntry(path=path, size=size, sha256=digest, etag=etag)

    def _url(self, path: str) -> str:
        return f"{self._base}/{quote(path)}"
