"""Faults of a cluster as data: how each is made in a healthy one, and what must be found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from slipway.cluster.objects import Object
from tests.unit import checks_snapshot as snapshot

Objects = list[Object]


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
            target[int(last) if last.isdigit() else last] = copy.deepcopy(value)
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


def clock(node: str, ahead: float) -> Callable[[Objects], Objects]:
    # Made when it is asked for: a lease that was made as the tests were collected has aged since.
    return lambda objects: change("Lease", node, "spec", snapshot.lease(node, ahead=ahead)["spec"])(objects)


def silent(service: str) -> Callable[[Objects], Objects]:
    return change("EndpointSlice", f"{service}-x", "endpoints", [])


TAINT = [{"key": "role", "value": "bigdata", "effect": "NoSchedule"}]
LEVEL = "metadata|labels|pod-security.kubernetes.io/enforce"

# What is wrong, and what must be found: the check, a part of the object's name, words of the reason, the severity.
Fault = tuple[Callable[[Objects], Objects], str, str, str, str]
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
        *("hami", "HAMi's scheduler", "chart hami of the cluster's record brings it", "blocking"),
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
    "claim not bound": (
        change("PersistentVolumeClaim", "w", "status", {"phase": "Pending"}),
        *("storage", "models/w", "has made no volume for it", "blocking"),
    ),
    "claim lost": (
        change("PersistentVolumeClaim", "w", "status|phase", "Lost"),
        *("storage", "models/w", "is lost", "blocking"),
    ),
    "claim too small": (
        change("PersistentVolumeClaim", "w", "status|capacity|storage", "5Gi"),
        *("storage", "models/w", "it has 5Gi, 10Gi are needed", "blocking"),
    ),
    "claim of one node": (
        change("PersistentVolumeClaim", "w", "spec|accessModes", ["ReadWriteOnce"]),
        *("storage", "models/w", "ReadWriteMany is needed", "blocking"),
    ),
    "claim of another class": (
        change("PersistentVolumeClaim", "w", "spec|storageClassName", "other"),
        *("storage", "models/w", "its storage class is other", "blocking"),
    ),
    "claim is being deleted": (
        change("PersistentVolumeClaim", "w", "metadata|deletionTimestamp", "2026-01-01T00:00:00Z"),
        *("storage", "models/w", "being deleted", "blocking"),
    ),
    "a node's clock ahead": (
        clock("gpu-2", 90),
        *("clock", "Node gpu-2", "s ahead of the API server's", "warning"),
    ),
    "a node's clock far behind": (
        clock("gpu-1", -900),
        *("clock", "Node gpu-1", "s behind of the API server's", "blocking"),
    ),
    "one node closed": (
        change("Node", "gpu-1", "spec|unschedulable", True),
        *("machines", "gpu-1", "closed for new pods", "info"),
    ),
    "all nodes closed": (
        every_node("spec|unschedulable", True),
        *("machines", "all nodes", "none of 2 takes pods", "blocking"),
    ),
    "a Deployment scaled to 0": (
        change("Deployment", "keda-operator", "spec|replicas", 0),
        *("apis", "KEDA", "it is scaled to 0", "blocking"),
    ),
    "HAMi's webhook down": (
        silent("hami-scheduler"),
        *("hami", "webhook", "leads to no ready pod", "blocking"),
    ),
    "node port of another Service": (
        lambda objects: [
            *objects,
            snapshot.obj(
                *("v1", "Service", "thief"),
                namespace="elsewhere",
                spec={"type": "NodePort", "ports": [{"port": 1, "nodePort": 30080}]},
            ),
        ],
        *("balancers", "qwen-nodes", "node port 30080 is Service elsewhere/thief's", "blocking"),
    ),
    "no node port": (
        change("Service", "qwen-nodes", "spec", {"type": "ClusterIP", "ports": [{"port": 8000}]}),
        *("balancers", "qwen-nodes", "no node port", "blocking"),
    ),
    "a data set without its model's name": (
        change("Dataset", "qwen3-0.6b", "metadata|labels", {}),
        *("hydra", "public/qwen3-0.6b", "label hydra.io/model-id is missing", "warning"),
    ),
    "cache not ready": (
        change("JindoRuntime", "llm", "status", {"workerPhase": "NotReady"}),
        *("datasets", "JindoRuntime models/llm", "its phase is NotReady", "blocking"),
    ),
    "Hydra down": (
        change("Deployment", "hydra", "status|readyReplicas", 0),
        *("hydra-server", "Hydra (Deployment", "0 of 1", "blocking"),
    ),
    "Hydra gone": (
        without("Deployment", "hydra"),
        *("hydra-server", "Hydra", "chart hydra of the cluster's record brings it", "blocking"),
    ),
    "Hydra not configured": (
        without("ConfigMap", "hydra"),
        *("hydra-server", "ConfigMap hydra-system/hydra", "no such ConfigMap", "blocking"),
    ),
    "Istio down": (
        change("Deployment", "istiod", "status|readyReplicas", 0),
        *("hydra-server", "Istio", "0 of 1", "blocking"),
    ),
    "Istio not found": (
        without("Deployment", "istiod"),
        *("hydra-server", "Istio", "may run in another way", "not checked"),
    ),
    "Hydra's MySQL down": (
        silent("mysql-master"),
        *("hydra-server", "Hydra's MySQL", "leads to no ready pod", "blocking"),
    ),
    "Hydra's MySQL gone": (
        without("Service", "mysql-master"),
        *("hydra-server", "Hydra's MySQL", "there is no Service", "blocking"),
    ),
    "Hydra's Redis down": (
        silent("redis"),
        *("hydra-server", "Hydra's Redis", "leads to no ready pod", "blocking"),
    ),
    "Hydra's Redis of another port": (
        change("Service", "redis", "spec|ports|0|port", 26379),
        *("hydra-server", "Hydra's Redis", "has port 26379", "blocking"),
    ),
    "Hydra names no Redis": (
        change(
            *("ConfigMap", "hydra", "data|config.yaml"),
            snapshot.SERVER_CONFIG[: snapshot.SERVER_CONFIG.index("redis_config")],
        ),
        *("hydra-server", "ConfigMap", "it names no redis", "not checked"),
    ),
}

# Checks of an endpoint that rightly stop at the same fault.
CONSEQUENCES = {
    "all nodes closed": {"cards"},
    "Gateway without address": {"names"},
    "class of one node": {"classes"},
    "HAMi's webhook down": {"webhooks"},
}

# By fault: those that cannot be seen beside it, because it takes away where they would show.
HIDDEN: dict[str, set[str]] = {
    "all nodes closed": {"full nodes"},
    "storage class gone": {"claim not bound"},
    "node not ready": {"a node's clock ahead", "a node's clock far behind"},
    "node silent": {"a node's clock ahead", "a node's clock far behind"},
    "no card offered": {"old driver", "old CUDA", "driver unknown", "simulated cards as real"},
    "taint": {"old CUDA", "simulated cards as real"},
    "simulated cards as real": {"old driver", "driver unknown"},
    "Fluid's webhook gone": {"webhook down"},
    "no namespace": {"HAMi passes over the namespace"},
}


# By fault: what mends it is no command that could be run here: a look at what failed, a person's choice, a record.
ADVICE: set[str] = {
    "namespace ends",
    "node not ready",
    "node silent",
    "disk pressure",
    "memory pressure",
    "no network",
    "old kernel",
    "kubelet newer",
    "kubelet too old",
    "no card offered",
    "full nodes",
    "old driver",
    "old CUDA",
    "driver unknown",
    "MIG single",
    "simulated cards as real",
    "HAMi's scheduler down",
    "device plugin down",
    "device plugin partly down",
    "device plugin for no node",
    "webhook down",
    "class of one node",
    "CRD without a version",
    "CRD not established",
    "class of Gateways gone",
    "class not accepted",
    "class that nobody looked at",
    "Gateway not programmed",
    "Gateway without address",
    "Gateway's last change not seen",
    "listener not resolved",
    "listener not programmed",
    "route not accepted",
    "route nobody looks at",
    "service gone",
    "service of another port",
    "service without endpoints",
    "no address from the load balancer",
    "pool used up",
    "pool that says nothing",
    "MetalLB down",
    "LeaderWorkerSet's controller down",
    "KEDA down",
    "Prometheus operator not found",
    "agent down",
    "data set failed",
    "Fluid down",
    "claim not bound",
    "claim lost",
    "claim of one node",
    "claim of another class",
    "claim is being deleted",
    "a node's clock ahead",
    "a node's clock far behind",
    "HAMi's webhook down",
    "node port of another Service",
    "cache not ready",
    "Hydra down",
    "Istio down",
    "Istio not found",
    "Hydra's MySQL down",
    "Hydra's MySQL gone",
    "Hydra's Redis down",
    "Hydra's Redis of another port",
    "Hydra names no Redis",
}
