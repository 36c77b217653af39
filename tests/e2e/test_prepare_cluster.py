"""Preparing the cluster through Airflow: the plan on a page, a person's approval by the API, and the result."""

from __future__ import annotations

import time
from typing import Any

import pytest

from sandbox.demo import wait_for_dag
from slipway.airflow_rest import AirflowRest, Outcome
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Ref
from slipway.releases.preparations import PreparationRecord, Preparations
from tests.e2e.conftest import Run

pytestmark = pytest.mark.e2e

DAG = "prepare_cluster"
PLAYGROUND = Ref(apiVersion="v1", kind="Namespace", name="playground")
ASKED = {"cluster": "sandbox", "steps": ["namespaces"]}


@pytest.fixture(autouse=True)
def lacking(airflow: AirflowRest, cluster: Cluster) -> None:
    """The namespace of the sandbox's record is not there."""
    wait_for_dag(airflow, DAG)
    cluster.delete(PLAYGROUND)
    wait_until(lambda: not is_there(cluster))


def is_there(cluster: Cluster) -> bool:
    return cluster.get(api_version="v1", kind="Namespace", name=PLAYGROUND.name) is not None


def wait_until(what: Any, *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.5)


def asked(airflow: AirflowRest, run_id: str) -> dict[str, Any]:
    """The question that waits for a person, as the page shows it."""
    states: dict[str, str] = {}

    def waits() -> bool:
        states.update({step["task_id"]: step["state"] for step in airflow.steps(DAG, run_id)})
        assert "failed" not in states.values(), airflow.failures(DAG, run_id)
        return states.get("approve") in ("awaiting_input", "deferred")

    wait_until(waits)
    detail: dict[str, Any] = airflow.get(_question(run_id))
    return detail


def decide(airflow: AirflowRest, run_id: str, option: str) -> None:
    """Answer it as a person does, and again where Airflow asks again.

    It does where the answer comes in the moment before its executor has noted that the asking task ended: that looks
    like a task that died, and is tried once more.
    """

    def is_decided() -> bool:
        states = {step["task_id"]: step["state"] for step in airflow.steps(DAG, run_id)}
        if states["approve"] == "awaiting_input" and not airflow.get(_question(run_id))["responded_at"]:
            body = {"chosen_options": [option], "params_input": {}}
            answer = airflow._request("PATCH", _question(run_id), json=body)
            assert answer.is_success, answer.text
        return states["approve"] in ("success", "failed", "skipped")

    wait_until(is_decided)


def _question(run_id: str) -> str:
    return f"/api/v2/dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"


def follow(airflow: AirflowRest, run_id: str) -> Outcome:
    return airflow.follow(DAG, run_id, say=lambda line: None, seconds=300)


def last() -> PreparationRecord:
    return Preparations.open().list(cluster="sandbox", limit=1)[0]


def test_nothing_is_made_before_a_person_has_approved_what_they_saw(
    airflow: AirflowRest, cluster: Cluster
) -> None:
    run_id = airflow.trigger(DAG, {**ASKED, "reason": "ticket 1"})
    question = asked(airflow, run_id)
    assert question["subject"] == "Prepare sandbox" and question["options"] == ["Approve", "Reject"]
    assert "+  name: playground" in question["body"] and "| `namespaces` | missing |" in question["body"]
    assert not is_there(cluster)

    decide(airflow, run_id, "Approve")
    outcome = follow(airflow, run_id)

    assert (outcome.state, outcome.failures) == ("success", [])
    assert is_there(cluster)
    kept = last()
    assert (kept.status, kept.approver, kept.reason, kept.failures) == ("done", "admin", "ticket 1", {})
    assert "+  name: playground" in airflow.log(DAG, run_id, "plan")


def test_what_a_person_turns_down_is_not_made(airflow: AirflowRest, cluster: Cluster) -> None:
    run_id = airflow.trigger(DAG, ASKED)
    asked(airflow, run_id)
    decide(airflow, run_id, "Reject")
    follow(airflow, run_id)

    assert not is_there(cluster)
    assert (last().status, last().approver) == ("rejected", "admin")


def test_a_system_approves_with_the_run_itself_and_a_second_run_finds_nothing_to_do(
    run: Run, airflow: AirflowRest, cluster: Cluster
) -> None:
    first = run(DAG, **ASKED, approve=True)
    live = cluster.get(api_version="v1", kind="Namespace", name=PLAYGROUND.name)
    again = run(DAG, **ASKED, approve=False)

    assert (first.state, first.failures, again.state) == ("success", [], "success")
    unchanged = cluster.get(api_version="v1", kind="Namespace", name=PLAYGROUND.name)
    assert (
        live and unchanged and live["metadata"]["resourceVersion"] == unchanged["metadata"]["resourceVersion"]
    )
    states = {step["task_id"]: step["state"] for step in airflow.steps(DAG, again.run_id)}
    assert (states["approve"], states["step"]) == ("success", "skipped"), "nobody is asked about nothing"


def test_a_step_that_the_record_does_not_have_is_refused_in_one_line(run: Run) -> None:
    outcome = run(DAG, cluster="sandbox", steps=["no-such"], approve=True)

    assert outcome.state == "failed"
    assert "no such step (sandbox: no-such)" in outcome.failures[0]
