"""Replicas by load: real vLLM's own metrics, kept by a real Prometheus; KEDA asks it, or prometheus-adapter does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from sandbox.settings import CHECKOUT
from slipway.airflow_rest import AirflowRest, Outcome
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from slipway.releases.store import History
from tests.e2e.clients import load
from tests.e2e.conftest import NAMESPACE, Run, Serving
from tests.e2e.own_catalog import catalog_with

pytestmark = pytest.mark.e2e

ENDPOINT = "qwen3-tiny-by-load"
PLACE: dict[str, Any] = {"endpoint": ENDPOINT, "reason": "tests"}
# Two of each replica's requests run, so that four of six wait; each takes some seconds.
CLIENTS, TOKENS = 6, 200
UP_SECONDS, DOWN_SECONDS = 120, 240
SOON = {"cooldown_seconds": 10}

Record = dict[str, Any]
Governed = Callable[..., None]


@pytest.fixture(scope="module")
def record() -> Record:
    """The endpoint's own record; a replica that is not needed goes sooner than a person would want it to."""
    text = (CHECKOUT / "include" / "catalog" / "endpoints" / f"{ENDPOINT}.yaml").read_text(encoding="utf-8")
    found: Record = yaml.safe_load(text)
    found["autoscaling"] |= SOON
    return found


@pytest.fixture(scope="module")
def by_load(
    run: Run,
    airflow: AirflowRest,
    record: Record,
    tiny_overrides: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Outcome]:
    """The endpoint, deployed once; afterwards nothing of it is left."""
    folder = tmp_path_factory.mktemp("by-load")
    with catalog_with({f"endpoints/{ENDPOINT}": record}, airflow=airflow, folder=folder):
        yield run("deploy_endpoint", **PLACE, overrides=tiny_overrides)
    run("remove_endpoint", **PLACE, confirm=ENDPOINT)


@pytest.fixture
def governed(
    by_load: Outcome, run: Run, airflow: AirflowRest, record: Record, tmp_path_factory: Any
) -> Governed:
    """Turn autoscaling on by another rule, with the fewest replicas."""
    assert (by_load.state, by_load.failures) == ("success", [])

    def turn_on(**rule: Any) -> None:
        changed = {**record, "autoscaling": {**record["autoscaling"], **rule}}
        folder = tmp_path_factory.mktemp("rule")
        with catalog_with({f"endpoints/{ENDPOINT}": changed}, airflow=airflow, folder=folder):
            done = run("scale_endpoint", **PLACE, autoscaling="on")
        assert (done.state, done.failures) == ("success", [])

    return turn_on


def workloads(cluster: Cluster) -> dict[str, int]:
    """The replicas that are wanted, of each workload that stands."""
    labels = {"slipway.io/endpoint": ENDPOINT}
    found = cluster.list(api_version="apps/v1", kind="StatefulSet", namespace=NAMESPACE, labels=labels)
    return {one["metadata"]["name"]: one["spec"]["replicas"] for one in found}


def autoscalers(cluster: Cluster) -> list[str]:
    """What sets them: KEDA's object, and the one that KEDA makes of it."""
    kinds = (("keda.sh/v1alpha1", "ScaledObject"), ("autoscaling/v2", "HorizontalPodAutoscaler"))
    return [
        f"{kind} {one['metadata']['name']}"
        for api_version, kind in kinds
        for one in cluster.list(api_version=api_version, kind=kind, namespace=NAMESPACE)
        if ENDPOINT in one["metadata"]["name"]
    ]


def target(cluster: Cluster) -> str:
    """The workload that KEDA scales."""
    found = cluster.get(
        api_version="keda.sh/v1alpha1", kind="ScaledObject", namespace=NAMESPACE, name=ENDPOINT
    )
    assert found is not None
    return str(found["spec"]["scaleTargetRef"]["name"])


def becomes(cluster: Cluster, replicas: int, *, seconds: float) -> float:
    """Wait until the one workload has so many; returns the seconds that it took."""
    began = time.monotonic()
    while list(workloads(cluster).values()) != [replicas]:
        assert time.monotonic() - began < seconds, (workloads(cluster), said(cluster))
        time.sleep(1)
    return time.monotonic() - began


def said(cluster: Cluster) -> list[Object]:
    """What the autoscaler says of itself."""
    found = cluster.list(api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", namespace=NAMESPACE)
    return [one["status"] for one in found]


def answering(cluster: Cluster) -> int:
    """How many of its pods are ready."""
    labels = {"slipway.io/endpoint": ENDPOINT, "app.kubernetes.io/component": "server"}
    pods = cluster.list(api_version="v1", kind="Pod", namespace=NAMESPACE, labels=labels)
    conditions = [one for pod in pods for one in pod["status"].get("conditions", [])]
    return sum(1 for one in conditions if (one["type"], one["status"]) == ("Ready", "True"))


def test_requests_that_wait_bring_up_a_replica_that_goes_again_without_them(
    by_load: Outcome, cluster: Cluster, serving: Serving
) -> None:
    assert (by_load.state, by_load.failures) == ("success", [])
    assert workloads(cluster) == {ENDPOINT: 1}

    with load(cluster, endpoint=ENDPOINT, api_key=serving.api_key, clients=CLIENTS, tokens=TOKENS) as clients:
        up = becomes(cluster, 2, seconds=UP_SECONDS)
        deadline = time.monotonic() + UP_SECONDS
        while answering(cluster) < 2:
            assert time.monotonic() < deadline
            time.sleep(1)
    down = becomes(cluster, 1, seconds=DOWN_SECONDS)

    print(f"up after {up:.0f} s of load, down {down:.0f} s after its end")
    assert clients.seconds and clients.failures == []


def test_off_to_nothing_and_back_on(by_load: Outcome, run: Run, cluster: Cluster, serving: Serving) -> None:
    stopped = run("scale_endpoint", **PLACE, autoscaling="off", replicas=0)
    assert (stopped.state, stopped.failures) == ("success", [])
    assert (workloads(cluster), autoscalers(cluster)) == ({ENDPOINT: 0}, [])

    back = run("scale_endpoint", **PLACE, autoscaling="on")

    assert (back.state, back.failures) == ("success", [])
    assert workloads(cluster) == {ENDPOINT: 1}
    assert autoscalers(cluster) == [
        f"ScaledObject {ENDPOINT}",
        f"HorizontalPodAutoscaler keda-hpa-{ENDPOINT}",
    ]


RULES = {
    "the key-value cache": {"waiting_requests": None, "kv_cache_percent": 5},
    "the time to first token": {"waiting_requests": None, "ttft_seconds": 0.5},
    "requests of pods, without KEDA": {"by": "hpa"},
    "the cache of pods, without KEDA": {"by": "hpa", "waiting_requests": None, "kv_cache_percent": 5},
}


@pytest.mark.full  # minutes for each: a percentile over two minutes, and replicas that come and go
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_each_other_metric_alone_brings_up_a_replica_that_goes_again(
    governed: Governed, rule: dict[str, Any], cluster: Cluster, serving: Serving
) -> None:
    governed(**rule)
    by = "" if rule.get("by") == "hpa" else "keda-hpa-"
    assert autoscalers(cluster)[-1] == f"HorizontalPodAutoscaler {by}{ENDPOINT}"
    becomes(cluster, 1, seconds=DOWN_SECONDS)

    with load(cluster, endpoint=ENDPOINT, api_key=serving.api_key, clients=CLIENTS, tokens=TOKENS):
        up = becomes(cluster, 2, seconds=UP_SECONDS)
    down = becomes(cluster, 1, seconds=DOWN_SECONDS)

    print(f"up after {up:.0f} s of load, down {down:.0f} s after its end")


@pytest.mark.full  # three starts of vLLM, two of them two at once
def test_releases_under_load_keep_what_keda_set(
    governed: Governed, run: Run, cluster: Cluster, serving: Serving, history: History
) -> None:
    governed(cooldown_seconds=300)
    first = history.last_good(ENDPOINT)
    assert first is not None

    with load(cluster, endpoint=ENDPOINT, api_key=serving.api_key, clients=CLIENTS, tokens=TOKENS) as clients:
        becomes(cluster, 2, seconds=UP_SECONDS)
        changed = {"args": ["--max-num-seqs=3"]}
        redeployed = run("redeploy_endpoint", **PLACE, strategy="blue-green", overrides=changed)
        assert (redeployed.state, redeployed.failures) == ("success", [])
        [(green, replicas)] = workloads(cluster).items()
        assert (replicas, target(cluster)) == (2, green)
        assert green != ENDPOINT, "it came up beside the one that served"

    assert clients.seconds and clients.failures == []
    back = run("rollback_endpoint", **PLACE, to=first.number)
    assert (back.state, back.failures) == ("success", [])
    [(name, replicas)] = workloads(cluster).items()
    assert (replicas, target(cluster)) == (2, name)
