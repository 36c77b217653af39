"""`slipway adopt` through Airflow on the real cluster: what somebody applied with kubectl serves on, as a release."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox.demo import wait_for_dag
from sandbox.settings import load
from slipway.airflow_rest import AirflowRest, Outcome
from slipway.catalog.names import object_name
from slipway.catalog.read import read_catalog
from slipway.cli import main
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from slipway.manifests.planning import make_plan
from slipway.manifests.render import Rendered
from slipway.operators.anew import controller_of
from slipway.releases.store import History
from tests.e2e.conftest import ENDPOINT, NAMESPACE, Run, Serving
from tests.unit import small_runtime

pytestmark = pytest.mark.e2e

SMALL = "qwen3-0.6b-sandbox"
SERVE = """
import os

KEY, NAME = os.environ["API_KEY"], "qwen3-0.6b"


def called(body):
    return None if body.get("stream") else Reply(body={"choices": [{"message": {"content": "fine"}}]})


runtime = Runtime(replies={"/v1/chat/completions": called})
ThreadingHTTPServer(("", 8000), type("Small", (Handler,), {"runtime": runtime})).serve_forever()
"""


@pytest.fixture(scope="module")
def jobs(airflow: AirflowRest) -> None:
    """The DAGs of this file are read."""
    for dag_id in ("adopt_endpoint", "rollback_endpoint", "remove_endpoint"):
        wait_for_dag(airflow, dag_id)


def kubectl(*words: str, objects: list[Object] | None = None) -> str:
    config = load()
    done = subprocess.run(
        [
            config.home / "bin" / "kubectl",
            f"--kubeconfig={config.admin_kubeconfig}",
            f"--namespace={NAMESPACE}",
            *words,
        ],
        input=yaml.safe_dump_all(objects) if objects else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def service(name: str) -> Object:
    labels = {"app": name}
    spec = {"selector": labels, "ports": [{"name": "serving", "port": 8000, "targetPort": 8000}]}
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def lives(cluster: Cluster, name: str) -> list[tuple[str, int]]:
    found = cluster.list(api_version="v1", kind="Pod", namespace=NAMESPACE, labels={"app": name})
    return [(one["metadata"]["uid"], one["status"]["containerStatuses"][0]["restartCount"]) for one in found]


@pytest.fixture
def by_hand(cluster: Cluster, jobs: None, run: Run, history: History) -> Iterator[str]:
    """A StatefulSet and a Service of a small server, as kubectl apply leaves them; the name of both."""
    name = object_name(SMALL)
    secret = {"secretKeyRef": {"name": "endpoint-api-key", "key": "api-key"}}
    container = {
        "name": "server",
        "image": make_plan(read_catalog(), SMALL).tools_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", Path(small_runtime.__file__).read_text() + SERVE],
        "env": [{"name": "API_KEY", "valueFrom": secret}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {"securityContext": security, "terminationGracePeriodSeconds": 2, "containers": [container]}
    labels = {"app": name}
    spec = {"serviceName": name, "selector": {"matchLabels": labels}}
    workload: Object = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {**spec, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
    kubectl("apply", "-f", "-", objects=[workload, service(name)])
    kubectl("rollout", "status", f"statefulset/{name}", "--timeout=120s")
    yield name
    if history.last_good(SMALL):
        run("remove_endpoint", endpoint=SMALL, confirm=SMALL)
    kubectl("delete", "--ignore-not-found", f"statefulset/{name}", f"service/{name}")


def test_what_kubectl_applied_becomes_a_release_and_its_pod_lives_on(
    by_hand: str,
    environment: dict[str, str],
    cluster: Cluster,
    history: History,
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = lives(cluster, by_hand)

    assert main(["adopt", SMALL]) == 0
    shown = capsys.readouterr()
    assert "+++ adopted: StatefulSet" in shown.out and "--yes adopts it" in shown.err
    assert history.last_good(SMALL) is None
    status = main(["adopt", SMALL, "--yes", "--reason", "ours now"])

    told = capsys.readouterr()
    assert status == 0, told.out + told.err
    release = history.last_good(SMALL)
    assert release is not None and (release.reason, release.actor) == ("ours now", "admin")
    assert [probe.through for probe in history.probes(release.id)] == ["release", "published"]
    assert lives(cluster, by_hand) == before, "no pod was replaced or restarted"
    kept = f"slipway-release-{by_hand}-{release.number}"
    assert cluster.get(api_version="v1", kind="ConfigMap", name=kept, namespace=NAMESPACE)
    assert main(["adopt", SMALL, "--yes"]) == 2
    assert "is Slipway's already" in capsys.readouterr().err
    removed = run("remove_endpoint", endpoint=SMALL, confirm=SMALL)
    assert removed.failures == [] and lives(cluster, by_hand) == []


@pytest.mark.full
def test_vllm_that_was_applied_by_hand_is_adopted_redeployed_and_gone_back_to(
    deployed: Outcome,
    jobs: None,
    run: Run,
    history: History,
    cluster: Cluster,
    serving: Serving,
    tiny_overrides: dict[str, Any],
) -> None:
    last = history.last_good(ENDPOINT)
    assert last is not None
    workload = deepcopy(controller_of(Rendered.from_bytes(last.objects)))
    run("remove_endpoint", endpoint=ENDPOINT, confirm=ENDPOINT)
    labels = {"app": ENDPOINT}
    workload["metadata"]["labels"] = labels
    workload["spec"]["template"]["metadata"] = {"labels": labels}
    workload["spec"] |= {"selector": {"matchLabels": labels}, "serviceName": ENDPOINT}
    kubectl("apply", "-f", "-", objects=[workload, service(ENDPOINT)])
    kubectl("rollout", "status", f"statefulset/{ENDPOINT}", "--timeout=300s")
    before = lives(cluster, ENDPOINT)

    adopted = run("adopt_endpoint", endpoint=ENDPOINT)

    assert (adopted.state, adopted.failures) == ("success", []) and lives(cluster, ENDPOINT) == before
    release = history.last_good(ENDPOINT)
    assert release is not None and serving.ask().is_success
    changed = {**tiny_overrides, "args": ["--max-num-seqs=3"]}
    newer = run("redeploy_endpoint", endpoint=ENDPOINT, overrides=changed)
    assert (newer.state, newer.failures) == ("success", []) and serving.ask().is_success
    published = cluster.get(api_version="v1", kind="Service", name=ENDPOINT, namespace=NAMESPACE)
    assert published and [port["name"] for port in published["spec"]["ports"]] == ["serving"]
    back = run("rollback_endpoint", endpoint=ENDPOINT, to=release.number)
    assert (back.state, back.failures) == ("success", []) and serving.ask().is_success
    [pod] = serving.pods()
    assert pod["metadata"]["labels"]["app"] == ENDPOINT
    assert "--max-num-seqs=3" not in pod["spec"]["containers"][0]["args"]
    again = run("deploy_endpoint", endpoint=ENDPOINT, overrides=tiny_overrides)
    assert again.failures == []
