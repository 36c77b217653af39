"""Servers of metrics on the node itself, as the API server finds them: what KEDA's and prometheus-adapter share.

Each answers for one API group. The API server finds it through a Service whose endpoint is the node's address, and
trusts its certificate, which is the cluster's authority's.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sandbox import pki, settings, supervisor
from sandbox.cluster import Cluster
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import Settings

READY_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """One of them.

    Attributes:
        name: of the part, of its Service and of what else it needs.
        client: as whom it speaks to the API server, by its kubeconfig.
        group: the API that it answers for.
    """

    name: str
    client: str
    group: str
    port: int

    def arguments(self, config: Settings) -> list[str]:
        """The options that every such server has."""
        kubeconfig, folder = kubeconfig_of(config, self.client), certificates(config, self.client)
        return [
            f"--bind-address={settings.NODE_IP}",
            f"--secure-port={self.port}",
            f"--cert-dir={folder}",
            f"--tls-cert-file={folder}/tls.crt",
            f"--tls-private-key-file={folder}/tls.key",
            *(f"--{use}-kubeconfig={kubeconfig}" for use in ("lister", "authentication", "authorization")),
        ]

    def prepare(self, config: Settings, cluster: Cluster, *, rights: str) -> None:
        """Make its certificate, and apply its rights (a folder of `manifests`) and what the API server finds it by."""
        service = f"{self.name}.{settings.SYSTEM_NAMESPACE}.svc"
        pki.server_certificate(config, self.client, names=[service], addresses=[settings.NODE_IP])
        cluster.apply_files(
            [f"manifests/{rights}", "manifests/metrics-api"],
            namespace=settings.SYSTEM_NAMESPACE,
            name=self.name,
            user=pki.CLIENTS[self.client],
            group=self.group,
            node_ip=settings.NODE_IP,
            port=self.port,
            authority=b64encode((config.pki / "ca.crt").read_bytes()).decode(),
        )

    def start(self, config: Settings, cluster: Cluster) -> None:
        """Start it and wait until the API server gets answers from it.

        Raises:
            SandboxError: it gets none.
        """
        supervisor.start_programs(config, [self.name])
        path = "{.status.conditions[?(@.type=='Available')].status}"
        words = ["get", "apiservice", f"v1beta1.{self.group}", "-o", f"jsonpath={path}"]
        wait(config, self.name, lambda: cluster.kubectl(*words, check=False).strip() == "True")


def wait(config: Settings, name: str, is_ready: Callable[[], bool]) -> None:
    """Wait until a part is ready.

    Raises:
        SandboxError: it ended, or it is not ready in time.
    """
    deadline = time.monotonic() + READY_SECONDS
    while not is_ready():
        supervisor.require_running(config, name)
        if time.monotonic() > deadline:
            raise SandboxError(f"{name} is not ready after {READY_SECONDS} s; see {config.logs}/{name}.log")
        time.sleep(0.3)
    say(f"{name} ready")


def kubeconfig_of(config: Settings, client: str) -> Path:
    """The kubeconfig of a client."""
    return config.kubeconfigs / f"{client}.conf"


def certificates(config: Settings, client: str) -> Path:
    """The folder of a client's certificate."""
    return config.pki / client
