"""Requests to an endpoint, with retries while it starts and errors that say what the server said.

The environment's proxy settings are not used: a Service of the cluster is reached directly or not at all, and
a proxy's error page must not pass for the endpoint's.
"""

from __future__ import annotations

import json
import math
import ssl
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

import httpx

from slipway.errors import ProbeError, bounded
from slipway.probes.orders import Outside

T = TypeVar("T")

_RETRY_SECONDS = 1.0
LARGEST_BODY = 32 * 2**20
"""Of one answer, in bytes: one endpoint that sends without end must not take the memory of those asked beside it."""
_STARTING = {408, 425, 429, 500, 502, 503, 504}


class UnavailableError(Exception):
    """A refusal that a server that is starting gives too: worth another try until the deadline."""

    def __init__(self, why: str, *, status: int | None = None) -> None:
        super().__init__(why)
        self.why, self.status = why, status


class _Bounded(httpx.SyncByteStream):
    """A body that ends in time and has a size: timeouts alone are per read, and a byte now and then keeps those."""

    def __init__(self, stream: httpx.SyncByteStream, *, end: float) -> None:
        self._stream, self._end = stream, end

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if size > LARGEST_BODY:
                raise httpx.ReadError(f"the answer is longer than {LARGEST_BODY // 2**20} MiB")
            _seconds_until(self._end)
            yield chunk

    def close(self) -> None:
        """Close the body below."""
        self._stream.close()


class _Transport(httpx.HTTPTransport):
    """Requests of which none is waited for beyond an end.

    Args:
        address: what to connect to; the host of the URL is still what the server, and its certificate, are asked for.
        verify: the authorities.
        end: the monotonic time.
    """

    def __init__(self, address: str | None, *, verify: ssl.SSLContext, end: float) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._address, self._end = address, end

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its Host header was made of the URL before."""
        left = _seconds_until(self._end)
        timeouts = {name: min(one, left) for name, one in request.extensions["timeout"].items()}
        request.extensions = {**request.extensions, "timeout": timeouts}
        if self._address:
            request.extensions["sni_hostname"] = request.url.host
            request.url = request.url.copy_with(host=self._address)
        answer = super().handle_request(request)
        assert isinstance(answer.stream, httpx.SyncByteStream)  # the transport is a synchronous one
        answer.stream = _Bounded(answer.stream, end=self._end)
        return answer


def _seconds_until(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise httpx.ReadTimeout("the time for all steps together is over")
    return left


class Client:
    """One endpoint, one key, one deadline.

    Args:
        api_key: sent as a bearer token; never part of an error.
        deadline: the monotonic time until which a step is tried again.
        end: the monotonic time beyond which nothing is waited for, also not the rest of an answer that has begun.
        outside: connect to its address, whatever the host of ``base_url``, and trust its authority. What leads to the
            endpoint may know it only in a moment: a 404 is then as good as a server that starts.
        sleep: for tests.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str | None,
        request_seconds: float,
        deadline: float,
        end: float = math.inf,
        outside: Outside | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url, self._key, self._deadline, self._sleep = base_url, api_key, deadline, sleep
        self._end = end
        timeout = httpx.Timeout(request_seconds, connect=min(10.0, request_seconds))
        self._outside = outside
        self._starting = _STARTING | ({404} if outside else set())
        trusted = _authorities(outside.authority if outside else None)
        self._http = httpx.Client(
            base_url=base_url,
            timeout=timeout,
            transport=_Transport(outside.address if outside else None, verify=trusted, end=end),
            trust_env=False,
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def is_over(self) -> bool:
        """Whether no more can be asked."""
        return time.monotonic() >= self._end

    def until_deadline(self, step: str, try_once: Callable[[], T]) -> T:
        """Call until it doesn't raise ``UnavailableError``; then the last refusal becomes the error.

        Raises:
            ProbeError: the deadline has passed, or ``try_once`` raised it.
        """
        while True:
            try:
                return try_once()
            except UnavailableError as error:
                if time.monotonic() + _RETRY_SECONDS > self._deadline:
                    raise self.error(
                        step,
                        why=error.why,
                        remedy="it answers inside the cluster: look at its route, its Gateway and the certificate"
                        if self._outside
                        else "look at the pod's log and events: is the runtime still loading?",
                    ) from error
                self._sleep(_RETRY_SECONDS)

    def get(self, path: str, *, key: str | None = None) -> httpx.Response:
        """Ask once; a refused connection and the statuses of a starting server raise ``UnavailableError``."""
        return self._send("GET", path, None, key=key)

    def post(self, path: str, body: dict[str, Any], *, key: str | None = None) -> httpx.Response:
        """Send JSON once; see ``get``."""
        return self._send("POST", path, body, key=key)

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[str]:
        """Send JSON and yield the data of each server-sent event as it comes.

        Raises:
            UnavailableError: as ``get``; also when the connection breaks before the end.
            RefusedError: any other status than 200.
        """
        try:
            with self._http.stream("POST", path, json=body, headers=self._headers(None)) as answer:
                if answer.status_code != httpx.codes.OK:
                    answer.read()
                    self._raise_for(answer)
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        yield line[5:].strip()
        except httpx.HTTPError as error:
            raise UnavailableError(_describe(error)) from error

    def error(
        self, step: str, *, path: str = "", status: int | None = None, why: str = "", remedy: str = ""
    ) -> ProbeError:
        """Make the error of a step, with the address and the status."""
        address = path if path.startswith("http") else f"{self.base_url}{path}"
        about = address + (f", status {status}" if status is not None else "")
        return ProbeError(f"the endpoint failed at the step '{step}'", about=about, why=why, remedy=remedy)

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None, *, key: str | None
    ) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body, headers=self._headers(key))
        except httpx.HTTPError as error:
            raise UnavailableError(_describe(error)) from error
        if answer.status_code in self._starting:
            raise UnavailableError(
                f"status {answer.status_code}: {server_message(answer)}", status=answer.status_code
            )
        return answer

    def _raise_for(self, answer: httpx.Response) -> None:
        message = server_message(answer)
        if answer.status_code in self._starting:
            raise UnavailableError(f"status {answer.status_code}: {message}", status=answer.status_code)
        raise RefusedError(answer.status_code, message)

    def _headers(self, key: str | None) -> dict[str, str]:
        value = key if key is not None else self._key
        return {"Authorization": f"Bearer {value}"} if value else {}


@cache
def _authorities(file: str | None) -> ssl.SSLContext:
    """One for all clients of a process: to read the system's authorities takes tens of milliseconds."""
    return ssl.create_default_context(cafile=file)


class RefusedError(Exception):
    """An answer that no further try will change."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def server_message(answer: httpx.Response) -> str:
    """The server's own words: the message of an OpenAI error, or the start of the text."""
    text = answer.text
    try:
        content = json.loads(text)
    except ValueError:
        return bounded(text, limit=200) or "no message"
    if isinstance(content, dict):
        found = content.get("error", content)
        if isinstance(found, dict):
            found = found.get("message") or found.get("detail") or found
        return bounded(str(found), limit=200)
    return bounded(text, limit=200)


def _describe(error: httpx.HTTPError) -> str:
    kinds = {
        httpx.ConnectTimeout: "no answer to the connection",
        httpx.ConnectError: "the connection was refused or the name is unknown",
        httpx.ReadTimeout: "no answer in time",
        httpx.RemoteProtocolError: "the server closed the connection",
        httpx.ReadError: "the connection broke",
    }
    words = next((text for kind, text in kinds.items() if isinstance(error, kind)), type(error).__name__)
    return bounded(f"{words} ({error})" if str(error) else words, limit=200)
