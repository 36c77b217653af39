"""One request to an API server and what came back, for the synchronous and the asynchronous client alike."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from slipway.cluster.faults import UnreachableError, api_error
from slipway.errors import ClusterError

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of the API.

    Attributes:
        what: what it is for, in the words of an error ("read the pods").
        about: the object, in the words of an error ("Pod models/x").
        repeatable: whether it may be sent again when nobody knows if it arrived. A POST that creates may not.
        accept: statuses besides 2xx that are answers, not errors (404 for "is it there?").
    """

    method: str
    path: str
    what: str
    about: str = ""
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: Any = None
    content_type: str = JSON
    repeatable: bool = True
    accept: frozenset[int] = frozenset()

    @property
    def headers(self) -> dict[str, str]:
        """Headers of this request; authentication comes from the client."""
        return {"Accept": f"{JSON}, */*", "Content-Type": self.content_type}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the API server answered.

    Attributes:
        date: the server's own clock, to the second. Ages and lease times are counted by it, so that a machine
            whose clock is wrong neither takes a lock from a living holder nor gives up too early.
    """

    status: int
    body: bytes
    date: datetime

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            ClusterError: it is something else, so what answered is not a Kubernetes API.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise ClusterError(
                "the answer is not JSON",
                why="what listens there is not a Kubernetes API, or a proxy stands in between",
                remedy="Check the address in the cluster's connection",
            ) from error

    def text(self) -> str:
        """Return the body as text; bytes that are no UTF-8 are replaced."""
        return self.body.decode(errors="replace")


def checked(request: Request, *, status: int, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Turn what a client received into an answer.

    Raises:
        ApiError: the status is neither a success nor one that the request accepts.
    """
    if not 200 <= status <= 299 and status not in request.accept:
        raise api_error(
            f"could not {request.what}",
            about=request.about,
            status=status,
            body=body,
            retry_after=headers.get("Retry-After"),
        )
    return Answer(status=status, body=body, date=_server_date(headers.get("Date")))


def unreachable(request: Request, *, host: str, error: BaseException) -> UnreachableError:
    """Turn a client's network error into one of ours; a certificate that is not accepted is never retried."""
    certificate = _certificate_fault(error)
    if certificate:
        return UnreachableError(
            f"could not {request.what}",
            about=host,
            why=f"the API server's certificate is not accepted: {certificate}",
            remedy="Check certificate-authority and server name in the cluster's kubeconfig",
            transient=False,
        )
    return UnreachableError(
        f"could not {request.what}",
        about=host,
        why=f"the API server gave no answer: {_innermost(error)}",
        remedy="Check that the address is right and that the API server runs",
        may_have_arrived=not any(isinstance(link, ConnectionRefusedError) for link in _chain(error)),
    )


def require_verification(configuration: Any) -> None:
    """Refuse a client that would talk to anybody who claims to be the API server.

    Raises:
        ClusterError: certificates are not verified, or the address is plain HTTP to another machine.
    """
    address = urlsplit(configuration.host)
    if address.scheme == "https" and configuration.verify_ssl:
        return
    if address.scheme == "http" and address.hostname in _LOCAL_HOSTS:
        return  # `kubectl proxy` on this machine
    raise ClusterError(
        "the connection to the cluster would not be verified",
        about=configuration.host,
        why="certificate verification is off" if address.scheme == "https" else "the address is plain HTTP",
        remedy="Put certificate-authority-data into the kubeconfig and remove insecure-skip-tls-verify",
    )


def _server_date(header: str | None) -> datetime:
    try:
        return parsedate_to_datetime(header or "").astimezone(UTC)
    except ValueError:
        return datetime.now(UTC)


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    pending: list[object] = [error]
    while pending:
        current = pending.pop(0)
        if isinstance(current, BaseException) and current not in chain:
            chain.append(current)
            pending += [getattr(current, "reason", None), current.__cause__, current.__context__]
            pending += current.args
    return chain


def _certificate_fault(error: BaseException) -> str:
    for link in _chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return str(getattr(link, "verify_message", "") or link)
        if "certificate verify failed" in str(link).lower() or "doesn't match" in str(link):
            return str(link)
    return ""


def _innermost(error: BaseException) -> str:
    for link in _chain(error):
        if isinstance(link, OSError) and link.strerror:
            return link.strerror.lower()
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
