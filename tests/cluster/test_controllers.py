"""A release that changes the kind of its pods' controller leaves no other one behind."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.cluster.client import Cluster
from slipway.cluster.controllers import KINDS, find_controller, retire_others


def controller(kind: str, namespace: str, *, endpoint: str, name: str) -> dict[str, Any]:
    """A controller without pods."""
    labels = {"slipway.io/endpoint": endpoint, "app.kubernetes.io/managed-by": "slipway"}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "server", "image": "localhost/none"}]},
    }
    spec: dict[str, Any] = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    version = "apps/v1"
    if kind == "LeaderWorkerSet":
        version = "leaderworkerset.x-k8s.io/v1"
        spec = {"replicas": 0, "leaderWorkerTemplate": {"size": 2, "workerTemplate": template}}
    if kind == "StatefulSet":
        spec["serviceName"] = "none"
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def name(kind: str, endpoint: str) -> str:
    """As a plan names them: a LeaderWorkerSet makes a StatefulSet of its own name."""
    return f"{endpoint}-group" if kind == "LeaderWorkerSet" else endpoint


@pytest.mark.parametrize("keep", KINDS)
def test_only_the_kind_that_the_release_wants_stays(cluster: Cluster, namespace: str, keep: str) -> None:
    for kind in KINDS:
        cluster.create(controller(kind, namespace, endpoint="mine", name=name(kind, "mine")))
        cluster.create(controller(kind, namespace, endpoint="other", name=name(kind, "other")))

    deleted = retire_others(cluster, namespace=namespace, endpoint="mine", keep=keep)

    assert {ref.kind: ref.name for ref in deleted} == {k: name(k, "mine") for k in KINDS if k != keep}
    live = {k: find_controller(cluster, kind=k, namespace=namespace, name=name(k, "mine")) for k in KINDS}
    # What has finalizers, as a LeaderWorkerSet may, is on its way out.
    there = {kind for kind, one in live.items() if one and not one["metadata"].get("deletionTimestamp")}
    assert there == {keep}
    for kind in KINDS:
        assert find_controller(cluster, kind=kind, namespace=namespace, name=name(kind, "other"))
