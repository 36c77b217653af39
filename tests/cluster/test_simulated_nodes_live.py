"""Simulated nodes: Ready on demand, beside the real one, gone without a trace, and what the checks say of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox import gobuild, kwok, settings
from sandbox.cluster import Cluster as Sandbox
from slipway.catalog.read import include_directory, read_catalog
from slipway.checks.findings import blocking, table
from slipway.checks.plan import site_of
from slipway.checks.run import run_checks
from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError
from slipway.cluster.objects import Object, Ref
from tests.cluster.gateway import until

CARDS = {"nvidia.com/gpu": "8"}


@pytest.fixture(scope="module")
def kubectl() -> Sandbox:
    config = settings.load(recorded=True)
    return Sandbox(
        kubectl_path=gobuild.program(config, gobuild.KUBERNETES, "kubectl"),
        kubeconfig=config.admin_kubeconfig,
    )


def names(cluster: Cluster) -> set[str]:
    return {node["metadata"]["name"] for node in cluster.list(api_version="v1", kind="Node")}


def real(cluster: Cluster) -> Object:
    found = cluster.get(api_version="v1", kind="Node", name=settings.NODE_NAME)
    assert found is not None
    return {"spec": found["spec"], "labels": found["metadata"]["labels"]}


def test_nodes_come_and_go_and_the_real_one_stays_as_it_is(cluster: Cluster, kubectl: Sandbox) -> None:
    before = real(cluster)
    with kwok.fake_nodes(kubectl, 3, resources=CARDS) as made:
        assert names(cluster) == {settings.NODE_NAME, *made}
        for name in made:
            node = cluster.get(api_version="v1", kind="Node", name=name)
            assert node is not None
            assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
            taints = {taint["key"]: taint["effect"] for taint in node["spec"]["taints"]}
            assert taints[kwok.ANNOTATION] == "NoSchedule"
        assert real(cluster) == before
    until(lambda: names(cluster) == {settings.NODE_NAME}, what="only the real node")


def test_the_api_server_refuses_it_the_real_node(
    kubectl: Sandbox, cluster: Cluster, as_user: Callable[[str], Cluster]
) -> None:
    changes = {"status": {"phase": "Running"}}
    as_kwok = as_user("system:kwok")
    with pytest.raises(ApiError, match="only nodes that are marked as fake"):
        as_kwok.patch(
            Ref(apiVersion="v1", kind="Node", name=settings.NODE_NAME), changes, subresource="status"
        )
    with kwok.fake_nodes(kubectl, 1) as [made]:
        as_kwok.patch(Ref(apiVersion="v1", kind="Node", name=made), changes, subresource="status")


def test_a_pod_that_asks_for_nothing_else_goes_to_the_real_node(
    kubectl: Sandbox, cluster: Cluster, namespace: str, deployment: Callable[..., Object]
) -> None:
    with kwok.fake_nodes(kubectl, 3):
        cluster.create(deployment("one", "import time; time.sleep(3600)", namespace=namespace))

        def pods() -> list[Object]:
            return cluster.list(api_version="v1", kind="Pod", namespace=namespace)

        until(lambda: bool(pods()) and "nodeName" in pods()[0]["spec"], what="a node for the pod")
        assert pods()[0]["spec"]["nodeName"] == settings.NODE_NAME


def test_a_cluster_of_many_nodes_is_checked_like_a_small_one(
    as_user: Callable[[str], Cluster], kubectl: Sandbox
) -> None:
    include = include_directory()
    site = site_of(read_catalog(include), "sandbox", include=include)
    with kwok.fake_nodes(kubectl, 40, resources=CARDS):
        found = run_checks(as_user("slipway"), site)
    late = [one for one in found if "no answer within" in one.reason]
    assert late == [], table(found)
    wrong = [one for one in blocking(found) if one.check not in ("secrets", "storage")]
    assert wrong == [], table(found)
