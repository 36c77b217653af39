"""MetalLB's controller on the node itself: it gives Services of type LoadBalancer addresses from the sandbox's pool.

Of MetalLB only this half runs. Nobody has to announce the addresses: they are routed to the node's own device, and
kube-proxy leads what comes for them to the Services. Its webhooks, which refuse pools that overlap, are off.
"""

from __future__ import annotations

import time

from sandbox import gobuild, records, settings, supervisor
from sandbox.cluster import Cluster
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import Settings
from sandbox.supervisor import Program

NAME = "metallb"
READY_SECONDS = 60


def program(config: Settings) -> Program:
    """The controller; it serves nothing."""
    command = [
        str(gobuild.program(config, gobuild.METALLB, "metallb-controller")),
        f"--kubeconfig={config.kubeconfigs}/{NAME}.conf",
        f"--namespace={settings.SYSTEM_NAMESPACE}",
        "--webhook-mode=disabled",
        "--port=0",
    ]
    return Program(name=NAME, command=command, priority=50)


def start(config: Settings, cluster: Cluster) -> None:
    """Give it its rights and its pool, start it and wait until it has counted the pool's addresses.

    Raises:
        SandboxError: it does not get ready.
    """
    cluster.apply_files([f"manifests/{NAME}"], namespace=settings.SYSTEM_NAMESPACE)
    cluster.apply(records.of_cluster("IPAddressPool", "L2Advertisement"))
    supervisor.start_programs(config, [NAME])
    deadline = time.monotonic() + READY_SECONDS
    while not _has_counted(cluster):
        supervisor.require_running(config, NAME)
        if time.monotonic() > deadline:
            raise SandboxError(f"{NAME} is not ready after {READY_SECONDS} s; see {config.logs}/{NAME}.log")
        time.sleep(0.3)
    say(f"{NAME} ready")


def _has_counted(cluster: Cluster) -> bool:
    path = "{.items[*].status.availableIPv4}"
    found = cluster.kubectl(
        "get", "ipaddresspools", "-n", settings.SYSTEM_NAMESPACE, "-o", f"jsonpath={path}", check=False
    )
    return bool(found.strip())
