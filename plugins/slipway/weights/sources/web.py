"""HTTP, for every source whose files have URLs: lists and sizes through urllib3, requests for ranges for the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3

from slipway.errors import WeightsError, bounded
from slipway.weights.connect import Refused, find_proxy, proxy_authorization
from slipway.weights.manifest import FileEntry
from slipway.weights.sources.base import RENEWAL_SECONDS, TransientError, is_transient, parse_retry_after
from slipway.weights.sources.credentials import renewable
from slipway.weights.wire import Request

_CONNECT_SECONDS = 10
_LONGEST_TEXT = 16 * 1024 * 1024
_HEADS = 8
_DENIED = {401, 403}


class Web:
    """A pool of connections with a source's headers.

    Redirects are followed (ModelScope sends to its object store); urllib3 drops Authorization and Cookie when
    the host changes, so a token never reaches the store.

    Args:
        headers: gives what is sent with a request; asked for each one, since a token may be renewed meanwhile. May
            hold a token, which therefore never appears in an error.
        secrets: the names of the secrets that these headers are made of.
        ca_bundle: a file of certificates to trust; None for the system's.
    """

    def __init__(
        self,
        *,
        source: str,
        headers: Callable[[], Mapping[str, str]],
        secrets: tuple[str, ...],
        stall_seconds: float,
        ca_bundle: str | None = None,
    ) -> None:
        self._source, self._given, self._secrets, self._ca_bundle = source, headers, secrets, ca_bundle
        self._was_admitted = False
        common: dict[str, Any] = {
            "ca_certs": ca_bundle,
            "maxsize": _HEADS,
            "retries": urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5),
            "timeout": urllib3.Timeout(connect=_CONNECT_SECONDS, read=stall_seconds),
        }
        proxy = find_proxy(source)
        self._pool = (
            urllib3.ProxyManager(proxy.geturl(), proxy_headers=proxy_authorization(proxy), **common)
            if proxy
            else urllib3.PoolManager(**common)
        )

    def request(self, url: str, entry: FileEntry, *, start: int, stop: int) -> Request:
        """Make the request for a range; see ``Addressed.request``."""
        given = dict(self._given())
        headers = {**given, "Range": f"bytes={start}-{stop - 1}"}
        if entry.etag and not entry.etag.startswith("W/"):
            headers["If-Match"] = entry.etag
        return Request(url=url, headers=headers, ca_bundle=self._ca_bundle, signed_by=given)

    def answered(self, entry: FileEntry, headers: Mapping[str, str]) -> None:
        """Note that access was granted; see ``Addressed.answered``."""
        self._was_admitted = True

    def refused(self, entry: FileEntry, request: Request, answer: Refused) -> Exception:
        """Say what an answer means that is not the range; a token may have expired and be another one now."""
        failure = self._failure(answer.status, answer.headers, about=entry.path)
        if answer.status in _DENIED and self._given() != request.signed_by:
            return TransientError(f"{answer.status}; the token was renewed meanwhile")
        # 401 says that the token is not valid, though the list was given for it; 403 may be about this file alone.
        expired = answer.status == 401 or (answer.status == 403 and self._was_admitted)
        if expired and renewable(*self._secrets):
            assert isinstance(failure, WeightsError)
            return TransientError(
                f"the server answered {answer.status}; waiting for a new token",
                wait=RENEWAL_SECONDS,
                lasting=failure,
            )
        return failure

    def text(self, url: str, *, about: str) -> str | None:
        """Read a small text file; None when the server has none of that name."""
        try:
            answer = self._open("GET", url, about=about)
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
            answer = self._open("HEAD", url, about=about)
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

    def _open(self, method: str, url: str, *, about: str) -> urllib3.BaseHTTPResponse:
        headers = {**self._given(), "Accept-Encoding": "identity"}
        try:
            answer = self._pool.request(method, url, headers=headers, preload_content=False)
        except urllib3.exceptions.HTTPError as error:
            raise TransientError(bounded(_words(error, host=urlsplit(url).hostname), limit=160)) from error
        if answer.status in {200, 206}:
            self._was_admitted = True
            return answer
        status = answer.status
        answer.close()
        if status in {404, 410}:
            raise FileNotFoundError(f"the server answered {status}")
        raise self._failure(status, answer.headers, about=about)

    def _failure(
        self, status: int, headers: Mapping[str, str], *, about: str
    ) -> TransientError | WeightsError:
        if is_transient(status):
            return TransientError(
                f"the server answered {status}",
                retry_after=parse_retry_after(headers.get("retry-after")),
            )
        if status in _DENIED:
            return WeightsError(
                "the server denied access",
                about=f"{self._source}: {about}",
                why=f"it answered {status}",
                remedy="check the token in the Secret, and that it may read this model",
            )
        if status in {404, 410, 412, 416}:
            return WeightsError(
                "a file behind the source changed during the download",
                about=f"{self._source}/{about}",
                why=f"the server answered {status}",
                remedy="start again when the upload is finished",
            )
        return WeightsError(
            "the server answered with an error", about=f"{self._source}: {about}", why=str(status)
        )

    def _unreachable(self, why: str) -> WeightsError:
        return WeightsError(
            "the source cannot be reached",
            about=self._source,
            why=bounded(why, limit=200),
            remedy="check the address, and that the cluster's network lets this pod out to it",
        )


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (urllib3.exceptions.NameResolutionError, "the name {host} is not known there"),
    (
        urllib3.exceptions.NewConnectionError,
        "no connection to {host}: it is refused, or there is no way to it",
    ),
    (urllib3.exceptions.ConnectTimeoutError, "{host} does not answer in time"),
    (urllib3.exceptions.ReadTimeoutError, "{host} does not answer in time"),
    (urllib3.exceptions.SSLError, "the certificate of {host} is not accepted"),
)


def _words(error: urllib3.exceptions.HTTPError, *, host: str | None) -> str:
    """Why a server gave no answer; not urllib3's own text, which has the address with all that is in it."""
    cause = getattr(error, "reason", None) or error
    for kind, words in _REASONS:
        if isinstance(cause, kind):
            return words.format(host=host)
    return f"{type(cause).__name__} at {host}"
