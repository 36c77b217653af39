"""Reading over HTTP, for every source whose files have URLs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from urllib.parse import urlsplit

import urllib3

from slipway.errors import WeightsError, bounded
from slipway.weights.manifest import FileEntry
from slipway.weights.sources.base import TransientError, is_transient, parse_retry_after

_CONNECT_SECONDS = 10
_PIECE = 128 * 1024
"""Bytes in one piece: urllib3 keeps each twice for a moment, and there may be as many moments as streams."""

_LONGEST_TEXT = 16 * 1024 * 1024


class Web:
    """A pool of connections with a source's headers.

    Redirects are followed (ModelScope sends to its object store); urllib3 drops Authorization and Cookie when
    the host changes, so a token never reaches the store.

    Args:
        headers: gives what is sent with a request; asked for each one, since a token may be renewed meanwhile. May
            hold a token, which therefore never appears in an error.
        ca_bundle: a file of certificates to trust; None for the system's.
    """

    def __init__(
        self,
        *,
        source: str,
        headers: Callable[[], Mapping[str, str]],
        stall_seconds: float,
        streams: int,
        ca_bundle: str | None = None,
    ) -> None:
        self._source, self._given = source, headers
        self._pool = urllib3.PoolManager(
            ca_certs=ca_bundle,
            maxsize=streams + 2,
            retries=urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5),
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=stall_seconds),
        )

    def read(self, url: str, entry: FileEntry, *, start: int, stop: int) -> Generator[bytes]:
        """Yield a range of a file; see ``Source.read``."""
        headers = {**self._headers(), "Range": f"bytes={start}-{stop - 1}"}
        if entry.etag and not entry.etag.startswith("W/"):
            headers["If-Match"] = entry.etag
        with_body = self._open("GET", url, headers=headers, about=entry.path)
        try:
            whole = start == 0 and stop == entry.size
            got = with_body.headers.get("Content-Range", "")
            if with_body.status == 200 and not whole:
                raise WeightsError(
                    "the server does not give ranges of a file",
                    about=f"{self._source}/{entry.path}",
                    remedy="serve the model with a server that does: nginx, Caddy, an object store",
                )
            if with_body.status == 206 and got not in {
                f"bytes {start}-{stop - 1}/{entry.size}",
                f"bytes {start}-{stop - 1}/*",
            }:
                raise TransientError(f"the server answered with the range {got!r}, not what was asked")
            while piece := with_body.read(_PIECE):
                yield piece
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(bounded(f"{type(error).__name__}: {error}", limit=160)) from error
        finally:
            with_body.close()

    def text(self, url: str, *, about: str) -> str | None:
        """Read a small text file; None when the server has none of that name."""
        try:
            answer = self._open("GET", url, headers=self._headers(), about=about)
        except FileNotFoundError:
            return None
        except TransientError as error:
            raise self._unreachable(error.why) from error
        try:
            data = answer.read(_LONGEST_TEXT)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(str(error)) from error
        finally:
            answer.close()
        return str(data.decode("utf-8", "replace"))

    def head(self, url: str, *, about: str) -> tuple[int, str | None]:
        """Ask for a file's size and ETag."""
        try:
            answer = self._open("HEAD", url, headers=self._headers(), about=about)
        except FileNotFoundError as error:
            raise WeightsError(
                "the source lacks a file that its list names",
                about=f"{self._source}/{about}",
                why=str(error),
            ) from error
        except TransientError as error:
            raise self._unreachable(error.why) from error
        answer.close()
        length = answer.headers.get("Content-Length", "")
        if not length.isdigit():
            raise WeightsError("the server does not say how long a file is", about=f"{self._source}/{about}")
        return int(length), answer.headers.get("ETag")

    def _headers(self) -> dict[str, str]:
        return {**self._given(), "Accept-Encoding": "identity"}

    def _open(
        self, method: str, url: str, *, headers: Mapping[str, str], about: str
    ) -> urllib3.BaseHTTPResponse:
        try:
            answer = self._pool.request(method, url, headers=dict(headers), preload_content=False)
        except urllib3.exceptions.HTTPError as error:
            why = bounded(f"{type(error).__name__} at {urlsplit(url).hostname}", limit=160)
            raise TransientError(why) from error
        if answer.status in {200, 206}:
            return answer
        status, retry_after = answer.status, parse_retry_after(answer.headers.get("Retry-After"))
        answer.close()
        if is_transient(status):
            raise TransientError(f"the server answered {status}", retry_after=retry_after)
        if status in {404, 410} and "Range" not in headers:
            raise FileNotFoundError(f"the server answered {status}")
        if status in {401, 403}:
            raise WeightsError(
                "the server denied access",
                about=f"{self._source}: {about}",
                why=f"it answered {status}",
                remedy="check the token in the Secret, and that it may read this model",
            )
        if status in {404, 410, 412, 416}:
            raise WeightsError(
                "a file behind the source changed during the download",
                about=f"{self._source}/{about}",
                why=f"the server answered {status}",
                remedy="start again when the upload is finished",
            )
        raise WeightsError(
            "the server answered with an error", about=f"{self._source}: {about}", why=str(status)
        )

    def _unreachable(self, why: str) -> WeightsError:
        return WeightsError(
            "the source cannot be reached",
            about=self._source,
            why=bounded(why, limit=200),
            remedy="check the address, and that the cluster's network lets this pod out to it",
        )
