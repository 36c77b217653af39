"""prometheus-adapter on the node itself: it hands on to a HorizontalPodAutoscaler what Prometheus keeps of each pod."""

from __future__ import annotations

import json

from sandbox import gobuild, prometheus, settings
from sandbox.cluster import Cluster
from sandbox.metrics_api import Server
from sandbox.settings import Settings
from sandbox.supervisor import Program
from sandbox.templating import write

SERVER = Server(
    "prometheus-adapter",
    "prometheus-adapter",
    "custom.metrics.k8s.io",
    settings.PROMETHEUS_ADAPTER_PORT,
)
# docs/endpoints.md gives people the same rule for their own clusters.
RULE = {
    "seriesQuery": '{__name__=~"vllm:(num_requests_waiting|kv_cache_usage_perc)",namespace!="",pod!=""}',
    "resources": {"overrides": {"namespace": {"resource": "namespace"}, "pod": {"resource": "pod"}}},
    "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>}) by (<<.GroupBy>>)",
}


def program(config: Settings) -> Program:
    """The server of the API of pods' metrics."""
    config_file = config.kubeconfigs / f"{SERVER.name}.yaml"
    write(config_file, json.dumps({"rules": [RULE]}))
    command = [
        str(gobuild.program(config, gobuild.PROMETHEUS_ADAPTER, SERVER.name)),
        f"--config={config_file}",
        f"--prometheus-url={prometheus.URL}",
        # How soon a metric is known that came up just now; people wait for it here.
        "--metrics-relist-interval=10s",
        *SERVER.arguments(config),
    ]
    return Program(name=SERVER.name, command=command, files=[config_file], priority=50)


def start(config: Settings, cluster: Cluster) -> None:
    """Give it its rights and its certificate, start it and wait until the API server gets answers from it.

    Raises:
        SandboxError: it gets none.
    """
    SERVER.prepare(config, cluster, rights=SERVER.name)
    SERVER.start(config, cluster)
