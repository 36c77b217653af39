"""Why the API server refused or could not be reached, taken from its own Status body and nothing else.

A Status carries message, reason and causes, all written by Kubernetes for people. Any other body (a proxy's
HTML, a login page, a webhook's dump) is dropped: nobody knows what it holds, and it would end in logs and
pages.
"""

from __future__ import annotations

import json
from typing import Any

from slipway.errors import ClusterError, bounded

TRANSIENT_STATUS = frozenset({429, 500, 502, 503, 504})
_MOST_CAUSES = 5
# The server calls an unknown field in an apply an internal error (500), which would look as if it might pass.
_MISTYPED = "typed patch object"

_REMEDIES = {
    401: "Renew the credentials of the cluster's connection",
    403: "Give Slipway its role: `slipway check CLUSTER` prints the missing rule",
    404: "Check the name and the namespace, and that the API of this kind is installed",
    413: "The object is too large for the API server",
}


class UnknownKindError(ClusterError):
    """A kind of object whose API the cluster does not have."""


class ApiError(ClusterError):
    """An answer of the API server that is not a success.

    Attributes:
        status: the HTTP status, for example 403.
        reason: the server's word for it ("Forbidden", "AlreadyExists"), or "".
        causes: the single faults that it lists, each with ``reason``, ``message`` and ``field``.
        retry_after: how many seconds the server asked to wait, or None.
    """

    def __init__(
        self,
        what: str,
        *,
        about: str = "",
        why: str = "",
        remedy: str = "",
        status: int,
        reason: str = "",
        causes: list[dict[str, str]] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, about=about, why=why, remedy=remedy)
        self.status, self.reason, self.causes = status, reason, causes or []
        self.retry_after = retry_after

    @property
    def is_transient(self) -> bool:
        """Whether asking again may help: overload, a restarting server, a webhook that is away."""
        return self.status in TRANSIENT_STATUS and _MISTYPED not in self.why


class UnreachableError(ClusterError):
    """The API server gave no answer: refused, reset, timed out, name unknown, or certificate not accepted.

    Attributes:
        is_transient: False where asking again cannot help (a certificate that is not accepted).
        may_have_arrived: False where the connection was never made, so that the server did nothing for sure.
    """

    def __init__(
        self,
        what: str,
        *,
        about: str = "",
        why: str = "",
        remedy: str = "",
        transient: bool = True,
        may_have_arrived: bool = True,
    ) -> None:
        super().__init__(what, about=about, why=why, remedy=remedy)
        self.is_transient, self.may_have_arrived = transient, may_have_arrived


def api_error(what: str, *, about: str, status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """Build the error of an answer from its Status body.

    Args:
        what: what was tried, in a few words.
        about: the object.
        status: the HTTP status.
        body: the answer's body; used only when it is a Kubernetes Status.
        retry_after: the header of that name.
    """
    content = _status_body(body)
    details = content.get("details") or {}
    causes = [
        {key: bounded(str(cause.get(key, ""))) for key in ("reason", "message", "field")}
        for cause in (details.get("causes") or [])[:_MOST_CAUSES]
        if isinstance(cause, dict)
    ]
    message = bounded(str(content.get("message") or f"the server answered with HTTP status {status}"))
    wait = retry_after or details.get("retryAfterSeconds")
    return ApiError(
        what,
        about=about,
        why=message,
        remedy=_remedy(status, message),
        status=status,
        reason=str(content.get("reason") or ""),
        causes=causes,
        retry_after=float(wait) if wait and str(wait).isdigit() else None,
    )


def _status_body(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) and content.get("kind") == "Status" else {}


def _remedy(status: int, message: str) -> str:
    if "updates to statefulset spec" in message:
        return (
            "These fields of a StatefulSet cannot be changed: delete it (its claims stay) and deploy again: "
            "kubectl delete statefulset NAME --cascade=orphan"
        )
    if _MISTYPED in message:
        return "Correct the field that it names in include/templates: kubectl explain KIND"
    if "violates PodSecurity" in message:
        return "Make the pod fit the namespace's Pod Security level, or use another namespace"
    if "exceeded quota" in message:
        return "Raise the namespace's quota or ask for less: kubectl describe resourcequota"
    if "failed calling webhook" in message:
        return "The named admission webhook does not answer: mend or remove it"
    return _REMEDIES.get(status, "")
