"""Prometheus on the node itself: it keeps what the endpoints' pods say of themselves, for KEDA to ask for.

No Prometheus operator runs here. The targets, and the labels that a query selects them by, are what it would make of
the endpoints' ServiceMonitors.
"""

from __future__ import annotations

from sandbox import gobuild, metrics_api, settings, supervisor
from sandbox.cluster import Cluster
from sandbox.settings import Settings
from sandbox.supervisor import Program
from sandbox.templating import render, write

NAME = "prometheus"
URL = f"http://{settings.NODE_IP}:{settings.PROMETHEUS_PORT}"
# Of a Service, as Slipway labels the one that clients use, and of its port.
_WANTED = "slipway;published;http"


def program(config: Settings) -> Program:
    """Prometheus, which keeps two hours."""
    config_file = config.kubeconfigs / f"{NAME}.yaml"
    text = render(
        f"templates/{NAME}.yaml.j2",
        kubeconfig=config.kubeconfigs / f"{NAME}.conf",
        wanted=_WANTED,
    )
    write(config_file, text)
    command = [
        str(gobuild.program(config, gobuild.PROMETHEUS, NAME)),
        f"--config.file={config_file}",
        f"--storage.tsdb.path={config.home / NAME}",
        "--storage.tsdb.retention.time=2h",
        f"--web.listen-address={settings.NODE_IP}:{settings.PROMETHEUS_PORT}",
    ]
    return Program(name=NAME, command=command, files=[config_file], priority=50)


def start(config: Settings, cluster: Cluster) -> None:
    """Give it its rights, start it and wait until it answers queries.

    Raises:
        SandboxError: it does not.
    """
    cluster.apply_files([f"manifests/{NAME}"])
    supervisor.start_programs(config, [NAME])
    metrics_api.wait(config, NAME, _is_ready)


def _is_ready() -> bool:
    import httpx

    try:
        return httpx.get(f"{URL}/-/ready", timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False  # not yet
