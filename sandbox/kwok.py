"""kwok on the node itself: it keeps nodes alive that do not exist, so that a cluster of hundreds can be looked at.

There are none until somebody makes them (`fake_nodes`). kwok sees only what is marked as fake, and the API server
refuses it everything else (sandbox/manifests/kwok). No pod is put onto a fake node unless it says that it wants to be.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sandbox import gobuild, supervisor
from sandbox.cluster import Cluster
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import Settings
from sandbox.supervisor import Program
from sandbox.templating import write

NAME = "kwok"
ANNOTATION, VALUE = "kwok.x-k8s.io/node", "fake"
PREFIX = "fake-"
READY_SECONDS = 60
NODES_READY_SECONDS = 120
# What a kubelet says of its machine; the checks read it.
_NODE_INFO = {
    "architecture": "amd64",
    "containerRuntimeVersion": "containerd://1.7.27",
    "kernelVersion": "6.1.0-32-amd64",
    "kubeletVersion": gobuild.KUBERNETES_VERSION,
    "kubeProxyVersion": "",
    "operatingSystem": "linux",
    "osImage": "Debian GNU/Linux 12 (bookworm)",
    "bootID": "",
    "machineID": "",
    "systemUUID": "",
}
_CAPACITY = {"cpu": "64", "memory": "512Gi", "ephemeral-storage": "1Ti", "pods": "110"}


def program(config: Settings) -> Program:
    """The controller; it serves nothing."""
    config_file = config.kubeconfigs / f"{NAME}.yaml"
    options = {"manageAllNodes": False, "enableCRDs": [], "nodePort": 0}
    head = {"apiVersion": "config.kwok.x-k8s.io/v1alpha1", "kind": "KwokConfiguration"}
    write(config_file, json.dumps({**head, "options": options}))
    command = [
        str(gobuild.program(config, gobuild.KWOK, NAME)),
        f"--config={config_file}",
        f"--kubeconfig={config.kubeconfigs}/{NAME}.conf",
        f"--manage-nodes-with-annotation-selector={ANNOTATION}={VALUE}",
        "--node-lease-duration-seconds=200",
    ]
    return Program(name=NAME, command=command, files=[config_file], priority=50)


def start(config: Settings, cluster: Cluster) -> None:
    """Give it its rights and start it.

    Raises:
        SandboxError: it does not run.
    """
    cluster.apply_files([f"manifests/{NAME}"], annotation=ANNOTATION, value=VALUE, prefix=PREFIX)
    supervisor.start_programs(config, [NAME])
    deadline = time.monotonic() + READY_SECONDS
    while not any(part.name == NAME and part.state == "RUNNING" for part in supervisor.parts(config)):
        supervisor.require_running(config, NAME)
        if time.monotonic() > deadline:
            raise SandboxError(f"{NAME} does not run after {READY_SECONDS} s; see {config.logs}/{NAME}.log")
        time.sleep(0.2)
    say(f"{NAME} ready")


@contextmanager
def fake_nodes(
    cluster: Cluster,
    count: int,
    *,
    labels: Mapping[str, str] | None = None,
    resources: Mapping[str, str] | None = None,
    images: Sequence[str] = (),
    pod_cidr: str | None = None,
) -> Iterator[list[str]]:
    """Make nodes that are Ready, each with these labels and further resources, and remove them in the end.

    Args:
        cluster: as the administrator sees it.
        count: how many.
        labels: of each.
        resources: of each, besides a machine's usual ones.
        images: that each says it has.
        pod_cidr: where the addresses of their pods are from; kwok's own range, in which nothing answers, when None.

    Raises:
        SandboxError: they do not get Ready.
    """
    remove_fake_nodes(cluster)
    names = [f"{PREFIX}{number:04}" for number in range(count)]
    nodes = [_node(name, labels=dict(labels or {}), resources=dict(resources or {})) for name in names]
    for node in nodes:
        node["status"]["images"] = [{"names": [image], "sizeBytes": 1} for image in images]
        node["spec"] |= {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr]} if pod_cidr else {}
    try:
        listed = {"apiVersion": "v1", "kind": "List", "items": nodes}
        cluster.kubectl("create", "-f", "-", stdin=json.dumps(listed))
        _wait_until_ready(cluster, count)
        yield names
    finally:
        remove_fake_nodes(cluster)


def remove_fake_nodes(cluster: Cluster) -> None:
    """Remove all of them, with the pods that were put onto them."""
    cluster.kubectl("delete", "nodes", f"--selector={ANNOTATION}={VALUE}", "--wait=false")


def _node(name: str, *, labels: dict[str, str], resources: dict[str, str]) -> dict[str, Any]:
    known = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        ANNOTATION: VALUE,
    }
    capacity = {**_CAPACITY, **resources}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**known, **labels}, "annotations": {ANNOTATION: VALUE}},
        "spec": {"taints": [{"key": ANNOTATION, "value": VALUE, "effect": "NoSchedule"}]},
        "status": {"capacity": capacity, "allocatable": capacity, "nodeInfo": _NODE_INFO},
    }


def _wait_until_ready(cluster: Cluster, count: int) -> None:
    deadline = time.monotonic() + NODES_READY_SECONDS
    path = "{.items[*].status.conditions[?(@.type=='Ready')].status}"
    words = ["get", "nodes", f"--selector={ANNOTATION}={VALUE}", "-o", f"jsonpath={path}"]
    while cluster.kubectl(*words).split().count("True") < count:
        if time.monotonic() > deadline:
            raise SandboxError(f"not all of {count} fake nodes are Ready after {NODES_READY_SECONDS} s")
        time.sleep(0.5)
