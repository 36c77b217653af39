"""Faults of nodes, their cards and clocks, and of HAMi."""

from __future__ import annotations

from tests.unit import checks_snapshot as snapshot
from tests.unit.checks_broken import TAINT, Fault, change, clock, every_node, silent, state, without

FAULTS: dict[str, Fault] = {
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
    "HAMi's webhook down": (
        silent("hami-scheduler"),
        *("hami", "webhook", "leads to no ready pod", "blocking"),
    ),
}
