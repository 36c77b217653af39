"""Kubernetes objects as plain dicts: references, inventories, labels, and paths in the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from slipway.errors import UsageError

Object = dict[str, Any]

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
ENDPOINT_LABEL = "slipway.io/endpoint"
RELEASE_LABEL = "slipway.io/release"
MANAGER = "slipway"
"""Value of the managed-by label and name of the field manager. Renaming it orphans every applied field."""

# Deleting one of these loses data, keys or other people's objects; a person does that, never a prune.
PROTECTED_KINDS = frozenset(
    {"PersistentVolumeClaim", "PersistentVolume", "Namespace", "Secret", "CustomResourceDefinition"}
)

# What others refer to comes first; an unknown kind is a custom resource and comes before what serves.
_ORDER = (
    "Namespace",
    "CustomResourceDefinition",
    "StorageClass",
    "PersistentVolume",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ResourceQuota",
    "LimitRange",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "Secret",
    "ConfigMap",
    "Service",
    "",
    "Pod",
    "Job",
    "StatefulSet",
    "Deployment",
    "LeaderWorkerSet",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "Ingress",
    "HTTPRoute",
)

# Kinds whose place in the API never changes, so that the usual work needs no discovery: plural and whether it
# is in a namespace. All others are asked from the server once.
KNOWN_KINDS: Mapping[tuple[str, str], tuple[str, bool]] = {
    ("v1", "ConfigMap"): ("configmaps", True),
    ("v1", "Event"): ("events", True),
    ("v1", "Namespace"): ("namespaces", False),
    ("v1", "Node"): ("nodes", False),
    ("v1", "PersistentVolume"): ("persistentvolumes", False),
    ("v1", "PersistentVolumeClaim"): ("persistentvolumeclaims", True),
    ("v1", "Pod"): ("pods", True),
    ("v1", "Secret"): ("secrets", True),
    ("v1", "Service"): ("services", True),
    ("v1", "ServiceAccount"): ("serviceaccounts", True),
    ("apps/v1", "Deployment"): ("deployments", True),
    ("apps/v1", "ReplicaSet"): ("replicasets", True),
    ("apps/v1", "StatefulSet"): ("statefulsets", True),
    ("batch/v1", "Job"): ("jobs", True),
    ("coordination.k8s.io/v1", "Lease"): ("leases", True),
    ("storage.k8s.io/v1", "StorageClass"): ("storageclasses", False),
}

# Kinds that serve an endpoint: API version and plural. LeaderWorkerSet is not among the known kinds: where a cluster
# has no such API, the server is asked and the message says so.
_WORKLOADS: Mapping[str, tuple[str, str]] = {
    "StatefulSet": ("apps/v1", "statefulsets"),
    "Deployment": ("apps/v1", "deployments"),
    "LeaderWorkerSet": ("leaderworkerset.x-k8s.io/v1", "leaderworkersets"),
}


class Ref(BaseModel):
    """One object by name; ``namespace`` is None for what belongs to the whole cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    apiVersion: str  # noqa: N815 - the field's name in Kubernetes and in stored inventories
    kind: str
    namespace: str | None = None
    name: str

    def __str__(self) -> str:
        place = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind} {place}"


Inventory = list[Ref]
"""What a release consists of. It is stored with the release, so that a prune needs no guess."""


def ref_of(obj: Object) -> Ref:
    """Return the reference of an object."""
    metadata = obj["metadata"]
    return Ref(
        apiVersion=obj["apiVersion"],
        kind=obj["kind"],
        namespace=metadata.get("namespace"),
        name=metadata["name"],
    )


def in_order(objects: Iterable[Object]) -> list[Object]:
    """Sort objects so that what others need comes first; equals keep their order."""

    def rank(obj: Object) -> int:
        kind = obj["kind"]
        return _ORDER.index(kind if kind in _ORDER else "")

    return sorted(objects, key=rank)


def group_path(api_version: str) -> str:
    """Return the path of an API version: ``/api/v1`` or ``/apis/<group>/<version>``."""
    return f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"


def object_path(
    *,
    api_version: str,
    plural: str,
    namespace: str | None,
    name: str | None = None,
    subresource: str | None = None,
) -> str:
    """Return the path of an object, or of its collection when ``name`` is None."""
    parts = [group_path(api_version)]
    if namespace:
        parts.append(f"namespaces/{quote(namespace, safe='')}")
    parts.append(plural)
    parts.extend(quote(part, safe="") for part in (name, subresource) if part)
    return "/".join(parts)


def selector(wanted: Mapping[str, str]) -> str:
    """Return labels or fields as a selector in the API's query form."""
    return ",".join(f"{key}={value}" for key, value in wanted.items())


def labels_of(obj: Object) -> dict[str, str]:
    """Return an object's labels; an object without any has an empty dict."""
    return obj.get("metadata", {}).get("labels") or {}


def workload_api(kind: str) -> tuple[str, str]:
    """Return the API version and the plural of a kind of workload, so that callers name the kind only.

    Raises:
        UsageError: Slipway doesn't serve endpoints with this kind.
    """
    if kind not in _WORKLOADS:
        raise UsageError(
            "not a kind of workload that Slipway knows",
            about=kind,
            remedy=f"Kinds are {', '.join(_WORKLOADS)}",
        )
    return _WORKLOADS[kind]
