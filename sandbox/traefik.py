"""Traefik on the node itself as the controller of the Gateway API, and the sandbox's Gateway.

It listens at the node's own address. Clients come in by another one, which MetalLB gives the Service `traefik`: the
address of a cluster's Gateway comes from its load balancer here as everywhere.
"""

from __future__ import annotations

import time

from sandbox import gobuild, metallb, pki, records, settings, supervisor
from sandbox.cluster import Cluster
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import Settings
from sandbox.supervisor import Program
from sandbox.templating import render, write

NAME = "traefik"
PORTS = {"http": 80, "https": 443}
READY_SECONDS = 60
GATEWAY = "gateway"
CERTIFICATE = "gateway-certificate"
DOMAIN = "sandbox.example"


def program(config: Settings) -> Program:
    """Traefik with its provider of the Gateway API alone."""
    config_file = config.kubeconfigs / f"{NAME}.yaml"
    text = render(
        f"templates/{NAME}.yaml.j2",
        node_ip=settings.NODE_IP,
        ports=PORTS,
        ping_port=settings.TRAEFIK_PING_PORT,
        namespace=settings.SYSTEM_NAMESPACE,
    )
    write(config_file, text)
    command = [str(gobuild.program(config, gobuild.TRAEFIK, NAME)), f"--configFile={config_file}"]
    environment = {"KUBECONFIG": f"{config.kubeconfigs}/{NAME}.conf"}
    return Program(name=NAME, command=command, environment=environment, files=[config_file], priority=50)


def start(config: Settings, cluster: Cluster) -> None:
    """Give it its rights, a certificate and a Gateway, start it and wait until clients can come in.

    Raises:
        SandboxError: it does not get ready.
    """
    namespace = settings.SYSTEM_NAMESPACE
    cluster.apply_files(
        [f"manifests/{NAME}"],
        namespace=namespace,
        address=settings.GATEWAY_IP,
        node_ip=settings.NODE_IP,
        ports=PORTS,
    )
    certificate, key = pki.server_certificate(
        config, GATEWAY, names=[DOMAIN, f"*.{DOMAIN}"], addresses=[settings.GATEWAY_IP]
    )
    pair = {"tls.crt": certificate.read_text(), "tls.key": key.read_text()}
    cluster.apply_secret(namespace, CERTIFICATE, pair, kind="kubernetes.io/tls")
    cluster.apply(records.of_cluster("Gateway", "HTTPRoute", "ReferenceGrant"))
    supervisor.start_programs(config, [NAME])
    with_address = any(part.name == metallb.NAME for part in supervisor.parts(config))
    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready(cluster, with_address=with_address):
        supervisor.require_running(config, NAME)
        if time.monotonic() > deadline:
            raise SandboxError(f"{NAME} is not ready after {READY_SECONDS} s; see {config.logs}/{NAME}.log")
        time.sleep(0.3)
    say(f"{NAME} ready" + (f": the Gateway is at {settings.GATEWAY_IP}" if with_address else ""))


def _is_ready(cluster: Cluster, *, with_address: bool) -> bool:
    """Whether the Gateway is programmed and has the address, where there is somebody who gives addresses."""
    path = "{.status.conditions[?(@.type=='Programmed')].status} {.status.addresses[*].value}"
    words = ["get", "gateway", GATEWAY, "-n", settings.SYSTEM_NAMESPACE, "-o", f"jsonpath={path}"]
    programmed, *addresses = cluster.kubectl(*words, check=False).split() or [""]
    return programmed == "True" and (not with_address or settings.GATEWAY_IP in addresses)
