"""Scaling by hand: recorded, kept, proven, and refused where an autoscaler does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped
from life_api import ENDPOINT, NAMESPACE, PROBED, Life, make_life

from slipway.cluster import lease
from slipway.operators.scale import BeginScaleOperator, FinishScaleOperator, ScaleOperator

RUN = "scale_endpoint/s"
HPA = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "mine", "namespace": NAMESPACE},
    "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": ENDPOINT}},
}


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    return make_life(monkeypatch, tmp_path)


def begin(life: Life, replicas: Any) -> dict[str, Any]:
    operator = BeginScaleOperator(task_id="begin", endpoint=ENDPOINT, replicas=str(replicas), reason="night")
    return operator.execute(life.context(RUN))


def scale(life: Life, reference: dict[str, Any]) -> None:
    lease.acquire(life.api.cluster(), namespace=NAMESPACE, endpoint_object=ENDPOINT, holder=RUN, seconds=600)
    ScaleOperator(task_id="scale", release=reference, finished=True).execute(life.context(RUN))


def finish(life: Life, reference: dict[str, Any]) -> None:
    FinishScaleOperator(task_id="finish", release=reference).execute(life.context(RUN))


def replicas(life: Life) -> Any:
    live = life.api.found("statefulsets", ENDPOINT)
    assert live
    return live["spec"]["replicas"]


def test_to_0_and_back_is_recorded_with_who_and_why(life: Life) -> None:
    life.good("deploy_endpoint/1")
    stop = begin(life, 0)

    with pytest.raises(DownstreamTasksSkipped) as skipped:
        scale(life, stop)

    assert skipped.value.tasks == ["wait", "probe_published"], "there is nothing to wait for and to ask"
    finish(life, stop)
    [change] = life.history.changes(ENDPOINT)
    assert (change.kind, change.status, change.detail) == ("scale", "done", {"to": 0})
    assert (change.reason, change.actor) == ("night", "ada")
    assert replicas(life) == 0 and life.holder() is None


def test_replicas_that_were_never_probed_are_no_success(life: Life) -> None:
    release = life.good("deploy_endpoint/1")
    more = begin(life, 2)
    scale(life, more)

    with pytest.raises(AirflowFailException, match="before the endpoint was probed"):
        finish(life, more)

    assert life.history.changes(ENDPOINT)[0].status == "failed"
    assert (life.holder(), replicas(life)) == (None, 2)
    assert life.history.last_good(ENDPOINT) == release


def test_a_later_deployment_keeps_what_was_scaled(life: Life) -> None:
    release = life.good("deploy_endpoint/1")
    more = begin(life, 3)
    scale(life, more)
    life.history.record_probe(release.id, through="published", result=PROBED)
    finish(life, more)

    life.good("deploy_endpoint/2", args=["--max-num-seqs=4"])

    assert replicas(life) == 3


def autoscaled_by_somebody(life: Life) -> None:
    life.api.objects[f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/mine"] = HPA


def autoscaled_before(life: Life) -> None:
    live = life.api.found("statefulsets", ENDPOINT)
    assert live
    live["metadata"]["managedFields"] = [{"manager": "kube-controller-manager", "subresource": "scale"}]


def may_not_list(life: Life) -> None:
    autoscaled_before(life)
    life.api.down = lambda method, path: 403 if path.endswith("/horizontalpodautoscalers") else None


@pytest.mark.parametrize("made", [autoscaled_by_somebody, autoscaled_before, may_not_list])
def test_an_autoscalers_replicas_are_not_touched(life: Life, made: Any) -> None:
    life.good("deploy_endpoint/1")
    made(life)
    more = begin(life, 2)

    with pytest.raises(AirflowFailException, match="an autoscaler sets the replicas"):
        scale(life, more)

    assert replicas(life) == 1
    [change] = life.history.changes(ENDPOINT)
    assert change.status == "failed" and "autoscaler" in (change.failure or "")


def test_nothing_that_serves_cannot_be_scaled(life: Life) -> None:
    with pytest.raises(AirflowFailException, match="nothing of the endpoint serves"):
        begin(life, 1)


def test_a_cleared_run_does_not_scale_again(life: Life) -> None:
    life.good("deploy_endpoint/1")
    stop = begin(life, 0)
    with pytest.raises(DownstreamTasksSkipped):
        scale(life, stop)
    finish(life, stop)

    with pytest.raises(AirflowFailException, match="done already"):
        begin(life, 0)
