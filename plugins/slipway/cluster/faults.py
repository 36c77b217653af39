"""Why the API server refused or could not be reached, taken from its own Status body and nothing else.

A Status carries message, reason and causes, all written by Kubernetes for people. Any other body (a proxy's
HTML, a login page, a webhook's dump) is dropped: nobody knows what it holds, and it would end in logs and
pages.
"""

from __future__ import annotations

import json
import re
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
# What refusals say, and what to do; without the status, since controllers hand the words alone on.
_REFUSALS: tuple[tuple[str, str], ...] = (
    (
        r"updates to statefulset spec",
        "These fields of a StatefulSet cannot be changed: delete it (its claims stay) and deploy again: "
        "kubectl delete statefulset NAME --cascade=orphan",
    ),
    (_MISTYPED, "Correct the field that it names in include/templates: kubectl explain KIND"),
    (
        r"violates PodSecurity",
        "Make the pod fit the namespace's Pod Security level, or use another namespace",
    ),
    (
        r"exceeded quota|failed quota",
        "Raise the namespace's quota or ask for less: kubectl describe resourcequota",
    ),
    (
        r"(maximum|minimum) \S+ usage per|max limit to request ratio per",
        "Ask for what the namespace's LimitRange allows, or widen it: kubectl describe limitrange",
    ),
    (r"failed calling webhook", "The named admission webhook does not answer: mend or remove it"),
    (
        r"admission webhook .* denied|ValidatingAdmissionPolicy",
        "Make the endpoint fit the named admission rule, or have that changed by whoever made it",
    ),
    (
        r"no PriorityClass with name",
        "Make it, or name one that is there in the endpoint's placement: kubectl get priorityclass",
    ),
    (r"RuntimeClass .* not found", "Make it, or name one that is there: kubectl get runtimeclass"),
    (r"serviceaccount .* not found", "Create the service account that the pod names"),
    (
        r"because it is being terminated",
        "Wait until the namespace is gone, then make it anew: kubectl get namespace",
    ),
    (r"^namespaces .* not found", "Make the namespace, or correct the endpoint's: kubectl create namespace"),
)


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
    return refusal_remedy(message) or _REMEDIES.get(status, "")


def refusal_remedy(message: str) -> str:
    """What to do about an object that the API server or its admission refuses; "" where the words are not known."""
    return next((remedy for words, remedy in _REFUSALS if re.search(words, message)), "")
