"""Taking over a workload that serves, without a restart: its pods get Slipway's labels while they run.

A pod template that changes makes its controller replace the pods. Two controllers can be told not to:

- A StatefulSet with the update strategy ``OnDelete`` leaves the pods that it has alone and gives the new template to
  those that it makes later, also to one that takes the place of a pod that was evicted.
- A Deployment knows the ReplicaSet of its pods by its template. While it is paused, both templates get the labels;
  afterwards they are equal again and there is nothing to roll out. The ReplicaSet gives new pods the new template.

So from then on every pod of the endpoint carries the labels, whenever it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from slipway.catalog.names import COMPONENT_LABEL
from slipway.cluster.client import Cluster
from slipway.cluster.objects import (
    MANAGED_BY_LABEL,
    MANAGER,
    Object,
    Ref,
    labels_of,
    ref_of,
)
from slipway.errors import ClusterError

ADOPTABLE_KINDS = ("StatefulSet", "Deployment")
_REVISION = "deployment.kubernetes.io/revision"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_OF_THE_SERVER = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"}
    | {"ownerReferences", "finalizers", "deletionTimestamp", "deletionGracePeriodSeconds"}
)
# Addresses belong to one incarnation of a Service; one that is made anew gets its own.
_OF_A_SERVICE = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort")
_HOUSE = "slipway.io/"

Say = Callable[..., None]


def manifest_of(live: Object) -> Object:
    """Return a live object as its manifest: without what the server, or a controller, keeps in it for itself.

    Slipway's own labels are left out too, so that an object has the same manifest before and after it is taken over.
    """
    obj: Object = deepcopy(
        {key: live[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in live}
    )
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _OF_THE_SERVER}
    annotations = metadata.pop("annotations", None) or {}
    annotations = {key: value for key, value in annotations.items() if key not in (_LAST_APPLIED, _REVISION)}
    obj["metadata"] = metadata | ({"annotations": annotations} if annotations else {})
    metadata["labels"] = without_house_labels(metadata.get("labels"))
    spec = obj.get("spec", {})
    if obj["kind"] == "Service":
        headless = spec.get("clusterIP") == "None"
        obj["spec"] = {key: value for key, value in spec.items() if key not in _OF_A_SERVICE}
        obj["spec"] |= {"clusterIP": "None"} if headless else {}
        obj["spec"]["selector"] = without_house_labels(spec.get("selector"))
    if obj["kind"] in ADOPTABLE_KINDS:
        template = spec["template"].setdefault("metadata", {})
        template.pop("creationTimestamp", None)
        template["labels"] = without_house_labels(template.get("labels"))
        spec.pop("paused", None)
        for claim in spec.get("volumeClaimTemplates") or []:
            claim.pop("status", None)
            claim["metadata"].pop("creationTimestamp", None)
    if obj["kind"] == "StatefulSet":
        spec["updateStrategy"] = {"type": "OnDelete"}
    return obj


def fixed_differences(live: Object, wanted: Object) -> list[str]:
    """Return which fields of a controller differ that Kubernetes never changes: it has to be made anew for them."""
    defaults: dict[str, Any] = {"podManagementPolicy": "OrderedReady", "volumeClaimTemplates": []}
    fixed = {
        "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
        "Deployment": ("selector",),
    }.get(wanted["kind"])
    if fixed is None:
        return []
    before, after = (manifest_spec(one) for one in (live, wanted))
    return [
        field
        for field in fixed
        if (before.get(field) or defaults.get(field)) != (after.get(field) or defaults.get(field))
    ]


def beside(controller: Object, *, anew: bool = True) -> Object:
    """Return a controller under a name that nothing has, to try what has to be deleted before it can be made."""
    metadata = controller["metadata"]
    return (
        {**controller, "metadata": {**metadata, "name": f"{metadata['name']}-anew"}} if anew else controller
    )


def manifest_spec(workload: Object) -> Object:
    """The spec of a workload's manifest; labels in its selector are kept, whosever they are."""
    spec: Object = deepcopy(workload["spec"])
    for claim in spec.get("volumeClaimTemplates") or []:
        claim.pop("status", None)
        claim["metadata"].pop("creationTimestamp", None)
    return spec


def label_workload(
    cluster: Cluster, live: Object, *, template: Mapping[str, str], own: Mapping[str, str], say: Say
) -> int:
    """Give a controller and all its pods, those of now and of later, labels, and restart none of them.

    Safe to repeat, also after a run that died in the middle.

    Args:
        cluster: where.
        live: the StatefulSet or Deployment.
        template: labels of pods.
        own: labels of the controller.
        say: told what was done.

    Returns:
        How many pods it has.

    Raises:
        ClusterError: the ReplicaSet of a Deployment's pods is not there, or a write was refused.
    """
    ref, owner = ref_of(live), live
    spec: Object = {"template": {"metadata": {"labels": dict(template)}}}
    if ref.kind == "StatefulSet":
        spec["updateStrategy"] = {"type": "OnDelete", "rollingUpdate": None}
        cluster.patch(ref, {"metadata": {"labels": dict(own)}, "spec": spec})
    else:
        owner = replica_set_of(cluster, live)
        if not set(template.items()) <= set(labels_of(live["spec"]["template"]).items()):
            _label_deployment(cluster, ref, ref_of(owner), spec, template=template)
        cluster.patch(ref, {"metadata": {"labels": dict(own)}})
    say("%s has the labels, and replaces no pod for them", ref)
    pods = pods_of(cluster, live, owner=owner)
    for pod in pods:
        cluster.patch(ref_of(pod), {"metadata": {"labels": dict(template)}})
        say("Pod %s has the labels", pod["metadata"]["name"])
    return len(pods)


def _label_deployment(
    cluster: Cluster, ref: Ref, replicas: Ref, spec: Object, *, template: Mapping[str, str]
) -> None:
    labels = {"spec": {"template": {"metadata": {"labels": dict(template)}}}}
    cluster.patch(ref, {"spec": {"paused": True}})
    try:
        cluster.patch(replicas, labels)
        cluster.patch(ref, {"spec": {**spec, "paused": False}})
    except ClusterError:
        # Equal templates again, or what is paused would roll out as soon as somebody lets it go on.
        without = dict.fromkeys(template)
        cluster.patch(replicas, {"spec": {"template": {"metadata": {"labels": without}}}})
        cluster.patch(ref, {"spec": {"template": {"metadata": {"labels": without}}, "paused": False}})
        raise


def replica_set_of(cluster: Cluster, deployment: Object) -> Object:
    """Return the ReplicaSet that keeps a Deployment's pods: of its own revision.

    Raises:
        ClusterError: there is none.
    """
    metadata = deployment["metadata"]
    revision = (metadata.get("annotations") or {}).get(_REVISION)
    for one in cluster.list(api_version="apps/v1", kind="ReplicaSet", namespace=metadata["namespace"]):
        annotations = one["metadata"].get("annotations") or {}
        if _is_owned(one, deployment) and annotations.get(_REVISION) == revision:
            return one
    raise ClusterError(
        "the Deployment has no ReplicaSet",
        about=str(ref_of(deployment)),
        why=f"none of revision {revision}",
        remedy="Wait until it has rolled out",
    )


def pods_of(cluster: Cluster, controller: Object, *, owner: Object | None = None) -> list[Object]:
    """Return the pods that a StatefulSet, or a Deployment's ReplicaSet, keeps.

    Args:
        cluster: where.
        controller: the StatefulSet or Deployment.
        owner: the ReplicaSet of a Deployment.
    """
    labels = controller["spec"]["selector"].get("matchLabels") or {}
    namespace = controller["metadata"]["namespace"]
    found = cluster.list(api_version="v1", kind="Pod", namespace=namespace, labels=labels)
    return [pod for pod in found if _is_owned(pod, owner or controller)]


def _is_owned(obj: Object, owner: Object) -> bool:
    references = obj["metadata"].get("ownerReferences") or []
    return any(one.get("uid") == owner["metadata"]["uid"] for one in references)


def without_house_labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Return labels without those that Slipway has added."""
    ours = (MANAGED_BY_LABEL, COMPONENT_LABEL) if (labels or {}).get(MANAGED_BY_LABEL) == MANAGER else ()
    return {
        key: value for key, value in (labels or {}).items() if not key.startswith(_HOUSE) and key not in ours
    }
