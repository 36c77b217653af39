"""Who sets an endpoint's replicas, on the real cluster: a person or an autoscaler, and no release after them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from slipway.catalog.records import Autoscaling, Strategy
from slipway.cluster import lease
from slipway.cluster.client import Cluster
from slipway.manifests.plan import Plan, Scaling
from slipway.operators.rollback import RollbackOperator
from slipway.operators.scale import BeginScaleOperator, FinishScaleOperator, ScaleOperator
from slipway.releases.records import Release
from tests.cluster import test_rollouts_live
from tests.cluster.test_rollouts_live import PROBED, Stage
from tests.unit.life_api import Told

stage = test_rollouts_live.stage
SYNC_SECONDS = 90
"""The controller of HorizontalPodAutoscalers looks every 15 seconds, and again where it failed."""


@pytest.fixture
def cluster(slipway: Cluster) -> Cluster:
    """What is tried here acts with Slipway's own rights."""
    return slipway


@pytest.fixture
def by_load(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """An endpoint whose record has an autoscaler: one or two replicas."""
    scaling = Scaling(rule=Autoscaling(by="hpa", minimum=1, maximum=2), prometheus=None)
    plan = Stage.plan

    def planned(one: Stage, code: str) -> Plan:
        return plan(one, code).model_copy(update={"scaling": scaling})

    monkeypatch.setattr(Stage, "plan", planned)
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "a key")
    stage.controller = "Deployment"
    return stage


def context(run: str) -> Any:
    """Airflow's context of a task of a run ``dag/run``."""
    from types import SimpleNamespace

    dag_id, _, run_id = run.partition("/")
    dag_run = SimpleNamespace(
        dag_id=dag_id, run_id=run_id, conf={}, triggering_user_name="ada", run_type="manual"
    )
    ti = SimpleNamespace(task_id="step", xcom_push=lambda key, value: None)
    return {
        "dag_run": dag_run,
        "run_id": run_id,
        "ti": ti,
        "outlet_events": Told(),
        "dag": SimpleNamespace(params={}),
    }


def scale(stage: Stage, run: str, **asked: Any) -> None:
    """A run of scale_endpoint, with what its steps between wait for."""
    run = f"scale_endpoint/{run}"
    begin = BeginScaleOperator(task_id="begin", endpoint="ramp", **asked)
    reference = begin.execute(context(run))
    place = {"namespace": stage.namespace, "endpoint_object": "ramp"}
    assert lease.acquire(stage.cluster, **place, holder=run, seconds=600) is not None
    try:
        ScaleOperator(task_id="scale", release=reference, finished=True).execute(context(run))
    except DownstreamTasksSkipped:
        pass
    except AirflowFailException:
        with suppress(AirflowFailException):
            FinishScaleOperator(task_id="finish", release=reference).execute(context(run))
        raise
    else:
        release = stage.history.get(int(reference["release"]))
        assert stage.wait(release) == ""
        stage.history.record_probe(release.id, through="published", result=PROBED)
    FinishScaleOperator(task_id="finish", release=reference).execute(context(run))


def replicas(stage: Stage) -> list[int]:
    """Of each workload that stands."""
    return [one.replicas for one in stage.standing().workloads]


def until(what: Callable[[], bool]) -> None:
    """Wait for the controller."""
    deadline = time.monotonic() + SYNC_SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(1)


def limits(cluster: Cluster, namespace: str) -> tuple[int, int] | None:
    """Of the endpoint's autoscaler, and what it scales."""
    found = cluster.get(
        api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", namespace=namespace, name="ramp"
    )
    return (found["spec"]["minReplicas"], found["spec"]["maxReplicas"]) if found else None


def roll_back(stage: Stage, to: Release) -> Release:
    """A run of rollback_endpoint."""
    stage.runs += 1
    run = f"rollback_endpoint/{stage.runs}"
    reference = RollbackOperator(task_id="resolve", endpoint="ramp", to=str(to.number)).execute(context(run))
    place = {"namespace": stage.namespace, "endpoint_object": "ramp"}
    fencing = lease.acquire(stage.cluster, **place, holder=run, seconds=900)
    assert fencing is not None
    release = stage.history.set_fencing(int(reference["release"]), fencing)
    stage.apply(release)
    assert stage.wait(release) == ""
    stage.publish(release)
    stage.history.record_probe(release.id, through="published", result=PROBED)
    stage.record(release)
    return stage.history.get(release.id)


def test_what_an_autoscaler_set_is_kept_by_releases_that_come_after(
    by_load: Stage, administrator: Cluster
) -> None:
    stage, cluster = by_load, by_load.cluster
    first = stage.deploy("one")
    assert (replicas(stage), limits(cluster, stage.namespace)) == ([1], (1, 2))
    [workload] = stage.standing().workloads

    scale(stage, "more", autoscaling="on", minimum=2)
    administrator.scale(workload.ref, replicas=1)  # by somebody who does not know of the autoscaler

    until(lambda: replicas(stage) == [2])
    strategies: tuple[Strategy, ...] = ("recreate", "blue-green")
    for strategy in strategies:
        release = stage.deploy(f"version-{strategy}", strategy=strategy)
        assert (release.status, replicas(stage)) == ("good", [2]), strategy
        assert limits(cluster, stage.namespace) == (2, 2), "what was chosen by hand stays too"
    back = roll_back(stage, first)
    assert (back.status, back.objects, replicas(stage)) == ("good", first.objects, [2])
    assert limits(cluster, stage.namespace) == (2, 2)

    with pytest.raises(AirflowFailException, match="Turn it off in the same run"):
        scale(stage, "a number", replicas="1")
    scale(stage, "off", autoscaling="off", replicas="1")
    assert (replicas(stage), limits(cluster, stage.namespace)) == ([1], None)
    again = stage.deploy("again", strategy="recreate")
    assert (again.status, replicas(stage), limits(cluster, stage.namespace)) == ("good", [1], None)


@pytest.mark.full
def test_an_endpoint_is_stopped_and_comes_back_with_its_autoscaler(by_load: Stage) -> None:
    stage = by_load
    release = stage.deploy("one")

    scale(stage, "stop", autoscaling="off", replicas="0")
    until(lambda: not stage.pods())
    scale(stage, "back", autoscaling="on")

    assert (replicas(stage), limits(stage.cluster, stage.namespace)) == ([1], (1, 2))
    assert list(stage.pods().values()) == [release.label]
