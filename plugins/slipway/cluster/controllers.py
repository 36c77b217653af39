"""An endpoint has one controller of its pods; a release that changes its kind leaves the one before behind."""

from __future__ import annotations

from slipway.cluster.client import Cluster
from slipway.cluster.faults import UnknownKindError
from slipway.cluster.objects import ENDPOINT_LABEL, Inventory, Object, ref_of, workload_api

KINDS = ("StatefulSet", "Deployment", "LeaderWorkerSet")


def find_controller(cluster: Cluster, *, kind: str, namespace: str, name: str) -> Object | None:
    """Return the object that keeps an endpoint's pods, or None when it is not there."""
    return cluster.get(api_version=workload_api(kind)[0], kind=kind, namespace=namespace, name=name)


def retire_others(cluster: Cluster, *, namespace: str, endpoint: str, keep: str) -> Inventory:
    """Delete controllers of an endpoint's pods of other kinds than ``keep``, pods and all.

    Two controllers would count each other's pods, which carry the same labels, and the one before would keep the
    cards that the new one waits for. Pods end in the background.

    Args:
        cluster: where.
        namespace: the endpoint's namespace.
        endpoint: the value of its endpoint label.
        keep: the kind of the release that is wanted.

    Returns:
        What was deleted.
    """
    deleted: Inventory = []
    for kind in KINDS:
        if kind == keep:
            continue
        for live in _of_kind(cluster, kind, namespace=namespace, endpoint=endpoint):
            if live["metadata"].get("ownerReferences"):
                continue  # a LeaderWorkerSet keeps its leaders by a StatefulSet of its own
            if cluster.delete(ref_of(live), uid=live["metadata"]["uid"]):
                deleted.append(ref_of(live))
    return deleted


def _of_kind(cluster: Cluster, kind: str, *, namespace: str, endpoint: str) -> list[Object]:
    api_version = workload_api(kind)[0]
    labels = {ENDPOINT_LABEL: endpoint}
    try:
        return cluster.list(api_version=api_version, kind=kind, namespace=namespace, labels=labels)
    except UnknownKindError:  # most clusters have no LeaderWorkerSets
        return []
