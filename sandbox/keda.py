"""KEDA on the node itself: its operator, and the server by which the HorizontalPodAutoscaler asks it for metrics.

The two halves show each other the same certificate, by the cluster's authority; the API server finds the second one
through a Service whose endpoint is the node's address. KEDA's webhooks, which refuse two autoscalers of one workload,
are left out.
"""

from __future__ import annotations

import shutil
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

from sandbox import gobuild, pki, settings, supervisor
from sandbox.cluster import Cluster
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import Settings
from sandbox.supervisor import Program

NAME = "keda"
METRICS = "keda-metrics"
READY_SECONDS = 60
API_SERVICE = "v1beta1.external.metrics.k8s.io"
_QUERIES = f"{settings.NODE_IP}:{settings.KEDA_QUERY_PORT}"
_HEALTH = f"{settings.NODE_IP}:{settings.KEDA_HEALTH_PORT}"


def program(config: Settings) -> Program:
    """The operator; one of it, so it elects no leader."""
    command = [
        str(gobuild.program(config, gobuild.KEDA, "keda-operator")),
        f"--cert-dir={_certificates(config)}",
        f"--metrics-service-bind-address={_QUERIES}",
        f"--health-probe-bind-address={_HEALTH}",
        "--enable-prometheus-metrics=false",
    ]
    return Program(name=NAME, command=command, environment=_environment(config), priority=50)


def metrics_program(config: Settings) -> Program:
    """The server of the API of external metrics; it hands each question on to the operator."""
    kubeconfig, folder = _kubeconfig(config), _certificates(config)
    command = [
        str(gobuild.program(config, gobuild.KEDA_METRICS, "keda-metrics-apiserver")),
        f"--metrics-service-address={_QUERIES}",
        f"--bind-address={settings.NODE_IP}",
        f"--secure-port={settings.KEDA_METRICS_PORT}",
        "--port=0",
        f"--cert-dir={folder}",
        f"--tls-cert-file={folder}/tls.crt",
        f"--tls-private-key-file={folder}/tls.key",
        *(f"--{use}-kubeconfig={kubeconfig}" for use in ("lister", "authentication", "authorization")),
    ]
    return Program(name=METRICS, command=command, environment=_environment(config), priority=50)


def start(config: Settings, cluster: Cluster) -> None:
    """Give both halves their rights and their certificate, start the operator and wait until it is healthy.

    Raises:
        SandboxError: it does not get healthy.
    """
    pki.server_certificate(config, NAME, names=[_service_name()], addresses=[settings.NODE_IP])
    authority = config.pki / "ca.crt"
    shutil.copyfile(authority, _certificates(config) / "ca.crt")
    cluster.apply_files(
        [f"manifests/{NAME}"],
        namespace=settings.SYSTEM_NAMESPACE,
        name=METRICS,
        api_service=API_SERVICE,
        node_ip=settings.NODE_IP,
        port=settings.KEDA_METRICS_PORT,
        authority=b64encode(authority.read_bytes()).decode(),
    )
    supervisor.start_programs(config, [NAME])
    _wait(config, NAME, _is_healthy)


def start_metrics(config: Settings, cluster: Cluster) -> None:
    """Start the other half and wait until the API server gets answers from it.

    Raises:
        SandboxError: it gets none.
    """
    supervisor.start_programs(config, [METRICS])
    path = "{.status.conditions[?(@.type=='Available')].status}"
    words = ["get", "apiservice", API_SERVICE, "-o", f"jsonpath={path}"]
    _wait(config, METRICS, lambda: cluster.kubectl(*words, check=False).strip() == "True")


def _wait(config: Settings, name: str, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not is_ready():
        supervisor.require_running(config, name)
        if time.monotonic() > deadline:
            raise SandboxError(f"{name} is not ready after {READY_SECONDS} s; see {config.logs}/{name}.log")
        time.sleep(0.3)
    say(f"{name} ready")


def _is_healthy() -> bool:
    import httpx

    try:
        answer = httpx.get(f"http://{_HEALTH}/readyz", timeout=2, trust_env=False)
    except httpx.HTTPError:
        return False  # not yet
    return answer.status_code == httpx.codes.OK


def _environment(config: Settings) -> dict[str, str]:
    return {
        "KUBECONFIG": str(_kubeconfig(config)),
        "WATCH_NAMESPACE": "",
        "POD_NAMESPACE": settings.SYSTEM_NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": settings.SYSTEM_NAMESPACE,
        # It would read the Secrets that a workload's variables are from; no trigger of Slipway's refers to one.
        "KEDA_RESTRICT_SECRET_ACCESS": "true",
    }


def _kubeconfig(config: Settings) -> Path:
    return config.kubeconfigs / f"{NAME}.conf"


def _certificates(config: Settings) -> Path:
    return config.pki / NAME


def _service_name() -> str:
    return f"{METRICS}.{settings.SYSTEM_NAMESPACE}.svc"
