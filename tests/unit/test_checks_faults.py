"""Faults of a cluster, one at a time in a healthy one: each is found, named, with a remedy, and no other alarm."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from slipway.checks.findings import Finding, blocking, table
from slipway.checks.run import run_checks
from slipway.checks.subject import Site
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from tests.unit import checks_snapshot as snapshot

Objects = list[Object]


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API's certificate and DNS, which are no objects."""
    monkeypatch.setattr("ssl.get_server_certificate", lambda *_, **__: snapshot.certificate("cluster.test"))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("10.1.0.10", 0))])


def look(objects: Objects, site: Site | None = None, **api: Any) -> list[Finding]:
    served = snapshot.FakeApi(objects, kinds=api.pop("kinds", snapshot.KINDS), **api)
    return run_checks(Cluster(api_client=served, patience=0), site or snapshot.site())


def pick(objects: Objects, kind: str, name: str) -> Object:
    return next(one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))


def change(kind: str, name: str, where: str, value: Any) -> Callable[[Objects], Objects]:
    """Set one field; ``where`` is a path, and numbers in it are places in a list."""

    def apply(objects: Objects) -> Objects:
        target: Any = pick(objects, kind, name)
        *path, last = where.split("|")
        for step in path:
            target = target[int(step)] if step.isdigit() else target[step]
        if value is None:
            del target[int(last) if last.isdigit() else last]
        else:
            target[int(last) if last.isdigit() else last] = value
        return objects

    return apply


def without(kind: str, name: str) -> Callable[[Objects], Objects]:
    return lambda objects: [one for one in objects if (one["kind"], one["metadata"]["name"]) != (kind, name)]


def every_node(where: str, value: Any) -> Callable[[Objects], Objects]:
    def apply(objects: Objects) -> Objects:
        for name in ("gpu-1", "gpu-2"):
            change("Node", name, where, value)(objects)
        return objects

    return apply


def state(kind: str, name: str, type_: str, status: str = "False") -> Callable[[Objects], Objects]:
    """Set a condition, with a message."""

    def apply(objects: Objects) -> Objects:
        found = pick(objects, kind, name)["status"]["conditions"]
        found[:] = [one for one in found if one["type"] != type_]
        found.append({"type": type_, "status": status, "message": "so it is", "observedGeneration": 1})
        return objects

    return apply


def listener_state(type_: str) -> Callable[[Objects], Objects]:
    bad = {"type": type_, "status": "False", "message": "so it is"}
    return change("Gateway", "gateway", "status|listeners|1|conditions", [bad])


def hydra(old: str, new: str) -> Callable[[Objects], Objects]:
    return change("ConfigMap", "hydra-agent", "data|config.yaml", snapshot.HYDRA_CONFIG.replace(old, new))


def tls(**more: Any) -> Callable[[Objects], Objects]:
    names = more.pop("names", ("*.models.example",))
    return change(
        "Secret", "models-tls", "data|tls.crt", snapshot.encoded(snapshot.certificate(*names, **more))
    )


def silent(service: str) -> Callable[[Objects], Objects]:
    return change("EndpointSlice", f"{service}-x", "endpoints", [])


TAINT = [{"key": "role", "value": "bigdata", "effect": "NoSchedule"}]
LEVEL = "metadata|labels|pod-security.kubernetes.io/enforce"
MESSAGE = "parents|0|conditions"

# What is wrong, and what must be found: the check, a part of the object's name, words of the reason, the severity.
FAULTS: dict[str, tuple[Callable[[Objects], Objects], str, str, str, str]] = {
    "no namespace": (without("Namespace", "models"), "namespace", "models", "no such namespace", "blocking"),
    "namespace ends": (
        change("Namespace", "models", "status", {"phase": "Terminating"}),
        *("namespace", "models", "being deleted", "blocking"),
    ),
    "quota 0": (
        change("ResourceQuota", "quota", "spec|hard|requests.cpu", "0"),
        *("quotas", "models/quota", "does not fit", "blocking"),
    ),
    "quota of pods": (
        change("ResourceQuota", "quota", "spec|hard|pods", "0"),
        *("quotas", "models/quota", "pods: endpoint qwen", "blocking"),
    ),
    "limit range": (
        change("LimitRange", "limits", "spec|limits|0|max|memory", "32Gi"),
        *("quotas", "models/limits", "asks for 64Gi", "blocking"),
    ),
    "limit range for claims": (
        change(
            "LimitRange",
            "limits",
            "spec|limits|0",
            {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
        ),
        *("quotas", "models/limits", "asks for 10Gi", "blocking"),
    ),
    "node not ready": (state("Node", "gpu-2", "Ready"), "machines", "gpu-2", "so it is", "warning"),
    "node silent": (state("Node", "gpu-2", "Ready", "Unknown"), "machines", "gpu-2", "not ready", "warning"),
    "disk pressure": (
        state("Node", "gpu-2", "DiskPressure", "True"),
        "machines",
        "gpu-2",
        "DiskPressure",
        "warning",
    ),
    "memory pressure": (
        state("Node", "gpu-1", "MemoryPressure", "True"),
        "machines",
        "gpu-1",
        "evicted",
        "warning",
    ),
    "no network": (
        state("Node", "gpu-1", "NetworkUnavailable", "True"),
        "machines",
        "gpu-1",
        "network",
        "warning",
    ),
    "old kernel": (
        change("Node", "gpu-1", "status|nodeInfo|kernelVersion", "2.6.32-754"),
        *("machines", "gpu-1", "older than 3.10", "blocking"),
    ),
    "kubelet newer": (
        change("Node", "gpu-1", "status|nodeInfo|kubeletVersion", "v1.35.0"),
        *("skew", "gpu-1", "newer than the API server", "blocking"),
    ),
    "kubelet too old": (
        change("Node", "gpu-1", "status|nodeInfo|kubeletVersion", "v1.30.2"),
        *("skew", "gpu-1", "more than 3 minor versions older", "blocking"),
    ),
    "no card offered": (
        every_node("status|allocatable|nvidia.com/gpu", "0"),
        *("cards", "hami-nvidia", "no node offers it", "blocking"),
    ),
    "full nodes": (
        lambda objects: [
            *objects,
            *(
                snapshot.obj(
                    *("v1", "Pod", f"full-{name}"),
                    namespace="x",
                    spec={
                        "nodeName": name,
                        "containers": [{"resources": {"requests": {"nvidia.com/gpu": "8"}}}],
                    },
                    status={"phase": "Running"},
                )
                for name in ("gpu-1", "gpu-2")
            ),
        ],
        *("cards", "hami-nvidia", "none is free", "warning"),
    ),
    "taint": (every_node("spec|taints", TAINT), "cards", "hami-nvidia", "role=bigdata:NoSchedule", "warning"),
    "wrong label": (every_node("metadata|labels|gpu", "off"), "labels", "gpu=on", "has gpu=off", "blocking"),
    "no label": (every_node("metadata|labels|gpu", None), "labels", "gpu=on", "on no node", "blocking"),
    "old driver": (
        change("Node", "gpu-1", "metadata|labels|nvidia.com/cuda.driver-version.major", "418"),
        *("drivers", "gpu-1", "older than 440", "blocking"),
    ),
    "old CUDA": (
        change("Node", "gpu-2", "metadata|labels|nvidia.com/cuda.runtime-version.major", "11"),
        *("drivers", "cuda12.8", "the driver of gpu-2 knows CUDA 11", "blocking"),
    ),
    "driver unknown": (
        change("Node", "gpu-1", "metadata|labels|nvidia.com/cuda.driver-version.major", None),
        *("drivers", "gpu-1", "no label", "not checked"),
    ),
    "MIG single": (
        change("Node", "gpu-1", "metadata|labels|nvidia.com/mig.strategy", "single"),
        *("labels", "gpu-1", "MIG's strategy is single", "blocking"),
    ),
    "simulated cards as real": (
        change("Node", "gpu-1", "metadata|labels|run.ai/fake.gpu", "true"),
        *("simulated", "hami-nvidia", "are simulated", "blocking"),
    ),
    "HAMi's scheduler gone": (
        without("Deployment", "hami-scheduler"),
        *("hami", "HAMi's scheduler", "no Deployment named hami-scheduler", "not checked"),
    ),
    "HAMi's scheduler down": (
        change("Deployment", "hami-scheduler", "status|readyReplicas", 0),
        *("hami", "HAMi's scheduler", "0 of 1 pods", "blocking"),
    ),
    "HAMi's scheduler of another version": (
        change(
            *("Deployment", "hami-scheduler", "spec|template|spec|containers|0|image"),
            "registry.k8s.io/kube-scheduler:v1.28.0",
        ),
        *("hami", "kube-scheduler", "v1.28.0 is not the cluster's", "blocking"),
    ),
    "device plugin down": (
        change("DaemonSet", "hami-device-plugin", "status|numberReady", 0),
        *("hami", "device plugin", "0 of 2", "blocking"),
    ),
    "device plugin partly down": (
        change("DaemonSet", "hami-device-plugin", "status|numberReady", 1),
        *("hami", "device plugin", "1 of 2", "warning"),
    ),
    "device plugin for no node": (
        change("DaemonSet", "hami-device-plugin", "status|desiredNumberScheduled", 0),
        *("hami", "device plugin", "meant for no node", "warning"),
    ),
    "HAMi's webhook gone": (
        without("MutatingWebhookConfiguration", "hami-webhook"),
        *("hami", "webhook", "not registered", "blocking"),
    ),
    "HAMi passes over the namespace": (
        change("Namespace", "models", "metadata|labels|hami.io/webhook", "ignore"),
        *("hami", "models", "passes over", "blocking"),
    ),
    "webhook down": (
        silent("fluid-pod-admission-webhook"),
        *("webhooks", "fluid-pod-admission-webhook", "every such object is refused", "blocking"),
    ),
    "storage class gone": (
        without("StorageClass", "nfs-csi"),
        "classes",
        "nfs-csi",
        "no such storage class",
        "blocking",
    ),
    "CSI driver gone": (
        without("CSIDriver", "nfs.csi.k8s.io"),
        "classes",
        "nfs-csi",
        "is not installed",
        "blocking",
    ),
    "class of one node": (
        change("StorageClass", "nfs-csi", "provisioner", "rancher.io/local-path"),
        *("classes", "nfs-csi", "keeps each volume on one node", "warning"),
    ),
    "secret gone": (without("Secret", "api-key"), "secrets", "models/api-key", "no such Secret", "blocking"),
    "S3 key gone": (
        change("Secret", "s3-credentials", "data|AWS_SECRET_ACCESS_KEY", None),
        *("secrets", "models/s3-credentials", "no value for AWS_SECRET_ACCESS_KEY", "blocking"),
    ),
    "OSS key gone": (
        change("Secret", "oss-secret", "data|akSecret", None),
        *("secrets", "models/oss-secret", "no value for akSecret", "blocking"),
    ),
    "CRD missing": (
        without("CustomResourceDefinition", "referencegrants.gateway.networking.k8s.io"),
        *("gateway-api", "referencegrants", "not installed", "blocking"),
    ),
    "CRD too old": (
        change(
            *("CustomResourceDefinition", "httproutes.gateway.networking.k8s.io"),
            "metadata|annotations|gateway.networking.k8s.io/bundle-version",
            "v1.1.0",
        ),
        *("gateway-api", "httproutes", "older than 1.2.1", "blocking"),
    ),
    "CRD without a version": (
        change(
            *("CustomResourceDefinition", "gateways.gateway.networking.k8s.io"),
            "metadata|annotations|gateway.networking.k8s.io/bundle-version",
            None,
        ),
        *("gateway-api", "gateways.", "names no version", "not checked"),
    ),
    "CRD not established": (
        state("CustomResourceDefinition", "gateways.gateway.networking.k8s.io", "Established"),
        *("gateway-api", "gateways.", "not established", "blocking"),
    ),
    "class of Gateways gone": (
        without("GatewayClass", "eg"),
        "gateways",
        "GatewayClass eg",
        "no such class",
        "blocking",
    ),
    "class not accepted": (
        state("GatewayClass", "eg", "Accepted"),
        "gateways",
        "eg",
        "not accepted",
        "blocking",
    ),
    "class that nobody looked at": (
        change("GatewayClass", "eg", "status|conditions", []),
        *("gateways", "eg", "no controller has looked at it", "blocking"),
    ),
    "Gateway not programmed": (
        state("Gateway", "gateway", "Programmed"),
        "gateways",
        "gateway",
        "not programmed",
        "blocking",
    ),
    "Gateway without address": (
        change("Gateway", "gateway", "status|addresses", []),
        *("gateways", "Gateway gateways/gateway", "has no address", "blocking"),
    ),
    "Gateway's last change not seen": (
        change("Gateway", "gateway", "metadata|generation", 7),
        *("gateways", "Gateway gateways/gateway", "latest change", "warning"),
    ),
    "listener gone": (
        change("Gateway", "gateway", "spec|listeners|1", None),
        *("gateways", "listener https", "no such listener", "blocking"),
    ),
    "listener not resolved": (
        listener_state("ResolvedRefs"),
        "gateways",
        "listener https",
        "ResolvedRefs is False",
        "blocking",
    ),
    "listener not programmed": (
        listener_state("Programmed"),
        "gateways",
        "listener https",
        "Programmed is False",
        "blocking",
    ),
    "certificate expired": (tls(days=-3), "gateways", "certificate of", "expired 3 days ago", "blocking"),
    "certificate ends soon": (tls(days=5), "gateways", "certificate of", "5 more days", "warning"),
    "certificate of another host": (
        tls(names=("other.example",)),
        *("gateways", "certificate of", "for other.example, not for *.models.example", "blocking"),
    ),
    "certificate's chain broken": (
        tls(broken_chain=True),
        "gateways",
        "certificate of",
        "chain is broken",
        "blocking",
    ),
    "certificate gone": (
        without("Secret", "models-tls"),
        "gateways",
        "certificate of",
        "no Secret",
        "blocking",
    ),
    "certificate without key": (
        change("Secret", "models-tls", "data|tls.key", None),
        *("gateways", "certificate of", "has no tls.key", "blocking"),
    ),
    "certificate is none": (
        change("Secret", "models-tls", "data|tls.crt", snapshot.encoded("hello")),
        *("gateways", "certificate of", "is no certificate", "blocking"),
    ),
    "route not accepted": (
        change(
            *("HTTPRoute", "qwen", "status|parents|0|conditions"),
            [{"type": "Accepted", "status": "False", "message": "NotAllowedByListeners"}],
        ),
        *("routes", "models/qwen", "Accepted is False: NotAllowedByListeners", "blocking"),
    ),
    "route nobody looks at": (
        change("HTTPRoute", "qwen", "status|parents", []),
        *("routes", "models/qwen", "says nothing of it", "blocking"),
    ),
    "cluster's own route gone": (
        without("HTTPRoute", "hydra-agent-knoway"),
        *("routes", "hydra-agent-knoway", "no such route", "blocking"),
    ),
    "route leads elsewhere": (
        change("HTTPRoute", "hydra-agent-knoway", "spec|rules|0|backendRefs|0|port", 9090),
        *(
            "routes",
            "hydra-agent-knoway",
            "does not lead to Service hydra-system/knoway-gateway:8080",
            "blocking",
        ),
    ),
    "service gone": (without("Service", "knoway-gateway"), "routes", "knoway", "is not there", "blocking"),
    "service of another port": (
        change("Service", "knoway-gateway", "spec|ports|0|port", 80),
        *("routes", "knoway", "leads to port 8080", "blocking"),
    ),
    "service without endpoints": (
        silent("knoway-gateway"),
        "routes",
        "knoway",
        "leads to no ready pod",
        "warning",
    ),
    "no address from the load balancer": (
        change("Service", "qwen-public", "status", {}),
        *("balancers", "qwen-public", "no load balancer has given it an address", "blocking"),
    ),
    "pool gone": (without("IPAddressPool", "pool"), "balancers", "pool", "no such pool", "blocking"),
    "pool used up": (
        change("IPAddressPool", "pool", "status|availableIPv4", 0),
        *("balancers", "pool", "none of 10 addresses is left", "blocking"),
    ),
    "pool that says nothing": (
        change("IPAddressPool", "pool", "status", {}),
        *("balancers", "pool", "10 addresses; its status does not say", "not checked"),
    ),
    "MetalLB down": (
        change("Deployment", "controller", "status|readyReplicas", 0),
        *("balancers", "MetalLB", "0 of 1", "blocking"),
    ),
    "LeaderWorkerSet's controller down": (
        change("Deployment", "lws-controller-manager", "status|readyReplicas", 0),
        *("apis", "LeaderWorkerSet", "0 of 1", "blocking"),
    ),
    "KEDA down": (
        change("Deployment", "keda-operator", "status|readyReplicas", 0),
        *("apis", "KEDA", "0 of 1", "blocking"),
    ),
    "Prometheus operator not found": (
        without("Deployment", "prometheus-operator"),
        *("apis", "the Prometheus operator", "may run in another way", "not checked"),
    ),
    "agent gone": (without("Deployment", "hydra-agent"), "hydra", "Hydra's agent", "brings it", "blocking"),
    "agent down": (
        change("Deployment", "hydra-agent", "status|readyReplicas", 0),
        *("hydra", "Hydra's agent", "0 of 1", "blocking"),
    ),
    "agent not configured": (
        without("ConfigMap", "hydra-agent"),
        "hydra",
        "ConfigMap",
        "no such ConfigMap",
        "blocking",
    ),
    "agent of another cluster": (
        hydra("worker-1", "worker-2"),
        "hydra",
        "ConfigMap",
        "cluster_name is 'worker-2'",
        "blocking",
    ),
    "agent's base URL": (
        hydra("https://chat.models.example", "http:/chat"),
        *("hydra", "ConfigMap", "agent_base_url is 'http:/chat'", "blocking"),
    ),
    "agent's server": (
        hydra("hydra.example:443", "x:443"),
        "hydra",
        "ConfigMap",
        "agent_server.address",
        "blocking",
    ),
    "agent's TLS mode": (
        hydra("plaintext: false", "plaintext: true"),
        "hydra",
        "ConfigMap",
        "plaintext is True",
        "blocking",
    ),
    "agent's setting not found": (
        hydra("cluster_name", "name"),
        "hydra",
        "ConfigMap",
        "cluster_name is not found",
        "not checked",
    ),
    "no namespace for shared data sets": (
        without("Namespace", "public"),
        *("hydra", "Namespace public", "not there", "blocking"),
    ),
    "data set failed": (
        change(
            "Dataset", "llm", "status", {"phase": "Failed", "conditions": [{"message": "no such bucket"}]}
        ),
        *("datasets", "models/llm", "no such bucket", "blocking"),
    ),
    "Fluid down": (
        change("Deployment", "dataset-controller", "status|readyReplicas", 0),
        *("datasets", "Fluid's dataset controller", "0 of 1", "blocking"),
    ),
    "Fluid's webhook gone": (
        without("MutatingWebhookConfiguration", "fluid-pod-admission-webhook"),
        *("datasets", "Fluid's webhook", "not registered", "warning"),
    ),
}

# Checks of an endpoint that rightly stop at the same fault.
CONSEQUENCES = {"storage class gone": {"storage"}}

# By fault: those that cannot be seen beside it, because it takes away where they would show.
HIDDEN: dict[str, set[str]] = {
    "no card offered": {"old driver", "old CUDA", "driver unknown", "simulated cards as real"},
    "taint": {"old CUDA", "simulated cards as real"},
    "simulated cards as real": {"old driver", "driver unknown"},
    "Fluid's webhook gone": {"webhook down"},
    "no namespace": {"HAMi passes over the namespace"},
}

# What is found in a healthy cluster and is neither right nor wrong.
_QUIET = ("glibc of the nodes", "default container runtime of the nodes")


def alarms(found: list[Finding]) -> list[Finding]:
    return [one for one in found if one.severity not in ("ok", "info") and one.about not in _QUIET]


def test_a_healthy_cluster_raises_no_alarm() -> None:
    found = look(snapshot.healthy())
    assert alarms(found) == [], table(found)
    checked = {one.check for one in found}
    assert checked >= {fault[1] for fault in FAULTS.values()} - {"simulated"}, (
        "each check says what it looked at"
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_named_and_alone(fault: str) -> None:
    break_it, check, about, words, severity = FAULTS[fault]
    found = look(break_it(snapshot.healthy()))
    named = [one for one in found if one.check == check and about in one.about and words in one.reason]
    assert [one.severity for one in named] == [severity], table(found)
    assert named[0].remedy or severity in ("ok", "not checked"), "a fault comes with what mends it"
    others = [one for one in blocking(found) if one not in named]
    assert {one.check for one in others} <= CONSEQUENCES.get(fault, set()), table(found)


@pytest.mark.full
@pytest.mark.parametrize("first", FAULTS)
def test_two_faults_do_not_hide_each_other(first: str) -> None:
    for second in FAULTS:
        if FAULTS[second][1] == FAULTS[first][1]:
            continue
        try:
            objects = FAULTS[second][0](FAULTS[first][0](snapshot.healthy()))
        except (StopIteration, KeyError, IndexError):
            continue  # the first took away what the second would break
        found = look(objects)
        for fault in {first, second} - HIDDEN.get(first, set()) - HIDDEN.get(second, set()):
            _, check, about, words, severity = FAULTS[fault]
            named = [
                one for one in found if one.check == check and about in one.about and words in one.reason
            ]
            assert [one.severity for one in named] == [severity], f"{first} and {second}: {table(found)}"


API_FAULTS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "right removed": (
        {"denied": lambda access: access["resource"] == "leases"},
        *("permissions", "leases.coordination.k8s.io", "blocking"),
    ),
    "clock far off": ({"clock": timedelta(minutes=-9)}, "clock", "s apart", "blocking"),
    "clock off": ({"clock": timedelta(seconds=70)}, "clock", "s apart", "warning"),
    "webhooks unreadable": (
        {"forbidden": ["mutatingwebhookconfigurations"]},
        *("webhooks", "forbidden", "not checked"),
    ),
    "CRDs unreadable": (
        {"forbidden": ["customresourcedefinitions"]},
        "gateway-api",
        "forbidden",
        "not checked",
    ),
    "kind missing": (
        {"kinds": [one for one in snapshot.KINDS if "keda" not in one[0]]},
        "apis",
        "no such kind",
        "blocking",
    ),
}


@pytest.mark.parametrize("fault", API_FAULTS)
def test_a_fault_of_the_api_or_of_rights_is_found(fault: str) -> None:
    api, check, words, severity = API_FAULTS[fault]
    found = look(snapshot.healthy(), **api)
    named = [one for one in found if one.check == check and words in one.reason]
    assert named and {one.severity for one in named} == {severity}, table(found)
    assert {one.check for one in blocking(found)} <= {check}
    assert named[0].remedy


def test_what_may_not_be_read_comes_with_the_right_that_is_missing() -> None:
    found = look(snapshot.healthy(), forbidden=["ipaddresspools"])
    [finding] = [one for one in found if one.check == "balancers" and one.severity != "ok"]
    assert (finding.severity, finding.about) == ("not checked", "IPAddressPool pool"), table(found)
    assert "kind: ClusterRole" in finding.remedy and "ipaddresspools" in finding.remedy


def test_an_old_api_is_the_one_finding_and_quotes_hamis_own_range() -> None:
    found = look(snapshot.healthy(), version="v1.26.3")
    assert [one.check for one in blocking(found)] == ["api"]
    assert "Kubernetes >= 1.18 only does not change it" in blocking(found)[0].reason
    assert {one.severity for one in found[1:]} == {"not checked"}


def test_an_expired_certificate_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    old = snapshot.certificate("cluster.test", days=-2)
    monkeypatch.setattr("ssl.get_server_certificate", lambda *_, **__: old)
    [found] = blocking(look(snapshot.healthy()))
    assert (found.check, found.reason) == ("certificate", "it expired 2 days ago")


NAMES = {
    "elsewhere": (lambda *_, **__: [(0, 0, 0, "", ("192.0.2.1", 0))], "resolves to 192.0.2.1 here"),
    "nowhere": (OSError("unknown"), "does not resolve here"),
}


@pytest.mark.parametrize("case", NAMES)
def test_a_host_that_does_not_lead_to_its_gateway(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, words = NAMES[case]

    def resolve(*args: Any, **more: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer(*args, **more)

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    [found] = alarms(look(snapshot.healthy()))
    assert (found.check, found.severity) == ("names", "warning")
    assert words in found.reason and "10.1.0.10 chat.models.example" in found.remedy


def test_a_stricter_namespace_than_planned() -> None:
    planned = snapshot.site(endpoints=(snapshot.subject(pod_security="baseline"),))
    [found] = blocking(look(snapshot.healthy(), planned))
    assert (found.check, found.about) == ("namespace", "Namespace models")
    assert (
        found.remedy
        == "kubectl label namespace models --overwrite pod-security.kubernetes.io/enforce=baseline"
    )


def test_simulated_cards_that_are_called_so_are_told() -> None:
    objects = snapshot.healthy()
    for name in ("gpu-1", "gpu-2"):
        change("Node", name, "metadata|labels|run.ai/fake.gpu", "true")(objects)
    device = snapshot.device(name="nvidia-simulated", kind="cpu", offered_by="simulated")
    found = look(objects, snapshot.site(devices=(device,)))
    [told] = [one for one in found if one.check == "simulated"]
    assert told.severity == "info" and "they compute nothing" in told.reason


def test_an_endpoint_without_a_plan_is_not_checked_and_hides_nothing() -> None:
    found = look(snapshot.healthy(), snapshot.site(unplanned={"broken": "no such model"}))
    [told] = [one for one in found if one.check == "plans"]
    assert (told.severity, told.about) == ("not checked", "endpoint broken")
    assert alarms(found) == [told]


ARCHITECTURES = {
    "an image for another": ("amd64", "registry.example/vllm:v1-arm64", "blocking"),
    "one that does not say": ("arm64", "registry.example/vllm:v1", "not checked"),
    "one for its own": ("arm64", "registry.example/vllm:v1-aarch64", "ok"),
    "nodes that nobody knows": ("riscv64", "registry.example/vllm:v1", "not checked"),
}


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_images_are_held_against_the_processors_of_nodes(case: str) -> None:
    architecture, image, severity = ARCHITECTURES[case]
    objects = every_node("status|nodeInfo|architecture", architecture)(snapshot.healthy())
    found = look(objects, snapshot.site(endpoints=(snapshot.subject(images=(image,)),)))
    assert [one.severity for one in found if one.check == "architecture"] == [severity]


ACS = {
    "labels": (
        {"alibabacloud.com/compute-class": "gpu", "alibabacloud.com/gpu-model-series": "H20"},
        "ok",
        "H20",
    ),
    "no series": ({"alibabacloud.com/compute-class": "gpu"}, "blocking", "gpu-model-series"),
    "no class": ({}, "blocking", "is missing"),
}


@pytest.mark.parametrize("case", ACS)
def test_pods_for_acs_name_their_class_and_series(case: str) -> None:
    labels, severity, words = ACS[case]
    devices = (snapshot.device(name="acs-h20", offered_by="acs"),)
    found = look(
        snapshot.healthy(), snapshot.site(devices=devices, endpoints=(snapshot.subject(pod_labels=labels),))
    )
    [told] = [one for one in found if one.check == "acs" and one.about == "endpoint qwen"]
    assert told.severity == severity and words in told.reason


def test_500_nodes_take_less_than_five_seconds() -> None:
    objects = [one for one in snapshot.healthy() if one["kind"] not in ("Node", "Pod")]
    pattern = snapshot.node("x")
    for number in range(500):
        one = copy.deepcopy(pattern)
        one["metadata"]["name"] = f"gpu-{number}"
        objects.append(one)
        for place in range(20):
            objects.append(
                snapshot.obj(
                    *("v1", "Pod", f"p-{number}-{place}"),
                    namespace="x",
                    spec={
                        "nodeName": f"gpu-{number}",
                        "containers": [{"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
                    },
                    status={"phase": "Running"},
                )
            )
    api = snapshot.FakeApi(objects, kinds=snapshot.KINDS)
    started = time.process_time()
    found = run_checks(Cluster(api_client=api, patience=0), snapshot.site())
    taken = time.process_time() - started
    assert alarms(found) == [], table(found)
    assert len(found) < 60, "500 equal nodes are a few lines"
    assert taken < 5
