"""An endpoint's life after its deployment, through the REST API on the real cluster: roll back, scale, die, remove."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.demo import wait_for_dag
from slipway.airflow_rest import AirflowRest, Outcome
from slipway.cluster import lease
from slipway.cluster.client import Cluster
from slipway.releases.records import Release
from slipway.releases.store import History
from tests.e2e.conftest import ENDPOINT, NAMESPACE, Run, Serving

# Only in `make test-full` until a whole run of this file has been seen to pass: its first test has failed once in a
# full run, for a reason not known, and passes alone.
pytestmark = [pytest.mark.e2e, pytest.mark.full]

JOBS = ("rollback_endpoint", "scale_endpoint", "remove_endpoint", "probe_endpoints")


@pytest.fixture(scope="module")
def jobs(airflow: AirflowRest) -> None:
    """The DAGs of this file are read."""
    for dag_id in JOBS:
        wait_for_dag(airflow, dag_id)


@pytest.fixture
def good(deployed: Outcome, jobs: None, history: History) -> Release:
    """The release that serves before the test."""
    release = history.last_good(ENDPOINT)
    assert release is not None
    return release


def test_a_rollback_serves_the_old_objects_as_a_new_release(
    good: Release, run: Run, serving: Serving, history: History
) -> None:
    newer = run("redeploy_endpoint", endpoint=ENDPOINT, overrides={"args": ["--max-num-seqs=3"]})
    assert newer.state == "success"
    changed = history.last_good(ENDPOINT)
    assert changed is not None and changed.number > good.number

    outcome = run("rollback_endpoint", endpoint=ENDPOINT, reason="slower")

    assert (outcome.state, outcome.failures) == ("success", [])
    back = history.last_good(ENDPOINT)
    assert back is not None and back.number == changed.number + 1
    assert (back.rollback_of, back.objects, back.reason) == (good.number, good.objects, "slower")
    assert [pod["metadata"]["labels"]["slipway.io/release"] for pod in serving.pods()] == [good.label]
    assert "--max-num-seqs=3" not in serving.pods()[0]["spec"]["containers"][0]["args"]
    assert [probe.through for probe in history.probes(back.id)] == ["release", "published"]
    assert serving.ask().is_success


def test_an_endpoint_is_stopped_and_comes_back(
    good: Release, run: Run, serving: Serving, history: History
) -> None:
    stopped = run("scale_endpoint", endpoint=ENDPOINT, replicas=0)

    assert (stopped.state, stopped.failures) == ("success", [])
    assert all(pod["metadata"].get("deletionTimestamp") for pod in serving.pods())
    started = run("scale_endpoint", endpoint=ENDPOINT, replicas=1)
    assert (started.state, started.failures) == ("success", [])
    assert serving.ask().is_success
    assert [change.status for change in history.changes(ENDPOINT, limit=2)] == ["done", "done"]
    assert history.last_good(ENDPOINT) == good, "scaling makes no release"


def mark_failed(airflow: AirflowRest, path: str) -> None:
    """End a run as a person does in the UI; Airflow still runs its teardown."""
    assert airflow._request("PATCH", path, json={"state": "failed"}).is_success


def delete(airflow: AirflowRest, path: str) -> None:
    """End a run and its teardown, and delete it: nothing in Airflow knows of it any more."""
    mark_failed(airflow, path)
    deadline = time.monotonic() + 120
    while not airflow._request("DELETE", path).is_success:  # refused while anything of it runs
        assert time.monotonic() < deadline
        airflow._request("PATCH", f"{path}/taskInstances/record", json={"new_state": "failed"})
        time.sleep(1)


@pytest.mark.parametrize("end", [mark_failed, delete])
def test_a_run_that_ends_in_the_middle_leaves_the_last_good_release_serving(
    end: Callable[[AirflowRest, str], None],
    good: Release,
    airflow: AirflowRest,
    run: Run,
    serving: Serving,
    history: History,
    cluster: Cluster,
) -> None:
    conf = {"endpoint": ENDPOINT, "strategy": "recreate", "overrides": {"args": ["--max-num-seqs=5"]}}
    run_id = airflow.trigger("redeploy_endpoint", conf)
    path = f"/api/v2/dags/redeploy_endpoint/dagRuns/{run_id}"
    wait_for_step(airflow, run_id, "apply")

    end(airflow, path)

    deadline = time.monotonic() + 600
    while (
        release := history.by_run(ENDPOINT, f"redeploy_endpoint/{run_id}")
    ) and release.status == "pending":
        assert time.monotonic() < deadline, "nobody finishes the release"
        run("probe_endpoints")
    assert release is not None and (release.status, release.returning_to) == ("failed", good.number)
    assert history.last_good(ENDPOINT) == good
    assert serving.services()[ENDPOINT]["spec"]["selector"]["slipway.io/release"] == good.label
    assert serving.ask().is_success
    assert lease.holder_of(cluster, namespace=NAMESPACE, endpoint_object=ENDPOINT) is None


def wait_for_step(airflow: AirflowRest, run_id: str, step: str) -> None:
    """Wait until a step of a redeployment has succeeded."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        states = {one["task_id"]: one["state"] for one in airflow.steps("redeploy_endpoint", run_id)}
        if states.get(step) == "success":
            return
        assert "failed" not in states.values(), states
        time.sleep(1)
    raise AssertionError(f"{step} does not end")


def test_probes_of_what_serves_are_kept(good: Release, run: Run, history: History) -> None:
    assert run("probe_endpoints").state == "success"

    state = history.states(ENDPOINT)[0]
    assert (state.state, state.release_number) == ("serving", good.number)
    assert state.ttft_seconds and state.seconds and state.ttft_seconds < state.seconds


def test_a_restart_that_is_asked_for_replaces_the_pods_of_an_unchanged_plan(
    good: Release, run: Run, serving: Serving
) -> None:
    before = {pod["metadata"]["uid"] for pod in serving.pods()}

    outcome = run("redeploy_endpoint", endpoint=ENDPOINT, restart=True)

    assert outcome.state == "success"
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in serving.pods())


def test_an_endpoint_is_not_removed_by_mistake(good: Release, run: Run, serving: Serving) -> None:
    outcome = run("remove_endpoint", endpoint=ENDPOINT, confirm="qwen3")

    assert outcome.failures[0].startswith("begin: the removal is not confirmed")
    assert serving.ask().is_success


def test_a_removed_endpoint_leaves_its_weights_and_comes_back_without_moving_a_byte(
    good: Release,
    run: Run,
    airflow: AirflowRest,
    serving: Serving,
    history: History,
    cluster: Cluster,
    tiny_overrides: dict[str, Any],
) -> None:
    outcome = run("remove_endpoint", endpoint=ENDPOINT, confirm=ENDPOINT)

    assert (outcome.state, outcome.failures) == ("success", [])
    assert (serving.pods(), serving.services()) == ([], {})
    labels = {"slipway.io/endpoint": ENDPOINT}
    assert cluster.list(api_version="v1", kind="ConfigMap", namespace=NAMESPACE, labels=labels) == []
    claim = {"api_version": "v1", "kind": "PersistentVolumeClaim", "namespace": NAMESPACE}
    assert cluster.get(**claim, name="qwen3-tiny-weights") is not None
    assert history.last_good(ENDPOINT) is None

    again = run("deploy_endpoint", endpoint=ENDPOINT, overrides=tiny_overrides)
    assert again.state == "success"
    assert "(0 fetched, " in airflow.log("deploy_endpoint", again.run_id, "download")
    assert serving.ask().is_success
