"""The failure scenarios as data: what is asked for, and what is left. ``scenario_lines.yaml`` has what is told.

In a line stand for what only a run knows: ``<namespace>``, ``<node>``, ``<registry>``, ``<prefix>``, names of
namespaces (``<shared>``), ``<pod>`` and ``<generated>`` (what a Deployment and the API server add to a name),
``<label>`` (a release's, in names), ``<free>`` (a node's CPU and memory), ``<restarts>`` ("restarted once", "restarted
3 times"), ``<seconds>``, ``<nameserver>``, ``<file>`` (whichever is first) and ``<cut>`` (how far a
line goes before it is cut off).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

# What a scenario may leave of its endpoint:
# nothing   no workload, no pod, no Service that clients use
# stopped   its workload, scaled to 0 and kept for a look, and no Service that clients use
# untouched the good release before it, with the very same pods
# back      the good release before it, serving again
Left = Literal["nothing", "stopped", "untouched", "back"]
Record = Literal["none", "failed"]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One failure.

    Attributes:
        left: in the cluster, afterwards.
        record: what becomes of the release; ``none`` where a run ends before there is one.
        of: the endpoint whose good release there is before; None for an endpoint of the scenario's own.
        endpoint, runtime: what is otherwise in the endpoint's record, and in its runtime's.
        conf: of the run, besides the endpoint.
    """

    left: Left = "nothing"
    record: Record = "failed"
    dag: str = "deploy_endpoint"
    of: str | None = None
    namespace: str = "shared"
    endpoint: dict[str, Any] = field(default_factory=dict)
    runtime: dict[str, Any] = field(default_factory=dict)
    conf: dict[str, Any] = field(default_factory=dict)


def crash(fault: str, **more: Any) -> Scenario:
    """The server ends by itself."""
    return Scenario(endpoint={"args": [f"--fault={fault}"], **more}, left="stopped")


def overrides(**values: Any) -> dict[str, Any]:
    return {"overrides": values}


HOST_NETWORK = {"placement": {"host_network": True}}
RESOLVE = {
    "unknown-parameter": Scenario(conf={"repicas": 2}, record="none"),
    "flag-of-the-release": Scenario(conf=overrides(args=["--port=1"]), record="none"),
    "key-as-argument": Scenario(conf=overrides(args=["--api-key=x"]), record="none"),
    "foreign-image": Scenario(conf=overrides(image="docker.io/evil/x:1"), record="none"),
    "context-too-long": Scenario(conf=overrides(context_length=4096), record="none"),
    "model-too-large": Scenario(
        endpoint={"model": "large", "sizing": "enforce", "volume": {"size": "500Gi", "claim": "large"}},
        record="none",
    ),
    "host-network": Scenario(endpoint=HOST_NETWORK, record="none"),
    "nothing-to-redeploy": Scenario(dag="redeploy_endpoint", record="none"),
    "nothing-to-go-back-to": Scenario(dag="rollback_endpoint", record="none"),
    "nothing-to-scale": Scenario(dag="scale_endpoint", conf={"replicas": 1}, record="none"),
    "canary-without-route": Scenario(conf={"strategy": "canary"}, record="none"),
}

LOCK_AND_CHECK = {
    "no-namespace": Scenario(namespace="nowhere"),
    "namespace-going": Scenario(namespace="going"),
    "missing-right": Scenario(namespace="rightless"),
    "missing-secret": Scenario(endpoint={"api_key": {"secret": "no-such-secret"}}),
    "missing-key": Scenario(endpoint={"api_key": {"secret": "api-key", "key": "other"}}),
    "missing-class": Scenario(
        endpoint={"volume": {"size": "16Mi", "claim": "classless", "storage_class": "no-such-class"}},
    ),
    "claim-too-small": Scenario(endpoint={"volume": {"size": "16Mi", "claim": "small"}}),
    "stricter-namespace": Scenario(endpoint={"cluster": "scenarios-open", **HOST_NETWORK}),
    "too-much-cpu": Scenario(endpoint={"resources": {"cpu": "512", "memory": "64Mi"}}),
    "too-much-memory": Scenario(endpoint={"resources": {"cpu": "10m", "memory": "4Ti"}}),
    "no-card": Scenario(
        endpoint={"accelerator": "nvidia", "cards": 1, "resources": {"cpu": "10m", "memory": "8Gi"}}
    ),
    "no-such-node": Scenario(endpoint={"placement": {"node_selector": {"zone": "moon"}}}),
    "image-not-imported": Scenario(conf=overrides(image="localhost/slipway/nothing:here")),
}

DOWNLOAD = {
    "no-such-prefix": Scenario(conf=overrides(source="s3://models/no-such-prefix")),
    "no-config": Scenario(conf=overrides(source="s3://models/<prefix>/no-config")),
    "cut-short": Scenario(conf=overrides(source="s3://models/<prefix>/cut-short")),
    "wrong-sum": Scenario(conf=overrides(source="s3://models/<prefix>/wrong-sum")),
    "wrong-credentials": Scenario(
        endpoint={"cluster": "scenarios-strangers"}, conf=overrides(revision="other")
    ),
    "unknown-host": Scenario(conf=overrides(source="https://models.invalid/tiny")),
    "no-such-claim": Scenario(conf=overrides(source="pvc://nowhere/tiny")),
    "no-room-for-pods": Scenario(namespace="no-pods"),
    "nobody-makes-the-volume": Scenario(
        endpoint={"volume": {"size": "16Mi", "claim": "unmade", "storage_class": "<prefix>-nobody"}}
    ),
}

APPLY = {
    "no-such-priority": Scenario(endpoint={"placement": {"priority_class": "no-such-priority"}}),
    "quota-too-small": Scenario(
        namespace="little", endpoint={"resources": {"cpu": "10m", "memory": "400Mi"}}
    ),
    "limit-too-low": Scenario(namespace="narrow", endpoint={"resources": {"cpu": "10m", "memory": "400Mi"}}),
    "against-the-policy": Scenario(),
    "their-workload": Scenario(),
}

WAIT = {
    "image-refused": Scenario(conf=overrides(image="<registry>/private/server:1"), left="stopped"),
    "image-unknown": Scenario(conf=overrides(image="<registry>/public/server:1"), left="stopped"),
    "registry-unknown": Scenario(conf=overrides(image="registry.invalid/server:1"), left="stopped"),
    "bad-argument": Scenario(
        endpoint={"args": ["--no-such-flag=1"], "controller": "Deployment"}, left="stopped"
    ),
    "bad-value": Scenario(endpoint={"args": ["--seed=many"]}, left="stopped"),
    "port-in-use": crash("port"),
    "missing-file": crash("file"),
    "old-driver": crash("driver"),
    "unknown-reason": crash("unknown-words"),
    "ends-well": crash("done"),
    "out-of-memory": crash("memory"),
    "never-healthy": Scenario(
        endpoint={"args": ["--fault=unhealthy"]}, runtime={"startup_seconds": 30}, left="stopped"
    ),
    "missing-settings": Scenario(
        runtime={"volumes": [{"name": "server", "configMap": {"name": "no-such-map"}}]},
        left="stopped",
    ),
    "nobody-schedules": Scenario(
        endpoint={"placement": {"scheduler": "no-such-scheduler"}},
        runtime={"startup_seconds": 60},
        left="stopped",
    ),
}

PROBE = {
    "other-model": crash("other-name"),
    "any-key-will-do": crash("any-key"),
    "empty-answer": crash("empty"),
    "dies-at-first-request": crash("dies"),
    "no-chat-template": crash("no-template"),
}


def redeploy(of: str, left: Left, *, strategy: str | None = None, **values: Any) -> Scenario:
    conf = {"strategy": strategy, **overrides(**values)}
    return Scenario(dag="redeploy_endpoint", of=of, left=left, conf=conf)


# One after the other for each endpoint, in this order.
SERVING = {
    "crash-beside": redeploy("steady", "untouched", args=["--fault=port"]),
    "bad-answers-beside": redeploy("steady", "untouched", args=["--fault=empty"]),
    "weights-gone": redeploy("steady", "untouched", source="s3://models/no-such-prefix"),
    "image-gone": redeploy("steady", "untouched", image="localhost/slipway/nothing:here"),
    "no-such-release": Scenario(
        dag="rollback_endpoint", of="steady", left="untouched", record="none", conf={"to": 99}
    ),
    "not-confirmed": Scenario(
        dag="remove_endpoint",
        of="steady",
        left="untouched",
        record="none",
        conf={"confirm": "stead"},
    ),
    "crash-in-place": redeploy("replaced", "back", strategy="recreate", args=["--fault=driver"]),
    "bad-answers-in-place": redeploy("replaced", "back", strategy="recreate", args=["--fault=other-name"]),
}

SCENARIOS: dict[str, Scenario] = {
    **SERVING,
    **RESOLVE,
    **LOCK_AND_CHECK,
    **WAIT,
    **APPLY,
    **DOWNLOAD,
    **PROBE,
}
LINES: dict[str, str] = yaml.safe_load((Path(__file__).parent / "scenario_lines.yaml").read_text())
GOOD = ("steady", "replaced")
FULL = {
    "ends-well",
    "image-gone",
    "image-unknown",
    "limit-too-low",
    "missing-class",
    "missing-file",
    "missing-key",
    "missing-settings",
    "no-chat-template",
    "no-config",
    "no-such-claim",
    "no-such-prefix",
    "nobody-makes-the-volume",
    "nobody-schedules",
    "other-model",
    "too-much-cpu",
    "unknown-reason",
    "weights-gone",
}
"""Those that ``make test`` leaves to ``make test-full``: each is much like another, or waits long."""
