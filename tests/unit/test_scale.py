"""Scaling by hand: recorded, kept, proven, and refused where an autoscaler does it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped, TaskDeferred

from slipway.catalog.read import read_catalog
from slipway.catalog.records import Autoscaling
from slipway.catalog.records.clusters import Monitoring
from slipway.cluster import lease
from slipway.manifests.render import Rendered
from slipway.operators.remove import BeginRemoveOperator, RemoveOperator
from slipway.operators.rollout import as_it_stands
from slipway.operators.scale import BeginScaleOperator, FinishScaleOperator, ScaleOperator
from slipway.operators.steps import plan_of
from tests.unit.life_api import ENDPOINT, NAMESPACE, PROBED, Life, make_life

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


def begin(life: Life, replicas: Any = "", *, run: str = RUN, **asked: Any) -> dict[str, Any]:
    operator = BeginScaleOperator(
        task_id="begin", endpoint=ENDPOINT, replicas=str(replicas), reason="night", **asked
    )
    return operator.execute(life.context(run))


def scale(life: Life, reference: dict[str, Any], *, run: str = RUN) -> None:
    lease.acquire(life.api.cluster(), namespace=NAMESPACE, endpoint_object=ENDPOINT, holder=run, seconds=600)
    ScaleOperator(task_id="scale", release=reference, finished=True).execute(life.context(run))


def finish(life: Life, reference: dict[str, Any], *, run: str = RUN) -> None:
    FinishScaleOperator(task_id="finish", release=reference).execute(life.context(run))


def whole(life: Life, run: str, **asked: Any) -> None:
    """A run from its first step to its last; the endpoint answers."""
    reference = begin(life, run=run, **asked)
    try:
        scale(life, reference, run=run)
    except DownstreamTasksSkipped:
        pass
    except AirflowFailException:
        with suppress(AirflowFailException):
            finish(life, reference, run=run)
        raise
    else:
        life.history.record_probe(reference["release"], through="published", result=PROBED)
    finish(life, reference, run=run)


@pytest.fixture
def by_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint's record has autoscaling, and its cluster collects the metrics."""
    catalog = read_catalog()
    rule = Autoscaling(by="hpa", minimum=2, maximum=4)
    record = catalog.endpoints[ENDPOINT].model_copy(update={"autoscaling": rule, "replicas": 2})
    collects = {"monitoring": Monitoring(metrics_adapter=True)}
    cluster = catalog.clusters["sandbox"].model_copy(update=collects)
    changed = replace(
        catalog,
        endpoints={**catalog.endpoints, ENDPOINT: record},
        clusters={**catalog.clusters, "sandbox": cluster},
    )
    monkeypatch.setattr("slipway.operators.autoscaling.read_catalog", lambda: changed)


def remove(life: Life) -> None:
    run = "remove_endpoint/1"
    operator = BeginRemoveOperator(task_id="begin", endpoint=ENDPOINT, confirm=ENDPOINT)
    reference = operator.execute(life.context(run))
    lease.acquire(life.api.cluster(), namespace=NAMESPACE, endpoint_object=ENDPOINT, holder=run, seconds=600)
    with pytest.raises(TaskDeferred):
        RemoveOperator(task_id="remove", release=reference, finished=None).execute(life.context(run))


def autoscaler(life: Life) -> Any:
    found = life.api.found("horizontalpodautoscalers", ENDPOINT)
    return found and found["spec"]


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


def keda_of_somebody(life: Life) -> None:
    keda = {"ownerReferences": [{"kind": "ScaledObject", "name": "mine"}], "name": "keda-hpa-mine"}
    autoscaled_by_somebody(life)
    life.api.objects[f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/mine"] = {
        **HPA,
        "metadata": {**HPA["metadata"], **keda},
    }


def written_before(life: Life) -> None:
    live = life.api.found("statefulsets", ENDPOINT)
    assert live
    live["metadata"]["managedFields"] = [{"manager": "kube-controller-manager", "subresource": "scale"}]


def may_not_list(life: Life) -> None:
    written_before(life)
    life.api.down = lambda method, path: 403 if "/horizontalpodautoscalers" in path else None


@pytest.mark.parametrize("asked", [{"replicas": 2}, {"autoscaling": "on"}, {"autoscaling": "off"}])
@pytest.mark.parametrize("made", [autoscaled_by_somebody, keda_of_somebody, may_not_list])
@pytest.mark.usefixtures("by_load")
def test_an_autoscalers_replicas_are_not_touched(life: Life, made: Any, asked: dict[str, Any]) -> None:
    life.good("deploy_endpoint/1")
    made(life)
    more = begin(life, **asked)

    with pytest.raises(AirflowFailException, match="an autoscaler sets the replicas"):
        scale(life, more)

    assert replicas(life) == 1
    [change] = life.history.changes(ENDPOINT)
    assert change.status == "failed" and "autoscaler" in (change.failure or "")


def test_an_autoscaler_that_is_gone_is_not_in_the_way(life: Life) -> None:
    life.good("deploy_endpoint/1")
    written_before(life)

    whole(life, RUN, replicas=3)

    assert replicas(life) == 3


CONTRADICTIONS = [
    ({}, "does not say how"),
    ({"replicas": 2, "autoscaling": "on"}, "cannot both set the replicas"),
    ({"replicas": 0, "minimum": 1}, "limits are an autoscaler's"),
    ({"autoscaling": "off", "maximum": 3}, "limits are an autoscaler's"),
    ({"autoscaling": "on", "minimum": 9}, "maximum is less than minimum"),
]


@pytest.mark.usefixtures("by_load")
@pytest.mark.parametrize(("asked", "why"), CONTRADICTIONS)
def test_what_contradicts_itself_is_refused_in_one_line(life: Life, asked: dict[str, Any], why: str) -> None:
    life.good("deploy_endpoint/1")

    with pytest.raises(AirflowFailException, match=why) as refused:
        begin(life, **asked)

    assert "\n" not in str(refused.value)
    assert life.history.changes(ENDPOINT) == []


def test_autoscaling_that_nobody_wrote_down_cannot_be_turned_on(life: Life) -> None:
    life.good("deploy_endpoint/1")

    with pytest.raises(AirflowFailException, match=rf"autoscaling into catalog/endpoints/{ENDPOINT}.yaml"):
        begin(life, autoscaling="on")


@pytest.mark.usefixtures("by_load")
def test_autoscaling_is_turned_on_and_off_and_later_releases_keep_it(life: Life) -> None:
    life.good("deploy_endpoint/1")

    whole(life, "scale_endpoint/on", autoscaling="on", maximum=3)

    assert replicas(life) == 2, "an autoscaler takes its time until it brings up the fewest"
    assert (autoscaler(life)["minReplicas"], autoscaler(life)["maxReplicas"]) == (2, 3)
    release = life.history.last_good(ENDPOINT)
    assert release
    expected = as_it_stands(life.api.cluster(), plan_of(release), Rendered.from_bytes(release.objects))
    assert [obj for obj in expected.stages["publication"] if obj["kind"] == HPA["kind"]]
    with pytest.raises(AirflowFailException, match="Turn it off in the same run"):
        whole(life, "scale_endpoint/number", replicas=1)

    whole(life, "scale_endpoint/off", autoscaling="off", replicas=1)

    assert (autoscaler(life), replicas(life)) == (None, 1)
    assert life.history.changes(ENDPOINT)[0].detail == {"to": 1, "autoscaling": "off"}
    whole(life, "scale_endpoint/number2", replicas=2)


FINALIZER = "finalizer.keda.sh"


def held(life: Life) -> dict[str, Any]:
    """The endpoint's autoscaler with the finalizer of a controller, which lets go of it in its own time."""
    found = life.api.found("horizontalpodautoscalers", ENDPOINT)
    assert found
    found["metadata"]["finalizers"] = [FINALIZER]
    return found


@pytest.mark.usefixtures("by_load")
def test_nothing_is_scaled_until_the_autoscaler_is_gone(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    life.good("deploy_endpoint/1")
    whole(life, "scale_endpoint/on", autoscaling="on")
    autoscaler = held(life)
    seen: list[int] = []

    def let_go(_: float) -> None:
        seen.append(replicas(life))
        life.api.objects = {path: obj for path, obj in life.api.objects.items() if obj is not autoscaler}

    monkeypatch.setattr("slipway.operators.autoscaling.time.sleep", let_go)
    whole(life, "scale_endpoint/off", autoscaling="off", replicas=1)

    assert (seen, replicas(life)) == ([2], 1)


@pytest.mark.usefixtures("by_load")
def test_an_autoscaler_that_nobody_lets_go_of_is_named_and_nothing_is_scaled(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    life.good("deploy_endpoint/1")
    whole(life, "scale_endpoint/on", autoscaling="on")
    held(life)
    monkeypatch.setattr("slipway.operators.autoscaling.GONE_SECONDS", 0)

    with pytest.raises(AirflowFailException, match=f"the autoscaler does not go.*{FINALIZER}.*keda-operator"):
        whole(life, "scale_endpoint/off", autoscaling="off", replicas=1)

    assert replicas(life) == 2
    [change, *_] = life.history.changes(ENDPOINT)
    assert change.status == "failed" and "does not go" in (change.failure or "")


@pytest.mark.usefixtures("by_load")
def test_what_is_stopped_comes_back_with_its_autoscaler(life: Life) -> None:
    life.good("deploy_endpoint/1")
    whole(life, "scale_endpoint/on", autoscaling="on")
    whole(life, "scale_endpoint/stop", autoscaling="off", replicas=0)

    whole(life, "scale_endpoint/back", autoscaling="on")

    assert (replicas(life), autoscaler(life)["maxReplicas"]) == (2, 4)


@pytest.mark.usefixtures("by_load")
def test_an_autoscaler_that_no_release_asked_for_goes_with_the_endpoint(life: Life) -> None:
    life.good("deploy_endpoint/1")
    whole(life, "scale_endpoint/on", autoscaling="on")

    remove(life)

    assert autoscaler(life) is None


@pytest.mark.parametrize("written", ["on", "{}", '{"rule": 3}'])
def test_a_choice_that_somebody_garbled_is_one_line_and_changes_nothing(life: Life, written: str) -> None:
    life.good("deploy_endpoint/1")
    service = life.api.found("services", ENDPOINT)
    assert service
    service["metadata"]["annotations"] = {"slipway.io/autoscaling": written}
    more = begin(life, 2)

    with pytest.raises(AirflowFailException, match=r"slipway.io/autoscaling cannot be read"):
        scale(life, more)

    assert replicas(life) == 1


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
