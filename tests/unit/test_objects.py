"""What clients, operators and autoscalers rely on in the objects of an endpoint and of a cluster."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from slipway.catalog.names import RELEASE_LABEL
from slipway.catalog.read import include_directory, read_catalog
from slipway.catalog.records import Autoscaling
from slipway.errors import CatalogError, UsageError
from slipway.manifests.cluster_objects import chart_values, render_cluster
from slipway.manifests.plan import Plan, Scaling
from slipway.manifests.planning import make_plan
from slipway.manifests.portnames import with_port_names
from slipway.manifests.render import Rendered, render

Change = Callable[..., None]
Record = dict[str, Any]
OSS = {"endpoint": "oss-cn-hangzhou-internal.aliyuncs.com"}


@pytest.fixture
def planned(include: Path, change: Change) -> Callable[..., Plan]:
    """Plan qwen3-tiny with changes of its record, and of its cluster's."""

    def make(
        *, cluster: dict[str, Any] | None = None, runtime: dict[str, Any] | None = None, **endpoint: Any
    ) -> Plan:
        change("endpoints/qwen3-tiny", **endpoint)
        change("clusters/sandbox", **(cluster or {}))
        change("runtimes/vllm-cpu", **(runtime or {}))
        return make_plan(read_catalog(include), "qwen3-tiny", include=include)

    return make


@pytest.fixture
def rendered(planned: Callable[..., Plan], include: Path) -> Callable[..., Rendered]:
    """Render it."""
    return lambda **changes: render(planned(**changes), include=include)


def only(release: Rendered, kind: str) -> dict[str, Any]:
    found = [manifest for manifest in release.objects() if manifest["kind"] == kind]
    assert len(found) == 1, [manifest["kind"] for manifest in release.objects()]
    return found[0]


ACCESS = {
    "gateway": {"name": "gateway", "namespace": "default"},
    "ingress": {},
    "load_balancers": {
        "public_annotations": {"address-type": "internet"},
        "annotations": {"ip-version": "ipv4"},
    },
    "monitoring": {"prometheus": "http://prometheus.monitoring:9090", "metrics_adapter": True},
}

WATCHED = {"ports": {"watched": 9000}, "metrics_port": "watched"}


@pytest.mark.parametrize(
    "change_of_access",
    [
        {"exposure": {"route": {"host": "llm.example.com"}}},
        {"exposure": {"ingress": {"host": "llm.example.com"}}},
        {"exposure": {"services": [{"type": "NodePort", "node_port": 31000}]}},
        {"autoscaling": {"by": "keda", "maximum": 4}},
        {"replicas": 3},
        {"service_monitor": True, "disruption_budget": True, "network_policy": {}},
    ],
)
def test_how_an_endpoint_is_reached_and_scaled_restarts_no_pod(
    rendered: Callable[..., Rendered], change_of_access: dict[str, Any]
) -> None:
    assert rendered(cluster=ACCESS, **change_of_access).release == rendered(exposure={}, replicas=1).release


def service(name: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "Service", "metadata": {"name": name}, "spec": {"ports": [*ports]}}


SERVING = {"name": "serving", "port": 8000}
NAMELESS = {"port": 8000, "protocol": "TCP"}
NAMES = {
    "as somebody called it": ([service("qwen3-tiny", SERVING)], {}, "serving", "http"),
    "no name": ([service("qwen3-tiny", NAMELESS)], {}, None, "http"),
    "in each Service its own": (
        [service("qwen3-tiny", SERVING), service("out", NAMELESS)],
        {},
        "serving",
        None,
    ),
    "another port's name is not taken": (
        [service("qwen3-tiny", {**SERVING, "port": 80})],
        {},
        "http",
        "http",
    ),
    "nor that of another protocol": (
        [service("qwen3-tiny", {**SERVING, "protocol": "UDP"})],
        {},
        "http",
        "http",
    ),
    "no name beside other ports": ([service("qwen3-tiny", NAMELESS)], WATCHED, "http", "http"),
    "the name of another port": (
        [service("qwen3-tiny", {**SERVING, "name": "watched"})],
        WATCHED,
        "http",
        "http",
    ),
    "a name beside other ports": ([service("qwen3-tiny", SERVING)], WATCHED, "serving", "http"),
    "another Service's": ([service("other", SERVING)], {}, "http", "http"),
    "what is no Service": ([{**service("out", SERVING), "kind": "Route"}], {}, "http", "http"),
}


@pytest.mark.parametrize(("there", "runtime", "published", "outside"), NAMES.values(), ids=NAMES)
def test_a_service_that_is_there_keeps_what_it_calls_the_serving_port(
    planned: Callable[..., Plan],
    there: list[dict[str, Any]],
    runtime: dict[str, Any],
    published: str | None,
    outside: str | None,
) -> None:
    exposure = {"services": [{"type": "NodePort", "name": "out"}]}
    plan = planned(cluster=ACCESS, runtime=runtime, exposure=exposure, service_monitor=True)

    release = render(with_port_names(plan, there))

    assert release.release == render(plan).release, "no pod is restarted for it"
    ports = {
        one["metadata"]["name"]: one["spec"]["ports"][0].get("name")
        for one in release.stages["publication"]
        if one["kind"] == "Service"
    }
    assert ports == {"qwen3-tiny": published, "out": outside}
    [watched] = only(release, "ServiceMonitor")["spec"]["endpoints"]
    name = "watched" if runtime else published
    assert {key: watched.get(key) for key in ("port", "targetPort") if key in watched} == (
        {"port": name} if name else {"targetPort": "http"}
    )


METRICS = [
    ({"waiting_requests": 7}, "AverageValue", "vllm:num_requests_waiting", "7"),
    ({"waiting_requests": None, "kv_cache_percent": 80}, "AverageValue", "vllm:kv_cache_usage_perc", "80"),
    (
        {"waiting_requests": None, "ttft_seconds": 1.5},
        "Value",
        "vllm:time_to_first_token_seconds_bucket",
        "1.5",
    ),
]


@pytest.mark.parametrize(("rule", "kind", "metric", "threshold"), METRICS)
def test_keda_goes_by_the_metric_that_the_record_names(
    rendered: Callable[..., Rendered], rule: dict[str, Any], kind: str, metric: str, threshold: str
) -> None:
    release = rendered(cluster=ACCESS, autoscaling={"by": "keda", "maximum": 4, **rule})
    [trigger] = only(release, "ScaledObject")["spec"]["triggers"]

    assert (trigger.get("metricType", "AverageValue"), trigger["metadata"]["threshold"]) == (kind, threshold)
    pods = 'namespace="models",service="qwen3-tiny"'
    assert f"{metric}{{{pods}}}" in trigger["metadata"]["query"]
    assert trigger["metadata"]["serverAddress"] == ACCESS["monitoring"]["prometheus"]


AUTOSCALERS = [
    ("hpa", "HorizontalPodAutoscaler", ("spec", "behavior")),
    ("keda", "ScaledObject", ("spec", "advanced", "horizontalPodAutoscalerConfig", "behavior")),
]


@pytest.mark.parametrize(("by", "kind", "path"), AUTOSCALERS)
def test_a_replica_goes_when_it_was_not_needed_for_as_long_as_the_record_says(
    rendered: Callable[..., Rendered], by: str, kind: str, path: tuple[str, ...]
) -> None:
    release = rendered(cluster=ACCESS, autoscaling={"by": by, "maximum": 4, "cooldown_seconds": 90})

    behaviour = only(release, kind)
    for part in path:
        behaviour = behaviour[part]
    assert behaviour == {"scaleDown": {"stabilizationWindowSeconds": 90}}


def test_a_rule_of_an_older_slipway_can_still_be_read() -> None:
    rule = {"by": "keda", "maximum": 2, "idle_to_zero": False}

    assert Scaling.model_validate({"rule": rule, "prometheus": "http://p"}).rule.maximum == 2
    with pytest.raises(ValidationError, match="idle_to_zero"):
        Autoscaling.model_validate(rule)


def test_a_percentile_over_all_pods_is_kedas_alone() -> None:
    with pytest.raises(ValidationError, match="only keda goes by the time to first token"):
        Autoscaling(by="hpa", maximum=2, ttft_seconds=1)


def test_all_that_clients_use_from_outside_moves_with_the_release(rendered: Callable[..., Rendered]) -> None:
    services = [{"type": "LoadBalancer", "public": True, "port": 80}, {"type": "NodePort"}]
    release = rendered(cluster=ACCESS, exposure={"services": services})
    outside = {
        one["metadata"]["name"]: one for one in release.stages["publication"] if one["kind"] == "Service"
    }

    assert sorted(outside) == ["qwen3-tiny", "qwen3-tiny-nodes", "qwen3-tiny-public"]
    assert {one["spec"]["selector"][RELEASE_LABEL] for one in outside.values()} == {release.release}
    assert outside["qwen3-tiny-public"]["metadata"]["annotations"] == {
        "address-type": "internet",
        "ip-version": "ipv4",
    }
    assert (
        outside["qwen3-tiny-public"]["spec"]["ports"][0] | {"port": 80}
        == outside["qwen3-tiny-public"]["spec"]["ports"][0]
    )


def test_a_streamed_answer_is_neither_buffered_nor_cut_off(rendered: Callable[..., Rendered]) -> None:
    exposure = {
        "ingress": {"host": "a.example.com", "timeout_seconds": 900},
        "route": {"host": "b.example.com", "timeout_seconds": 900, "allow_origin": "*"},
    }
    release = rendered(cluster=ACCESS, exposure=exposure)
    annotations = only(release, "Ingress")["metadata"]["annotations"]
    rule = only(release, "HTTPRoute")["spec"]["rules"][0]

    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "900"
    assert rule["timeouts"] == {"request": "900s", "backendRequest": "900s"}
    headers = rule["filters"][0]["responseHeaderModifier"]["set"]
    assert {"name": "Access-Control-Allow-Origin", "value": "*"} in headers


def test_a_deployment_frees_its_cards_before_it_takes_them_again(rendered: Callable[..., Rendered]) -> None:
    release = rendered(controller="Deployment")

    assert only(release, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert "qwen3-tiny-pods" not in {one["metadata"]["name"] for one in release.objects()}


@pytest.fixture
def group(rendered: Callable[..., Rendered]) -> Rendered:
    join = "join $(LWS_LEADER_ADDRESS):{{ RAY_PORT }}"
    custom = "{% for one in CUSTOM_ARGS %} {{ one }}{% endfor %}"
    runtime = {
        "distributed": True,
        "command": ["/bin/bash", "-c"],
        "args": ["{% if IS_LEADER %}lead{% else %}" + join + "{% endif %}" + custom],
        "program": None,
        "version": None,
    }
    return rendered(runtime=runtime, parallel={"pods": 2}, args=None, network_policy={}, sizing="advise")


def test_only_the_leader_of_a_group_answers_and_knows_the_key(group: Rendered) -> None:
    template = only(group, "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    leader, worker = (template[f"{role}Template"]["spec"]["containers"][0] for role in ("leader", "worker"))
    published = next(one for one in group.stages["publication"] if one["kind"] == "Service")
    labels = {role: template[f"{role}Template"]["metadata"]["labels"] for role in ("leader", "worker")}

    assert template["size"] == 2 and template["restartPolicy"] == "RecreateGroupOnPodRestart"
    assert leader["args"][0].startswith("lead") and "join $(LWS_LEADER_ADDRESS):" in worker["args"][0]
    assert "VLLM_API_KEY" in {entry["name"] for entry in leader["env"]} - {
        entry["name"] for entry in worker["env"]
    }
    assert "startupProbe" in leader and "startupProbe" not in worker
    assert published["spec"]["selector"].items() <= labels["leader"].items()
    assert not published["spec"]["selector"].items() <= labels["worker"].items()
    assert labels["worker"][RELEASE_LABEL] == labels["leader"][RELEASE_LABEL] == group.release


def test_a_groups_own_service_does_not_take_the_published_ones_name(group: Rendered) -> None:
    names = {one["metadata"]["name"] for one in group.objects() if one["kind"] == "Service"}

    assert only(group, "LeaderWorkerSet")["metadata"]["name"] not in names


def test_pods_of_a_group_may_talk_to_each_other_on_any_port(group: Rendered) -> None:
    first = only(group, "NetworkPolicy")["spec"]["ingress"][0]

    assert "ports" not in first
    assert first["from"][0]["podSelector"]["matchLabels"] == {"slipway.io/endpoint": "qwen3-tiny"}


STATIC = ["PersistentVolume", "PersistentVolumeClaim"]
VOLUMES: list[tuple[dict[str, Any], list[str]]] = [
    ({"size": "1Gi"}, ["PersistentVolumeClaim"]),
    ({"size": "1Gi", "path": "qwen3", "fluid": {}}, ["Dataset", "JindoRuntime", "DataLoad"]),
    ({"size": "1Gi", "dataset": {}}, ["Dataset"]),
    ({"size": "1Gi", "dataset": {"namespace": "public"}}, ["Dataset", "Dataset"]),
    (
        {"size": "1Gi", "path": "qwen3", "static": {"source": "oss://bucket/models"}},
        ["PersistentVolume", "PersistentVolumeClaim"],
    ),
    (
        {"size": "1Gi", "path": "qwen3", "static": {"source": "nfs://server/exports/models"}},
        ["PersistentVolume", "PersistentVolumeClaim"],
    ),
]


@pytest.mark.parametrize(("volume", "kinds"), VOLUMES)
def test_whoever_brings_the_weights_the_pods_mount_one_claim_read_only(
    rendered: Callable[..., Rendered], volume: dict[str, Any], kinds: list[str]
) -> None:
    source = "oss://bucket/models" if "fluid" in volume else "modelscope://Qwen/Qwen3-0.6B"
    release = rendered(cluster={"oss": OSS}, volume=volume, source=source)
    pod = only(release, "StatefulSet")["spec"]["template"]["spec"]
    claim = next(one for one in pod["volumes"] if one["name"] == "weights")["persistentVolumeClaim"][
        "claimName"
    ]
    mount = next(one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "weights")

    assert [one["kind"] for one in release.stages["storage"]] == kinds
    assert release.stages["storage"][-1]["metadata"]["name"] == claim
    assert release.stages["storage"][-1]["metadata"]["namespace"] == "models"
    assert mount["readOnly"] is True
    assert mount.get("subPath", "").startswith(volume.get("path", ""))


def test_data_in_another_namespace_is_referred_to_and_not_copied(rendered: Callable[..., Rendered]) -> None:
    release = rendered(
        volume={"size": "1Gi", "dataset": {"namespace": "public", "labels": {"hydra.io/model-id": "x"}}}
    )
    home, reference = release.stages["storage"]

    assert (home["metadata"]["namespace"], home["metadata"]["labels"]["hydra.io/model-id"]) == ("public", "x")
    assert reference["spec"]["source"] == {"type": "REFERENCE", "uri": "dataset://public/qwen3-tiny"}


def test_compiled_kernels_of_another_image_are_another_directory(rendered: Callable[..., Rendered]) -> None:
    kept = {"compile_cache": "5Gi"}
    runtime = {"compile_cache": "/tmp/vllm", "program": None, "version": None}

    def directory(image: str) -> str:
        release = rendered(runtime={**runtime, "images": {"cpu": image}}, **kept)
        mounts = only(release, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
        return str(next(one for one in mounts if one["name"] == "compile-cache")["subPath"])

    assert directory("registry.example.com/vllm:1") != directory("registry.example.com/vllm:2")
    assert directory("registry.example.com/vllm:1") == directory("registry.example.com/vllm:1")


def test_images_come_from_where_the_cluster_says_the_longest_prefix_first(
    rendered: Callable[..., Rendered],
) -> None:
    rewrite = {"docker.io/": "harbor.example.com/hub/", "docker.io/vllm/": "harbor.example.com/vllm/"}
    runtime = {"images": {"cpu": "docker.io/vllm/vllm-openai:v1"}}
    release = rendered(cluster={"registry_rewrite": rewrite}, runtime=runtime)

    image = only(release, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "harbor.example.com/vllm/vllm-openai:v1"


UNFIT: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"exposure": {"route": {}}},
        {"gateway": None},
        r"exposure\.route\): catalog/clusters/sandbox\.yaml names no gateway",
    ),
    ({"exposure": {"ingress": {"host": "a.b"}}}, {}, r"names no ingress controller"),
    (
        {"exposure": {"services": [{"type": "LoadBalancer"}]}},
        {"load_balancers": None},
        r"says nothing of load_balancers",
    ),
    (
        {"exposure": {"services": [{"type": "NodePort"}, {"type": "NodePort"}]}},
        {},
        r"two Services .* 'qwen3-tiny-nodes'",
    ),
    ({"service_monitor": True}, {"monitoring": None}, r"says nothing of monitoring"),
    ({"autoscaling": {"by": "keda", "maximum": 2}}, {"monitoring": None}, r"keda asks Prometheus"),
    ({"autoscaling": {"by": "hpa", "maximum": 2}}, {"monitoring": None}, r"hpa needs prometheus-adapter"),
    ({"autoscaling": {"by": "hpa", "maximum": 2}, "replicas": 3}, ACCESS, r"3 is not between"),
    ({"volume": {"size": "1Gi", "fluid": {}, "path": "x"}}, {"oss": OSS}, r"reads oss://, not s3://"),
    ({"source": "oss://bucket/x"}, {}, r"names no oss"),
    ({"volume": {"size": "1Mi"}}, {}, r"1Mi does not hold qwen3-tiny"),
    ({"parallel": {"pods": 2}}, {}, r"does not serve from several pods"),
    (
        {"volume": {"size": "1Gi", "static": {"source": "s3://b/x"}, "path": "x"}},
        {},
        r"oss:// or nfs://, not s3://",
    ),
]


@pytest.mark.parametrize(("endpoint", "cluster", "message"), UNFIT)
def test_what_a_cluster_does_not_have_is_said_before_anything_is_applied(
    rendered: Callable[..., Rendered], endpoint: dict[str, Any], cluster: dict[str, Any], message: str
) -> None:
    with pytest.raises(CatalogError, match=message):
        rendered(cluster=cluster, runtime={"distributed": False}, **endpoint)


def test_a_clusters_objects_come_with_the_grants_that_they_need(include: Path, change: Change) -> None:
    route = {
        "name": "agent",
        "namespace": "routes",
        "service": "gateway",
        "service_namespace": "hydra",
        "port": 8080,
    }
    listeners = [
        {"name": "http", "port": 80},
        {"name": "https", "port": 443, "certificate": "tls", "certificate_namespace": "certificates"},
    ]
    gateway = {"name": "gw", "namespace": "default", "gateway_class": "istio", "listeners": listeners}
    charts = [
        {
            "name": "hami",
            "namespace": "kube-system",
            "chart": "hami/hami",
            "version": "2.7.1",
            "values": {"a": 1},
        }
    ]
    change("clusters/sandbox", gateway=gateway, setup={"routes": [route], "charts": charts})
    objects = render_cluster(read_catalog(include), "sandbox", include=include)
    grants = {one["metadata"]["namespace"]: one["spec"] for one in objects if one["kind"] == "ReferenceGrant"}

    assert grants["hydra"]["to"] == [{"group": "", "kind": "Service", "name": "gateway"}]
    assert grants["certificates"]["from"][0]["kind"] == "Gateway"
    assert chart_values(read_catalog(include), "sandbox", "hami") == {"a": 1}
    with pytest.raises(UsageError, match=r"no such chart \(sandbox: hmai\).*hami"):
        chart_values(read_catalog(include), "sandbox", "hmai")
    with pytest.raises(UsageError, match=r"no such cluster \(nowhere\)"):
        render_cluster(read_catalog(include), "nowhere")


@pytest.fixture
def metrics() -> Iterator[tuple[str, list[float]]]:
    """A server of one gauge, and the values that it gives one after the other; the last for ever."""
    values: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            value = values.pop(0) if len(values) > 1 else values[0]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(
                f'# TYPE x gauge\nvllm:running{{engine="0"}} {value}\nvllm:running_other 9\n'.encode()
            )

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/metrics", values
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("gives", "seconds"),
    [([0], "600"), ([2, 1, 0], "600"), ([1], "3")],
    ids=["idle", "finishes", "never finishes"],
)
def test_a_pod_that_ends_waits_for_the_requests_that_it_has(
    metrics: tuple[str, list[float]], gives: list[float], seconds: str
) -> None:
    url, values = metrics
    values += gives

    drain(url, seconds)

    assert values == gives[-1:], "it asked until none was left"


def test_a_pod_whose_server_is_gone_ends_at_once() -> None:
    drain("http://127.0.0.1:9/metrics", "600")


def drain(url: str, seconds: str) -> None:
    script = (include_directory() / "templates" / "drain.py").read_text(encoding="utf-8")
    subprocess.run([sys.executable, "-c", script, url, "vllm:running", seconds], check=True, timeout=60)
