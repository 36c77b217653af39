"""KEDA on the node itself: its operator, and the server by which the HorizontalPodAutoscaler asks it for metrics.

The two halves show each other the same certificate, by the cluster's authority. KEDA's webhooks, which refuse two
autoscalers of one workload, are left out.
"""

from __future__ import annotations

import shutil

from sandbox import gobuild, metrics_api, settings, supervisor
from sandbox.cluster import Cluster
from sandbox.metrics_api import Server
from sandbox.settings import Settings
from sandbox.supervisor import Program

NAME = "keda"
METRICS = Server("keda-metrics", NAME, "external.metrics.k8s.io", settings.KEDA_METRICS_PORT)
_QUERIES = f"{settings.NODE_IP}:{settings.KEDA_QUERY_PORT}"
_HEALTH = f"{settings.NODE_IP}:{settings.KEDA_HEALTH_PORT}"


def program(config: Settings) -> Program:
    """The operator; one of it, so it elects no leader."""
    command = [
        str(gobuild.program(config, gobuild.KEDA, "keda-operator")),
        f"--cert-dir={metrics_api.certificates(config, NAME)}",
        f"--metrics-service-bind-address={_QUERIES}",
        f"--health-probe-bind-address={_HEALTH}",
        "--enable-prometheus-metrics=false",
    ]
    return Program(name=NAME, command=command, environment=_environment(config), priority=50)


def metrics_program(config: Settings) -> Program:
    """The server of the API of external metrics; it hands each question on to the operator."""
    command = [
        str(gobuild.program(config, gobuild.KEDA_METRICS, "keda-metrics-apiserver")),
        f"--metrics-service-address={_QUERIES}",
        "--port=0",
        *METRICS.arguments(config),
    ]
    return Program(name=METRICS.name, command=command, environment=_environment(config), priority=50)


def start(config: Settings, cluster: Cluster) -> None:
    """Give both halves their rights and their certificate, start the operator and wait until it is healthy.

    Raises:
        SandboxError: it does not get healthy.
    """
    METRICS.prepare(config, cluster, rights=NAME)
    shutil.copyfile(config.pki / "ca.crt", metrics_api.certificates(config, NAME) / "ca.crt")
    supervisor.start_programs(config, [NAME])
    metrics_api.wait(config, NAME, _is_healthy)


def start_metrics(config: Settings, cluster: Cluster) -> None:
    """Start the other half and wait until the API server gets answers from it.

    Raises:
        SandboxError: it gets none.
    """
    METRICS.start(config, cluster)


def _is_healthy() -> bool:
    import httpx

    try:
        answer = httpx.get(f"http://{_HEALTH}/readyz", timeout=2, trust_env=False)
    except httpx.HTTPError:
        return False  # not yet
    return answer.status_code == httpx.codes.OK


def _environment(config: Settings) -> dict[str, str]:
    return {
        "KUBECONFIG": str(metrics_api.kubeconfig_of(config, NAME)),
        "WATCH_NAMESPACE": "",
        "POD_NAMESPACE": settings.SYSTEM_NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": settings.SYSTEM_NAMESPACE,
        # It would read the Secrets that a workload's variables are from; no trigger of Slipway's refers to one.
        "KEDA_RESTRICT_SECRET_ACCESS": "true",
    }
