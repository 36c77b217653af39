"""Runs that are ended in the middle of an apply: the last good release serves, the record says why, the lock is free.

"In the middle" is made to last: the API server stands still from the moment in which the first object of the new
release is in the cluster until Airflow has done what the test asks of it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sandbox import supervisor
from sandbox.settings import load
from slipway.manifests.render import service_name
from slipway.operators.steps import plan_of
from slipway.releases.records import Release
from tests.e2e.chaos import kill, pid_of, recover
from tests.e2e.small import NAMESPACE, Small, answer_of, patiently

# Some take minutes: what they wait for is Airflow, which notices late that a part of it was killed.
pytestmark = [pytest.mark.e2e, pytest.mark.full]

REDEPLOY, DEPLOY = "redeploy_endpoint", "deploy_endpoint"
AIRFLOW = ("airflow-scheduler", "airflow-triggerer", "airflow-api-server", "airflow-dag-processor")


@pytest.fixture(scope="module")
def small(make_small: Callable[[str], Small]) -> Small:
    """The endpoint of this file."""
    return make_small("small-ends")


def new_answer(fault: str = "") -> dict[str, Any]:
    args = [f"--answer=new-{time.time_ns()}"] + ([f"--fault={fault}"] if fault else [])
    return {"overrides": {"args": args}}


def path_of(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"


@contextmanager
def in_the_middle_of_apply(small: Small, dag_id: str, run_id: str) -> Iterator[Release]:
    """Stop the API server when a Service of the new release is there; it goes on at the end."""
    assert small.wait_for_step(dag_id, run_id, "apply", states=("running",))
    release = small.history.by_run(small.endpoint, f"{dag_id}/{run_id}")
    assert release is not None
    service = {"kind": "Service", "name": service_name(plan_of(release), release=release.label)}
    deadline, pid = time.monotonic() + 60, pid_of(load(), "kube-apiserver")
    while small.cluster.get(api_version="v1", namespace=NAMESPACE, **service) is None:
        assert time.monotonic() < deadline, "nothing is applied"
        time.sleep(0.02)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield release
    finally:
        os.kill(pid, signal.SIGCONT)


def mark_failed(small: Small, path: str) -> None:
    """End a run as a person does in the UI; Airflow still runs its teardown."""
    answer = small.airflow._request("PATCH", path, json={"state": "failed"})
    assert answer.is_success, answer.text


def delete(small: Small, path: str) -> None:
    """End a run and its teardown, and delete it: nothing in Airflow knows of it any more."""
    mark_failed(small, path)
    deadline = time.monotonic() + 120
    while not small.airflow._request("DELETE", path).is_success:  # refused while anything of it runs
        assert time.monotonic() < deadline
        small.airflow._request("PATCH", f"{path}/taskInstances/record", json={"new_state": "failed"})
        time.sleep(1)


REASONS = {
    mark_failed: "the run ended before the release was proven",
    delete: "its run {run} does not exist any more",
}


@pytest.mark.parametrize("end", REASONS)
@pytest.mark.parametrize("strategy", ["recreate", "blue-green"])
def test_a_run_that_is_ended_in_its_apply_leaves_the_last_good_release(
    end: Callable[[Small, str], None], strategy: str, small: Small
) -> None:
    good = small.good()
    run_id = small.trigger(REDEPLOY, strategy=strategy, **new_answer())
    with in_the_middle_of_apply(small, REDEPLOY, run_id):
        end(small, path_of(REDEPLOY, run_id))

    if end is mark_failed:
        small.follow(REDEPLOY, run_id)
    release = small.reconcile(f"{REDEPLOY}/{run_id}")
    assert small.settle() == []
    assert release is not None
    assert (release.status, release.failure) == ("failed", REASONS[end].format(run=f"{REDEPLOY}/{run_id}"))
    assert small.history.last_good(small.endpoint) == good


def test_a_step_that_is_cleared_in_the_middle_is_done_again_and_the_run_goes_on(small: Small) -> None:
    small.good()
    run_id = small.trigger(REDEPLOY, **new_answer())
    with in_the_middle_of_apply(small, REDEPLOY, run_id) as release:
        body = {"dag_run_id": run_id, "task_ids": ["apply"], "only_failed": False, "dry_run": False}
        path = f"/api/v2/dags/{REDEPLOY}/clearTaskInstances"
        answer = small.airflow._request("POST", path, json={**body, "include_downstream": True})
        assert answer.is_success, answer.text

    outcome = small.follow(REDEPLOY, run_id)
    assert (outcome.state, outcome.failures) == ("success", [])
    assert small.settle() == []
    assert small.history.last_good(small.endpoint) == small.history.get(release.id)
    assert [one.through for one in small.history.probes(release.id)] == ["release", "published"]


def test_a_first_release_whose_run_is_ended_is_scaled_to_0_and_kept(small: Small) -> None:
    small.removed()
    run_id = small.trigger(DEPLOY, **new_answer())
    with in_the_middle_of_apply(small, DEPLOY, run_id) as release:
        mark_failed(small, path_of(DEPLOY, run_id))

    small.follow(DEPLOY, run_id)
    ended = small.reconcile(f"{DEPLOY}/{run_id}")
    assert small.settle() == []
    assert ended is not None and ended.id == release.id
    assert (ended.status, ended.failure) == ("failed", "the run ended before the release was proven")
    assert [one.replicas for one in small.standing().workloads] in ([0], [])


def test_the_next_run_waits_until_the_unfinished_release_of_a_deleted_one_is_ended(small: Small) -> None:
    small.good()
    dead = small.trigger(REDEPLOY, **new_answer())
    with in_the_middle_of_apply(small, REDEPLOY, dead):
        delete(small, path_of(REDEPLOY, dead))
    run_id = small.trigger(REDEPLOY, **new_answer())
    small.wait_for_step(REDEPLOY, run_id, "lock", states=("deferred",))

    torn = small.reconcile(f"{REDEPLOY}/{dead}")
    outcome = small.follow(REDEPLOY, run_id)

    assert (outcome.state, outcome.failures) == ("success", [])
    assert torn is not None and torn.status == "failed"
    new = small.history.last_good(small.endpoint)
    assert new is not None and new.run_id == f"{REDEPLOY}/{run_id}" and new.number == torn.number + 1
    assert small.settle() == []


def test_a_run_goes_on_when_all_of_airflow_was_killed_in_the_middle(small: Small) -> None:
    small.good()
    config, changed = load(), new_answer()
    run_id = small.trigger(REDEPLOY, **changed)
    with in_the_middle_of_apply(small, REDEPLOY, run_id):
        kill([pid_of(config, name) for name in AIRFLOW])

    outcome = small.follow(REDEPLOY, run_id)
    recover(small, config)
    release = small.reconcile(f"{REDEPLOY}/{run_id}")
    assert small.settle() == []
    assert (outcome.state, outcome.failures) == ("success", [])
    assert release is not None and changed["overrides"]["args"] == [f"--answer={answer_of(release)}"]
    assert release == small.history.last_good(small.endpoint)


def test_a_release_that_never_starts_runs_out_of_time_and_the_good_one_is_not_touched(small: Small) -> None:
    good = small.good()
    before = {pod["metadata"]["uid"] for pod in small.pods()}

    outcome = small.run(REDEPLOY, strategy="blue-green", **new_answer("hang"))

    assert outcome.state == "failed"
    release = small.history.list(endpoint=small.endpoint, limit=1)[0]
    assert release.status == "failed" and release.failure is not None
    assert release.failure.startswith("wait: the workload cannot become available")
    assert "StartupProbeFailed" in release.failure
    assert small.settle() == [] and small.history.last_good(small.endpoint) == good
    assert {pod["metadata"]["uid"] for pod in small.pods()} == before


def test_a_wait_that_times_out_while_nobody_watches_is_tried_again(small: Small) -> None:
    """Its time runs out in Airflow, since no triggerer is there; that says nothing of the release."""
    small.good()
    config = load()
    run_id = small.trigger(REDEPLOY, **new_answer())
    assert small.wait_for_step(REDEPLOY, run_id, "wait", states=("deferred",))
    supervisor.stop_programs(config, ["airflow-triggerer"], timeout=30)
    try:
        deadline = time.monotonic() + 400
        path = f"{path_of(REDEPLOY, run_id)}/taskInstances/wait"
        while patiently(lambda: small.airflow.get(path))["try_number"] < 2:
            assert time.monotonic() < deadline, "the wait does not time out"
            time.sleep(1)
    finally:
        supervisor.start_programs(config, ["airflow-triggerer"])

    outcome = small.follow(REDEPLOY, run_id)
    assert outcome.state == "success" and small.settle() == []
