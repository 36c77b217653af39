"""A release that changes the kind of its pods' controller leaves no other one behind."""

from __future__ import annotations

from typing import Any

import pytest

from slipway.cluster.client import Cluster
from slipway.cluster.controllers import KINDS, look, retire


@pytest.fixture
def cluster(slipway: Cluster) -> Cluster:
    """What is tried here acts with Slipway's own rights."""
    return slipway


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

    there = look(cluster, namespace=namespace, endpoint="mine").workloads
    kept = {one.ref for one in there if one.ref.kind == keep}

    deleted = retire(cluster, there, keep=kept)

    assert {ref.kind: ref.name for ref in deleted} == {k: name(k, "mine") for k in KINDS if k != keep}
    assert {one.ref for one in look(cluster, namespace=namespace, endpoint="mine").workloads} == kept
    others = look(cluster, namespace=namespace, endpoint="other").workloads
    assert {one.ref.kind for one in others} == set(KINDS)
