"""The kinds that Slipway makes objects of are served, and a real API server refuses what is wrong in them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from sandbox import definitions, gobuild, leaderworkerset, settings
from sandbox.cluster import Cluster as Sandbox
from slipway.cluster.access import Access, can_i
from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError
from slipway.cluster.objects import Object, ref_of

CONTAINER = {"name": "server", "image": "i"}
GROUPS = {"size": 2, "workerTemplate": {"spec": {"containers": [CONTAINER]}}}
HTTP = {"name": "http", "protocol": "HTTP", "port": 80}
METRIC = {"type": "prometheus", "metadata": {"serverAddress": "http://p", "query": "up", "threshold": "1"}}
MEMORY = {"mediumtype": "MEM", "path": "/dev/shm", "quota": "1Gi"}
OSS = {"mountPoint": "oss://bucket/models", "options": {"fs.oss.endpoint": "e"}}
BAIZE = {"type": "MODEL_SCOPE", "uri": "modelscope://Qwen/Qwen3-8B", "options": {"revision": "master"}}

# Kind: API version, a spec that is right, and what of it is made wrong.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "GatewayClass": (
        "gateway.networking.k8s.io/v1",
        {"controllerName": "example.com/c"},
        {"controllerName": 1},
    ),
    "Gateway": (
        "gateway.networking.k8s.io/v1",
        {"gatewayClassName": "c", "listeners": [HTTP]},
        {"listeners": [{**HTTP, "port": 0}]},
    ),
    "HTTPRoute": (
        "gateway.networking.k8s.io/v1",
        {"rules": [{"timeouts": {"request": "600s"}, "backendRefs": [{"name": "s", "port": 80}]}]},
        {"rules": [{"timeouts": {"request": "10m 3s"}}]},
    ),
    "GRPCRoute": (
        "gateway.networking.k8s.io/v1",
        {"rules": [{"backendRefs": [{"name": "s", "port": 80}]}]},
        {"rules": [{"backendRefs": [{"name": "s", "port": 0}]}]},
    ),
    "ReferenceGrant": (
        "gateway.networking.k8s.io/v1beta1",
        {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "n"}],
            "to": [{"group": "", "kind": "Service"}],
        },
        {"to": []},
    ),
    "LeaderWorkerSet": (
        "leaderworkerset.x-k8s.io/v1",
        {"leaderWorkerTemplate": GROUPS},
        {"leaderWorkerTemplate": {**GROUPS, "restartPolicy": "Always"}},
    ),
    "JindoRuntime": (
        "data.fluid.io/v1alpha1",
        {"replicas": 1, "tieredstore": {"levels": [MEMORY]}},
        {"tieredstore": {"levels": [{**MEMORY, "mediumtype": "TAPE"}]}},
    ),
    "DataLoad": (
        "data.fluid.io/v1alpha1",
        {"dataset": {"name": "d", "namespace": "n"}, "loadMetadata": True},
        {"policy": "Often"},
    ),
    "IPAddressPool": ("metallb.io/v1beta1", {"addresses": ["10.0.0.1-10.0.0.9"]}, {"addresses": "10.0.0.1"}),
    "L2Advertisement": ("metallb.io/v1beta1", {"ipAddressPools": ["p"]}, {"ipAddressPools": "p"}),
    "ScaledObject": (
        "keda.sh/v1alpha1",
        {"scaleTargetRef": {"name": "d"}, "maxReplicaCount": 2, "triggers": [METRIC]},
        {"maxReplicaCount": "two"},
    ),
    "TriggerAuthentication": (
        "keda.sh/v1alpha1",
        {"secretTargetRef": [{"parameter": "p", "name": "s", "key": "k"}]},
        {"secretTargetRef": [{"parameter": "p"}]},
    ),
    "ServiceMonitor": (
        "monitoring.coreos.com/v1",
        {"selector": {"matchLabels": {"a": "b"}}, "endpoints": [{"port": "http", "interval": "15s"}]},
        {"endpoints": [{"port": "http", "interval": "often"}]},
    ),
    "Dataset (Fluid)": (
        "data.fluid.io/v1alpha1",
        {"placement": "Shared", "accessModes": ["ReadOnlyMany"], "mounts": [OSS]},
        {"mounts": [{**OSS, "mountPoint": "o"}]},
    ),
    "Dataset (BaizeAI)": (
        "dataset.baizeai.io/v1alpha1",
        {"source": BAIZE, "share": True, "mountOptions": {"mode": "0774"}, "dataSyncRound": 1},
        {"source": {**BAIZE, "type": "HUGGINGFACE"}},
    ),
}
OF_THE_WHOLE_CLUSTER = {"GatewayClass"}


def made(kind: str, spec: dict[str, Any], *, namespace: str) -> Object:
    place = {} if kind in OF_THE_WHOLE_CLUSTER else {"namespace": namespace}
    return {
        "apiVersion": KINDS[kind][0],
        "kind": kind.partition(" ")[0],
        "metadata": {"name": "slipway-test", **place},
        "spec": deepcopy(spec),
    }


def refusal(cluster: Cluster, obj: Object) -> str:
    with pytest.raises(ApiError) as refused:
        cluster.apply(obj, dry_run=True)
    return refused.value.why


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_served_and_what_is_wrong_in_it_is_refused(
    cluster: Cluster, namespace: str, kind: str
) -> None:
    _, spec, wrong = KINDS[kind]
    assert cluster.apply(made(kind, spec, namespace=namespace), dry_run=True)["spec"]
    field = next(iter(wrong))
    assert f"spec.{field}" in refusal(cluster, made(kind, {**spec, **wrong}, namespace=namespace))
    unknown = refusal(cluster, made(kind, {**spec, "sloppy": True}, namespace=namespace))
    assert "sloppy" in unknown


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"source": {**BAIZE, "type": "GIT"}}, "Value is immutable"),
        ({"source": {**BAIZE, "uri": "modelscope://Qwen/Qwen3-4B"}}, "Value is immutable"),
        ({"mountOptions": {"path": "/elsewhere"}}, "Value is immutable"),
        ({"dataSyncRound": 3}, "can only be incremented by 1"),
    ],
    ids=["type", "uri", "path", "round"],
)
def test_a_dataset_keeps_its_source_and_counts_its_rounds(
    cluster: Cluster, namespace: str, changes: dict[str, Any], told: str
) -> None:
    kind = "Dataset (BaizeAI)"
    spec = KINDS[kind][1]
    dataset = cluster.apply(made(kind, spec, namespace=namespace))
    assert dataset["spec"]["mountOptions"] == {"path": "/", "mode": "0774", "uid": 1000, "gid": 1000}
    assert told in refusal(cluster, made(kind, {**spec, **changes}, namespace=namespace))
    again = cluster.apply(made(kind, {**spec, "dataSyncRound": 2}, namespace=namespace))
    assert again["spec"]["dataSyncRound"] == 2
    cluster.delete(ref_of(dataset))


# -- how the sandbox installs them ----------------------------------------------------------------------------


def versions(cluster: Cluster) -> dict[tuple[str, str], str]:
    """The version of every object that comes from a module or is a definition of our own."""
    kinds = {
        "CustomResourceDefinition": "apiextensions.k8s.io/v1",
        "ClusterRole": "rbac.authorization.k8s.io/v1",
        "MutatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
    }
    return {
        (kind, one["metadata"]["name"]): one["metadata"]["resourceVersion"]
        for kind, api_version in kinds.items()
        for one in cluster.list(api_version=api_version, kind=kind)
        if definitions.CONTENT_LABEL in (one["metadata"].get("labels") or {})
    }


def test_what_is_there_is_neither_fetched_nor_sent_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings.load(recorded=True)
    kubectl = Sandbox(
        kubectl_path=gobuild.program(config, gobuild.KUBERNETES, "kubectl"),
        kubeconfig=config.admin_kubeconfig,
    )
    before = versions(cluster)
    monkeypatch.setattr(gobuild, "module_directory", None)
    definitions.ensure(config, kubectl)
    leaderworkerset.start(config, kubectl)
    assert versions(cluster) == before
    # DisaggregatedSet is LeaderWorkerSet's too, seven more are MetalLB's and four KEDA's; a role; two of webhooks.
    assert len(before) == len(KINDS) + 15


def test_what_go_fetches_is_held_to_a_hash() -> None:
    for pinned in ("autoscaling", "crds", "extensions", "lws"):
        folder = settings.FILES / "go" / pinned
        sums = (folder / "go.sum").read_text().splitlines()
        known = {tuple(line.split()[:2]) for line in sums}
        mine = {source.module for source in definitions.SOURCES if source.pinned_in == pinned}
        lines = [line.split() for line in (folder / "go.mod").read_text().splitlines()]
        pins = {words[0]: words[1] for words in lines if words and words[0] in mine}
        assert pins.keys() == mine
        for module, version in pins.items():
            assert {(module, version), (module, f"{version}/go.mod")} <= known


@pytest.mark.parametrize(
    ("group", "resource", "verb", "allowed"),
    [
        ("apps", "statefulsets", "create", True),
        ("leaderworkerset.x-k8s.io", "leaderworkersets", "watch", True),
        ("", "secrets", "get", False),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "update", False),
        ("rbac.authorization.k8s.io", "clusterroles", "get", False),
    ],
)
def test_the_controller_has_no_right_that_it_has_no_use_for(
    as_user: Callable[[str], Cluster], group: str, resource: str, verb: str, allowed: bool
) -> None:
    access = Access(verb=verb, group=group, resource=resource, subresource="", namespace=None, name=None)
    assert can_i(as_user("system:leaderworkerset"), [access]) == {access: allowed}


def test_pods_of_no_set_do_not_wait_for_the_controller(cluster: Cluster) -> None:
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        found = cluster.get(
            api_version="admissionregistration.k8s.io/v1", kind=kind, name=leaderworkerset.NAME
        )
        assert found is not None
        [of_pods] = [
            one for one in found["webhooks"] if any("pods" in rule["resources"] for rule in one["rules"])
        ]
        assert of_pods["objectSelector"]["matchExpressions"] == [
            {"key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists"}
        ]
