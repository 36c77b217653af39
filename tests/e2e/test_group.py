"""An endpoint that several pods serve together: real vLLM cut over a leader and a worker, under the real controller."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from slipway.airflow_rest import Outcome
from slipway.cluster.client import Cluster
from slipway.cluster.controllers import look, retire
from slipway.cluster.objects import Object, ref_of
from slipway.cluster.watch import wait_for_workload_sync
from slipway.releases.store import History
from tests.e2e.conftest import NAMESPACE, Run, Serving

pytestmark = pytest.mark.e2e

PAIR = "qwen3-tiny-pair"
LABELS = {"slipway.io/endpoint": PAIR}


@pytest.fixture(scope="module")
def pair(run: Run, cluster: Cluster, tiny_overrides: dict[str, Any]) -> Iterator[Outcome]:
    """The group, deployed once; afterwards nothing of it runs."""
    yield run("deploy_endpoint", endpoint=PAIR, reason="tests", overrides=tiny_overrides)
    retire(cluster, look(cluster, namespace=NAMESPACE, endpoint=PAIR).workloads, keep=())
    for service in cluster.list(api_version="v1", kind="Service", namespace=NAMESPACE, labels=LABELS):
        cluster.delete(ref_of(service))


def pods(cluster: Cluster) -> dict[str, Object]:
    found = cluster.list(api_version="v1", kind="Pod", namespace=NAMESPACE, labels=LABELS)
    return {
        pod["metadata"]["name"]: pod
        for pod in found
        if "leaderworkerset.sigs.k8s.io/name" in pod["metadata"]["labels"]
    }


def ask(cluster: Cluster, key: str) -> httpx.Response:
    service = cluster.get(api_version="v1", kind="Service", namespace=NAMESPACE, name=PAIR)
    assert service is not None
    deadline = time.monotonic() + 60
    while True:
        try:
            return httpx.post(
                f"http://{service['spec']['clusterIP']}:8000/v1/completions",
                json={"model": "qwen3-tiny", "prompt": "Hello", "max_tokens": 4},
                headers={"Authorization": f"Bearer {key}"},
                timeout=120,
                trust_env=False,
            )
        except httpx.ConnectError:
            # The pod is ready before the node has its rules for the Service.
            assert time.monotonic() < deadline, "nobody answers at the Service's address"
            time.sleep(0.2)


def test_a_model_cut_over_two_pods_answers_through_its_leader(
    pair: Outcome, cluster: Cluster, serving: Serving, history: History
) -> None:
    assert (pair.state, pair.failures) == ("success", [])
    release = history.last_good(PAIR)
    assert release is not None
    roles = {
        name: pod["metadata"]["labels"]["app.kubernetes.io/component"] for name, pod in pods(cluster).items()
    }
    assert roles == {f"{PAIR}-group-0": "server", f"{PAIR}-group-0-1": "worker"}
    assert ask(cluster, serving.api_key).json()["usage"]["completion_tokens"] == 4
    assert ask(cluster, "wrong").status_code == 401


def test_a_group_that_lost_its_worker_starts_anew_and_serves(
    pair: Outcome, cluster: Cluster, serving: Serving, history: History
) -> None:
    release = history.last_good(PAIR)
    assert release is not None
    before = pods(cluster)

    cluster.delete(ref_of(before[f"{PAIR}-group-0-1"]), grace_seconds=0)
    deadline = time.monotonic() + 180
    while pods(cluster).keys() != before.keys() or any(
        pod["metadata"]["uid"] == before[name]["metadata"]["uid"] for name, pod in pods(cluster).items()
    ):
        assert time.monotonic() < deadline, "the group was not made anew"
        time.sleep(0.5)
    verdict = wait_for_workload_sync(
        cluster,
        kind="LeaderWorkerSet",
        namespace=NAMESPACE,
        name=f"{PAIR}-group",
        endpoint=PAIR,
        release=release.label,
        deadline_seconds=600,
    )

    assert verdict.doom is None, verdict.doom
    assert ask(cluster, serving.api_key).is_success
