"""Adopting what kubectl applied on the real cluster, with Slipway's own rights: no restart, and the ways on from it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from sandbox.settings import load
from slipway.cluster import lease
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, Ref
from slipway.cluster.ownership import is_persons
from slipway.manifests.plan import Controller, Plan
from slipway.manifests.render import Rendered
from slipway.operators import adopt
from slipway.operators.adopt import ResolveAdoptionOperator, TakeOverOperator
from slipway.operators.anew import controller_of
from slipway.operators.rollback import RollbackOperator
from slipway.releases.records import Release
from slipway.releases.store import History
from tests.cluster.test_rollouts_live import PROBED, SERVER, Stage, restarts, wait_for_answer
from tests.cluster.test_rollouts_live import load as clients_of

CONTROLLERS: list[Controller] = ["StatefulSet", "Deployment"]
LABELS = {"app": "ramp"}


@pytest.fixture
def stage(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    as_slipway: Callable[..., Cluster],
    namespace: str,
    image: str,
) -> Stage:
    """Runs that have exactly the rights of Slipway's Role."""
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{tmp_path}/history.db")
    monkeypatch.setenv("SLIPWAY_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "a key")
    cluster = as_slipway(namespace)
    for module in ("steps", "rollout", "adopt"):
        monkeypatch.setattr(f"slipway.operators.{module}.cluster_of", lambda connection: cluster)
    stage = Stage(cluster=cluster, namespace=namespace, image=image, history=History.open())
    monkeypatch.setattr(adopt, "read_catalog", lambda: None)
    monkeypatch.setattr(adopt, "make_plan", lambda catalog, endpoint: planned(stage))
    monkeypatch.setattr("slipway.operators.first_step.refuse_unknown_conf", lambda context: None)
    for module in ("adopt", "rollback"):
        monkeypatch.setattr(f"slipway.operators.{module}.actor_of", lambda context: "ada")
    return stage


def planned(stage: Stage) -> Plan:
    """What the catalog says of the endpoint."""
    return stage.plan(SERVER.replace("VERSION", "catalog"))


def apply_by_hand(stage: Stage, *, replicas: int = 2, port: str | None = "serving") -> None:
    """What a document's reader does: kubectl apply of a workload and a Service with labels of their own.

    Many of them give the Service's port no name.
    """
    container: Object = {
        "name": "vllm",
        "image": stage.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", SERVER.replace("VERSION", "by-hand")],
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "5m", "memory": "32Mi"}},
        # Answers that are under way end before the pod does.
        "lifecycle": {"preStop": {"sleep": {"seconds": 6}}},
    }
    pod = {"terminationGracePeriodSeconds": 10, "containers": [container]}
    metadata = {"name": "ramp", "namespace": stage.namespace, "labels": LABELS}
    spec: Object = {
        "replicas": replicas,
        "selector": {"matchLabels": LABELS},
        "template": {"metadata": {"labels": {**LABELS, "team": "search"}}, "spec": pod},
    }
    spec |= {"serviceName": "ramp"} if stage.controller == "StatefulSet" else {}
    workload = {"apiVersion": "apps/v1", "kind": stage.controller, "metadata": metadata, "spec": spec}
    ports = [{"port": 8000, "targetPort": 8000, **({"name": port} if port else {})}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": LABELS, "ports": ports},
    }
    kubectl(stage, "apply", "-f", "-", stdin=yaml.safe_dump_all([workload, service]))
    kubectl(stage, "rollout", "status", f"{stage.controller}/ramp", "--timeout=120s")
    wait_for_answer(stage.address())


def kubectl(stage: Stage, *words: str, stdin: str | None = None) -> str:
    config = load()
    done = subprocess.run(
        [
            config.home / "bin" / "kubectl",
            f"--kubeconfig={config.admin_kubeconfig}",
            "-n",
            stage.namespace,
            *words,
        ],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def lives(stage: Stage) -> set[tuple[str, int]]:
    """The pods with their restarts, whoever labelled them."""
    found = stage.cluster.list(api_version="v1", kind="Pod", namespace=stage.namespace)
    return {
        (one["metadata"]["uid"], restarts(one))
        for one in found
        if not one["metadata"].get("deletionTimestamp")
    }


def pending(stage: Stage, operator: Any, run: str) -> Release:
    """A release that an operator resolved, with its lock."""
    release = stage.history.get(operator.execute(context_of(run))["release"])
    fencing = lease.acquire(
        stage.cluster, namespace=stage.namespace, endpoint_object="ramp", holder=release.run_id, seconds=900
    )
    assert fencing is not None
    return stage.history.set_fencing(release.id, fencing)


def context_of(run: str) -> Any:
    dag_id, _, run_id = run.partition("/")
    dag_run = SimpleNamespace(dag_id=dag_id, run_id=run_id, conf={})
    ti = SimpleNamespace(task_id="step", xcom_push=lambda key, value: None)
    return {"dag_run": dag_run, "run_id": run_id, "ti": ti}


def prove(stage: Stage, release: Release) -> Release:
    """The steps after the workload is as it should be, as the DAGs have them."""
    assert stage.wait(release) == ""
    for through, address in (("release", stage.address(release)), ("published", stage.address())):
        wait_for_answer(address)
        stage.history.record_probe(release.id, through=through, result=PROBED)
    stage.record(release)
    return stage.history.get(release.id)


def adopted(stage: Stage) -> Release:
    operator = ResolveAdoptionOperator(task_id="resolve", endpoint="ramp")
    release = pending(stage, operator, "adopt_endpoint/1")
    stage.step(TakeOverOperator, release)
    return prove(stage, release)


def roll_back(stage: Stage, *, to: int, strategy: str) -> Release:
    operator = RollbackOperator(task_id="resolve", endpoint="ramp", to=to, strategy=strategy)
    release = pending(stage, operator, f"rollback_endpoint/{to}-{strategy}")
    stage.apply(release)
    assert stage.wait(release) == ""
    stage.publish(release)
    wait_for_answer(stage.address())
    stage.history.record_probe(release.id, through="published", result=PROBED)
    stage.record(release)
    return stage.history.get(release.id)


def port_name(stage: Stage) -> str | None:
    """What the Service that clients use calls its port; kube-proxy refuses clients while it learns another name."""
    live = stage.cluster.get(api_version="v1", kind="Service", name="ramp", namespace=stage.namespace)
    assert live is not None
    [port] = live["spec"]["ports"]
    name: str | None = port.get("name")
    return name


def managers(stage: Stage, kind: str, api_version: str) -> set[str]:
    live = stage.cluster.get(api_version=api_version, kind=kind, name="ramp", namespace=stage.namespace)
    assert live is not None
    return {one["manager"] for one in live["metadata"]["managedFields"]}


@pytest.mark.parametrize(("controller", "port"), [("StatefulSet", "serving"), ("Deployment", None)])
def test_an_adopted_endpoint_keeps_its_pods_and_is_then_deployed_and_gone_back_to(
    stage: Stage, controller: Controller, port: str | None
) -> None:
    stage.controller = controller
    apply_by_hand(stage, port=port)
    before = lives(stage)
    wait_for_answer(stage.address())
    with clients_of(stage.address()) as clients:
        first = adopted(stage)

        assert (first.number, first.status) == (1, "good") and lives(stage) == before
        assert set(stage.pods().values()) == {first.label} and len(stage.pods()) == 2
        assert stage.standing().published == first.label
        for kind, version in ((controller, "apps/v1"), ("Service", "v1")):
            assert not any(map(is_persons, managers(stage, kind, version)))
        second = stage.deploy("second", strategy="blue-green")
        assert stage.workloads() == {"ramp-green": second.label}
        assert port_name(stage) == port
        back = roll_back(stage, to=1, strategy="blue-green")
        assert (back.rollback_of, back.objects) == (1, first.objects)
        seen = len(clients.answers)
        while len(clients.answers) < seen + 12 and not clients.failures:
            time.sleep(0.1)

    assert (clients.failures, set(clients.answers)) == ([], {"by-hand", "second"})
    assert port_name(stage) == port
    assert clients.answers[-1] == "by-hand" and stage.workloads() == {"ramp": back.label}
    wanted = controller_of(Rendered.from_bytes(first.objects))["spec"]["template"]
    live = stage.standing().workloads[0].live["spec"]["template"]
    assert {**live["spec"]} == wanted["spec"] and live["metadata"]["labels"] == wanted["metadata"]["labels"]


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_without_room_an_adopted_workload_is_made_anew_in_its_place_and_back(
    stage: Stage, controller: Controller
) -> None:
    stage.controller = controller
    apply_by_hand(stage, replicas=1)
    adopted(stage)

    second = stage.deploy("second", strategy="recreate")
    assert stage.workloads() == {"ramp": second.label} and list(stage.pods().values()) == [second.label]
    back = roll_back(stage, to=1, strategy="recreate")

    assert stage.workloads() == {"ramp": back.label} and list(stage.pods().values()) == [back.label]


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_pod_that_takes_anothers_place_after_the_adoption_is_the_releases_too(
    stage: Stage, controller: Controller
) -> None:
    stage.controller = controller
    apply_by_hand(stage, replicas=1)
    first = adopted(stage)
    [name] = stage.pods()
    before = lives(stage)

    stage.cluster.delete(Ref(apiVersion="v1", kind="Pod", namespace=stage.namespace, name=name))

    deadline = time.monotonic() + 60
    while lives(stage) & before or not stage.pods():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert stage.wait(first) == "" and set(stage.pods().values()) == {first.label}
    wait_for_answer(stage.address(first))


def test_a_failed_deployment_leaves_the_adopted_pods_serving(stage: Stage) -> None:
    apply_by_hand(stage, replicas=1)
    adopted(stage)
    before = lives(stage)

    bad = stage.pend("bad", strategy="blue-green", code="raise SystemExit('no such argument')")
    stage.apply(bad)
    assert stage.wait(bad) == "CrashLoopBackOff"
    line = stage.fail(bad)

    assert line.startswith("release 2 failed; release 1 was not touched and serves")
    assert before <= lives(stage) and stage.workloads() == {"ramp": stage.history.get(1).label}
    wait_for_answer(stage.address())


def test_what_somebody_changed_after_the_look_is_not_adopted(stage: Stage) -> None:
    apply_by_hand(stage, replicas=1)
    operator = ResolveAdoptionOperator(task_id="resolve", endpoint="ramp")
    release = pending(stage, operator, "adopt_endpoint/1")
    kubectl(stage, "set", "env", f"{stage.controller}/ramp", "CHANGED=1")

    with pytest.raises(AirflowFailException, match="somebody changed it meanwhile"):
        stage.step(TakeOverOperator, release)
