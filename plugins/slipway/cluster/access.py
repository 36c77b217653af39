"""What the user of a connection may do, as the API server itself answers it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from slipway.cluster.client import Cluster
from slipway.cluster.transport import Request
from slipway.errors import ClusterError

_THREADS = 8


@dataclass(frozen=True, kw_only=True)
class Access:
    """One permission: a verb on a resource, in a namespace (None: the whole cluster), on one name or any."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespace: str | None = None
    name: str | None = None

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        what = f"{resource}.{self.group}" if self.group else resource
        named = f" {self.name}" if self.name else ""
        where = f"in namespace {self.namespace}" if self.namespace else "in the whole cluster"
        return f"{self.verb} {what}{named} {where}"


def can_i(cluster: Cluster, wanted: Iterable[Access]) -> dict[Access, bool]:
    """Ask the server about each permission (SelfSubjectAccessReview), several at a time.

    Every authenticated user may ask about itself, unless the cluster's owner took ``system:basic-user`` away.

    Raises:
        ClusterError: the server could not be asked.
    """
    asked = list(dict.fromkeys(wanted))
    with ThreadPoolExecutor(max_workers=_THREADS) as threads:
        allowed = list(threads.map(lambda access: _ask(cluster, access), asked))
    return dict(zip(asked, allowed, strict=True))


def who_am_i(cluster: Cluster) -> str | None:
    """Return the user's name as the API server knows it; None where it does not tell (older than 1.28, no right)."""
    try:
        answer = cluster.send(
            Request(
                method="POST",
                path="/apis/authentication.k8s.io/v1/selfsubjectreviews",
                what="ask for the user's own name",
                body={"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
            )
        )
    except ClusterError:
        return None
    return answer.json().get("status", {}).get("userInfo", {}).get("username") or None


def _ask(cluster: Cluster, access: Access) -> bool:
    attributes = {
        "verb": access.verb,
        "group": access.group,
        "resource": access.resource,
        "subresource": access.subresource,
        "namespace": access.namespace or "",
        "name": access.name or "",
    }
    answer = cluster.send(
        Request(
            method="POST",
            path="/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            what="ask for permissions",
            about=str(access),
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
        )
    )
    return bool(answer.json().get("status", {}).get("allowed"))
