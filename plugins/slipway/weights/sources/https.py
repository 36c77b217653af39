"""Weights from a web server: a directory with a list of its files in it.

Plain HTTP has no listing, so a list is needed: SHA256SUMS, or a JSON list such as the marker of a directory that
Slipway itself made. A JSON list may leave digests out; such files are only checked by their sizes, and the record
says so.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

from slipway.errors import UsageError, WeightsError
from slipway.weights.manifest import READY, SUMS, FileEntry, Manifest, check_path, make_manifest, parse_sums
from slipway.weights.orders import FetchOrder
from slipway.weights.sources.credentials import ca_bundle, credential
from slipway.weights.sources.listing import MANIFESTS, ListedFile, parse_manifest
from slipway.weights.sources.web import Web
from slipway.weights.wire import Request

TOKEN = "SLIPWAY_HTTPS_TOKEN"  # noqa: S105 - a variable's name
"""Sent as a bearer token when it is set."""


class HttpsSource:
    """The files that a list beside them names."""

    def __init__(self, order: FetchOrder) -> None:
        parts = urlsplit(order.source)
        if not parts.hostname or parts.query or parts.fragment:
            raise UsageError(
                "an https source names a directory", about=order.source, remedy="https://server/path/to/model"
            )
        self._source = order.source
        self._base = order.source.rstrip("/").removesuffix(f"/{SUMS}")
        self._web = Web(
            source=self._base,
            headers=_headers,
            secrets=(TOKEN,),
            stall_seconds=order.stall_seconds,
            ca_bundle=ca_bundle(),
        )
        self.answered, self.refused = self._web.answered, self._web.refused

    def manifest(self) -> Manifest:
        """Read the list and ask for each file's size."""
        listed = self._listed()
        for one in listed:
            # Before it becomes a part of a URL.
            check_path(one.path, source=self._source)
        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="head") as pool:
            files = list(pool.map(self._entry, listed))
        return make_manifest(source=self._source, files=files)

    def request(self, entry: FileEntry, *, start: int, stop: int) -> Request:
        """Ask for a range; see ``Addressed``."""
        return self._web.request(self._url(entry.path), entry, start=start, stop=stop)

    def _listed(self) -> list[ListedFile]:
        for name in (SUMS, *MANIFESTS):
            about = f"{self._base}/{name}"
            text = self._web.text(about, about=name)
            if text is None:
                continue
            if name == SUMS:
                # A name that nothing can have, READY's, is refused by check_path and not left out.
                sums = parse_sums(text, about=about)
                listed = [ListedFile(path=path, sha256=digest) for path, digest in sums.items()]
            else:
                listed = parse_manifest(text, about=about)
            if not listed:
                raise WeightsError("the list of files is empty", about=about)
            return listed
        raise WeightsError(
            "an https source needs a list of its files",
            about=f"{self._base}/{SUMS}",
            why=f"the server has no such file, and no {READY} or {MANIFESTS[-1]}",
            remedy="in the model's directory: sha256sum $(find . -type f) > SHA256SUMS",
        )

    def _entry(self, listed: ListedFile) -> FileEntry:
        size, etag = self._web.head(self._url(listed.path), about=listed.path)
        if listed.size is not None and listed.size != size:
            raise WeightsError(
                "a file has another length than the list says",
                about=f"{self._source}/{listed.path}",
                why=f"{size} bytes on the server, {listed.size} in the list",
                remedy="finish the upload, or write the list again",
            )
        return FileEntry(path=listed.path, size=size, sha256=listed.sha256, etag=etag)

    def _url(self, path: str) -> str:
        return f"{self._base}/{quote(path)}"


def _headers() -> dict[str, str]:
    token = credential(TOKEN)
    return {"Authorization": f"Bearer {token}"} if token else {}
