"""How a release takes the place of another: by the strategy asked for, or the best that there is room for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from slipway.catalog.names import RELEASE_LABEL
from slipway.checks.capacity import check_capacity
from slipway.checks.findings import Finding
from slipway.checks.plan import subject_of
from slipway.checks.view import View
from slipway.cluster.controllers import look
from slipway.manifests.render import Rendered
from slipway.operators.deploy_steps import ApplyOperator, PublishOperator, WaitOperator, WorkloadTrigger
from slipway.operators.draining import PodsGoneTrigger
from slipway.operators.reconcile import FindGoneOperator, ReconcileOperator
from slipway.operators.record import RecordOperator
from slipway.operators.remove import BeginRemoveOperator, FinishRemoveOperator, RemoveOperator
from slipway.operators.resolve import ResolveOperator
from slipway.operators.rollback import RollbackOperator
from slipway.operators.steps import plan_of
from slipway.releases.records import Release
from tests.unit.life_api import ENDPOINT, NAMESPACE, PROBED, Life, Objects, make_life, reference

BLUE, GREEN = ENDPOINT, f"{ENDPOINT}-green"
FIRST, SECOND, THIRD = "deploy_endpoint/1", "redeploy_endpoint/2", "redeploy_endpoint/3"


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    """An endpoint whose first release serves, and room for three more of it."""
    life = make_life(monkeypatch, tmp_path)
    life.good(FIRST)
    return life


def resolve(life: Life, run: str = SECOND, *, strategy: str = "", seqs: int | None = 4) -> Release:
    overrides = json.dumps({"args": [f"--max-num-seqs={seqs}"]} if seqs else {})
    operator = ResolveOperator(
        task_id="resolve", endpoint=ENDPOINT, overrides=overrides, strategy=strategy, again=True
    )
    return life.history.get(operator.execute(life.context(run))["release"])  # type: ignore[call-overload]


def apply(life: Life, release: Release) -> None:
    life.lock(release)
    ApplyOperator(task_id="apply", release=reference(release)).execute(life.context(release.run_id))


def publish(life: Life, release: Release) -> None:
    life.history.record_probe(release.id, through="release", result=PROBED)
    PublishOperator(task_id="publish", release=reference(release)).execute(life.context(release.run_id))


def record(life: Life, release: Release) -> None:
    """The last step to its end: pods that drain are gone when it is asked again."""
    operator = RecordOperator(task_id="record", release=reference(release))
    try:
        operator.execute(life.context(release.run_id))
    except TaskDeferred as deferred:
        assert isinstance(deferred.trigger, PodsGoneTrigger)
        assert deferred.trigger.but_release == release.label
        assert life.holder() == release.run_id, "nobody else begins while the old pods have their cards"
        operator.drained(life.context(release.run_id), {"left": []})


def prove(life: Life, release: Release) -> None:
    """From published to good."""
    publish(life, release)
    life.history.record_probe(release.id, through="published", result=PROBED)
    record(life, release)


def fail(life: Life, release: Release) -> str:
    life.history.note_failure(release.id, "wait: it crashed")
    with pytest.raises(AirflowFailException) as failed:
        RecordOperator(task_id="record", release=reference(release)).execute(life.context(release.run_id))
    return str(failed.value)


def workloads(life: Life) -> dict[str, str]:
    """The release label of each workload by its name."""
    standing = look(life.api.cluster(), namespace=NAMESPACE, endpoint=ENDPOINT)
    return {one.ref.name: str(one.release) for one in standing.workloads}


def selected(life: Life) -> str | None:
    """The release that clients' requests go to."""
    return look(life.api.cluster(), namespace=NAMESPACE, endpoint=ENDPOINT).published


def live(life: Life, name: str) -> Objects:
    found = life.api.found("statefulsets", name)
    assert found is not None
    return found


def scale(life: Life, replicas: int, *, name: str = BLUE) -> None:
    live(life, name)["spec"]["replicas"] = replicas


# -- which strategy
# ----------------------------------------------------------------------------------------------------

CHOICES = {
    "a second one fits": (2, 1, "blue-green", "room for 1 of 1 pod beside"),
    "one is all that fits": (1, 1, "recreate", "an outage"),
    "all three fit a second time": (6, 3, "blue-green", "room for 3 of 3 pods beside"),
    "not all three": (5, 3, "rolling", "room for 2 of 3 pods beside"),
    "nothing serves": (4, 0, "recreate", "nothing serves"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_the_strategy_is_the_best_that_there_is_room_for(life: Life, case: str) -> None:
    pods, serving, strategy, reason = CHOICES[case]
    life.api.room_for(pods=pods)
    scale(life, serving)
    serve(life, serving)

    rollout = resolve(life).plan["rollout"]

    assert (rollout["strategy"], reason in rollout["reason"]) == (strategy, True), rollout


def serve(life: Life, pods: int, *, release: str | None = None) -> None:
    """Pods that serve on the only node."""
    for number in range(pods):
        good = life.history.last_good(ENDPOINT)
        label = release or (good.label if good else "")
        name = f"{ENDPOINT}-{release or ''}{number}"
        life.api.objects[f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"] = {
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "uid": name,
                "labels": {"slipway.io/endpoint": ENDPOINT, "slipway.io/release": label},
            },
            "spec": {
                "nodeName": "one",
                "containers": [{"resources": {"requests": {"cpu": "250m", "memory": "3Gi"}}}],
            },
        }


def test_pods_of_a_release_that_failed_take_no_room(life: Life) -> None:
    life.api.room_for(pods=2)
    serve(life, 1)
    serve(life, 1, release="bad")

    assert resolve(life).plan["rollout"]["strategy"] == "blue-green"


def test_a_person_says_which(life: Life) -> None:
    rollout = resolve(life, strategy="recreate").plan["rollout"]

    assert (rollout["strategy"], rollout["reason"]) == ("recreate", "the run says so")


def test_a_canary_without_a_route_is_refused_before_there_is_a_release(life: Life) -> None:
    with pytest.raises(AirflowFailException, match=r"a canary needs a route.*exposure\.route"):
        resolve(life, strategy="canary")

    assert len(life.history.list()) == 1


def test_a_second_one_that_does_not_fit_is_found_before_anything_changes(life: Life) -> None:
    life.api.room_for(pods=1)
    serve(life, 1)
    found = {
        strategy: check(life, resolve(life, f"redeploy_endpoint/{strategy}", strategy=strategy))
        for strategy in ("blue-green", "recreate")
    }

    assert (found["blue-green"].severity, found["recreate"].severity) == ("blocking", "ok")
    assert "room for 0 of 1" in found["blue-green"].reason


def check(life: Life, release: Release) -> Finding:
    subject = subject_of(plan_of(release), Rendered.from_bytes(release.objects))
    [found] = check_capacity(View(cluster=life.api.cluster()), subject)
    return found


# -- blue-green
# ----------------------------------------------------------------------------------------------------


def test_the_one_that_serves_is_not_touched_until_the_other_is_proven(life: Life) -> None:
    first, before = life.history.last_good(ENDPOINT), dict(live(life, BLUE)["metadata"])
    assert first is not None
    second = resolve(life)
    apply(life, second)

    assert workloads(life) == {BLUE: first.label, GREEN: second.label}
    assert live(life, BLUE)["metadata"] == before and selected(life) == first.label
    publish(life, second)
    assert workloads(life) == {BLUE: first.label, GREEN: second.label} and selected(life) == second.label
    life.history.record_probe(second.id, through="published", result=PROBED)
    record(life, second)
    assert workloads(life) == {GREEN: second.label}
    assert life.holder() is None


def test_a_release_whose_pods_are_there_already_is_not_waited_for_in_the_triggerer(life: Life) -> None:
    release = resolve(life, seqs=None)
    apply(life, release)
    operator = WaitOperator(task_id="wait", release=reference(release))
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(life.context(release.run_id))
    assert isinstance(deferred.value.trigger, WorkloadTrigger)
    assert deferred.value.trigger.target.release == release.label

    make_ready(life, release)
    assert operator.execute(life.context(release.run_id)) is None


def make_ready(life: Life, release: Release) -> None:
    """What the controller says of a workload that is done, and its pod."""
    workload = live(life, BLUE)
    done = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
    workload["status"] = {**done, "currentRevision": "one", "updateRevision": "one"}
    labels = workload["spec"]["template"]["metadata"]["labels"]
    conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Ready")]
    made = life.api.now.strftime("%Y-%m-%dT%H:%M:%SZ")
    life.api.objects[f"/api/v1/namespaces/{NAMESPACE}/pods/{BLUE}-0"] = {
        "metadata": {"name": f"{BLUE}-0", "labels": labels, "creationTimestamp": made},
        "spec": {"containers": []},
        "status": {"phase": "Running", "conditions": conditions},
    }
    assert labels[RELEASE_LABEL] == release.label


def test_colours_alternate(life: Life) -> None:
    for number, names in enumerate([GREEN, BLUE, GREEN], start=2):
        release = resolve(life, f"redeploy_endpoint/{number}", seqs=number)
        apply(life, release)
        prove(life, release)
        assert workloads(life) == {names: release.label}


def test_a_second_workload_begins_with_as_many_replicas_as_the_first_was_scaled_to(life: Life) -> None:
    scale(life, 3)

    apply(life, resolve(life, strategy="blue-green"))

    assert live(life, GREEN)["spec"]["replicas"] == live(life, BLUE)["spec"]["replicas"] == 3


def test_an_endpoint_that_is_stopped_has_nothing_to_keep_up(life: Life) -> None:
    scale(life, 0)
    second = resolve(life, strategy="blue-green")
    apply(life, second)

    assert workloads(life) == {BLUE: second.label}
    assert live(life, BLUE)["spec"]["replicas"] == 1


def test_an_unchanged_plan_restarts_nothing_in_either_colour(life: Life) -> None:
    green = resolve(life)
    apply(life, green)
    prove(life, green)
    before = live(life, GREEN)
    pods = json.dumps(before["spec"]["template"], sort_keys=True)

    same = resolve(life, THIRD, strategy="blue-green", seqs=4)
    apply(life, same)
    prove(life, same)

    assert workloads(life) == {GREEN: green.label}
    after = live(life, GREEN)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert json.dumps(after["spec"]["template"], sort_keys=True) == pods


def test_what_changed_nothing_when_it_resolved_may_have_to_replace_what_came_before_it(life: Life) -> None:
    second, as_before = resolve(life), resolve(life, THIRD, seqs=None)
    apply(life, second)
    prove(life, second)

    apply(life, as_before)

    assert workloads(life) == {GREEN: second.label, BLUE: as_before.label}
    assert selected(life) == second.label


def test_what_fails_before_requests_go_to_it_is_removed_with_its_evidence_kept(
    life: Life, tmp_path: Path
) -> None:
    first, before = life.history.last_good(ENDPOINT), dict(live(life, BLUE)["metadata"])
    assert first is not None
    second = resolve(life)
    apply(life, second)

    line = fail(life, second)

    assert line == "release 2 failed; release 1 was not touched and serves: wait: it crashed"
    assert workloads(life) == {BLUE: first.label} and selected(life) == first.label
    assert live(life, BLUE)["metadata"] == before
    assert life.api.found("services", f"{ENDPOINT}-r-{second.label[:8]}") is None
    evidence = json.loads((tmp_path / "artifacts" / "evidence" / ENDPOINT / "2.json").read_text())
    assert GREEN in {one["metadata"]["name"] for one in evidence["workloads"]}
    assert life.history.get(second.id).status == "failed" and life.holder() is None


def test_what_fails_after_requests_went_to_it_gives_them_back_and_the_other_is_asked(life: Life) -> None:
    first, before = life.history.last_good(ENDPOINT), live(life, BLUE)
    assert first is not None
    second = resolve(life)
    apply(life, second)
    publish(life, second)
    step = RecordOperator(task_id="record", release=reference(second))

    with pytest.raises(TaskDeferred) as waiting:
        step.execute(life.context(SECOND))

    assert selected(life) == first.label, "at once: it still stands"
    assert (waiting.value.trigger.name, waiting.value.trigger.release) == (BLUE, first.label)
    assert live(life, BLUE)["spec"]["template"] == before["spec"]["template"]
    deferred, event = waiting.value, {"state": "available", "what": "1 of 1 pod ready"}
    for _ in range(2):
        with pytest.raises(TaskDeferred) as again:
            getattr(step, deferred.method_name)(life.context(SECOND), event=event, **deferred.kwargs)
        deferred, event = again.value, {"name": again.value.trigger.name}
    with pytest.raises(AirflowFailException, match="release 1 serves again"):
        getattr(step, deferred.method_name)(life.context(SECOND), event=event, **deferred.kwargs)
    assert workloads(life) == {BLUE: first.label}


def test_a_rollback_to_a_release_of_the_same_colour_comes_up_beside_the_one_that_serves(life: Life) -> None:
    first = life.history.last_good(ENDPOINT)
    assert first is not None
    for number in (2, 3):  # green, and blue again
        release = resolve(life, f"redeploy_endpoint/{number}", seqs=number)
        apply(life, release)
        prove(life, release)
    assert workloads(life) == {BLUE: release.label}

    operator = RollbackOperator(task_id="resolve", endpoint=ENDPOINT, to=1, reason="slow")
    back = life.history.get(operator.execute(life.context("rollback_endpoint/4"))["release"])  # type: ignore[call-overload]
    apply(life, back)

    assert back.objects == first.objects
    assert workloads(life) == {BLUE: release.label, GREEN: first.label}
    prove(life, back)
    assert workloads(life) == {GREEN: first.label}


# -- runs that die
# ----------------------------------------------------------------------------------------------------


def reconcile(life: Life) -> None:
    context = life.context("probe_endpoints/now")
    for found in FindGoneOperator(task_id="find_gone").execute(context):  # type: ignore[attr-defined]
        step = ReconcileOperator(task_id="reconcile", release=found)
        try:
            step.execute(context)
        except TaskDeferred as deferred:
            if isinstance(deferred.trigger, PodsGoneTrigger):
                step.drained(context, {"left": []})
                return
            event: dict[str, Any] = {"state": "available", "what": "1 of 1 pod ready"}
            while True:
                try:
                    getattr(step, deferred.method_name)(context, event=event, **(deferred.kwargs or {}))
                    return
                except TaskDeferred as again:
                    deferred, event = again, {"name": again.trigger.name}


DEATHS = {
    "after its apply": (False, False, BLUE),
    "after requests went to it": (True, False, BLUE),
    "after it was proven": (True, True, GREEN),
}


@pytest.mark.parametrize("case", DEATHS)
def test_what_a_dead_run_left_is_finished_or_removed(life: Life, case: str) -> None:
    published, proven, left = DEATHS[case]
    first, second = life.history.last_good(ENDPOINT), resolve(life)
    assert first is not None
    apply(life, second)
    if published:
        publish(life, second)
    if proven:
        life.history.record_probe(second.id, through="published", result=PROBED)
    life.runs[SECOND] = "failed"

    reconcile(life)

    wanted = second if proven else first
    assert workloads(life) == {left: wanted.label} and selected(life) == wanted.label
    assert life.history.last_good(ENDPOINT) == life.history.get(wanted.id)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("strategy", ["blue-green", "recreate"])
def test_the_next_run_finds_two_and_leaves_one(life: Life, published: bool, strategy: str) -> None:
    first, dead = life.history.last_good(ENDPOINT), resolve(life)
    assert first is not None
    apply(life, dead)
    if published:
        publish(life, dead)
    life.api.later(7200)

    third = resolve(life, THIRD, strategy=strategy, seqs=3)
    apply(life, third)

    assert dead.label not in workloads(life).values()
    assert selected(life) == first.label
    beside = {BLUE: first.label, GREEN: third.label}
    assert workloads(life) == (beside if strategy == "blue-green" else {BLUE: third.label})
    prove(life, third)
    assert list(workloads(life).values()) == [third.label]


def test_a_repeated_apply_changes_nothing_more(life: Life) -> None:
    second = resolve(life)
    apply(life, second)
    before = workloads(life)

    apply(life, second)

    assert workloads(life) == before


def test_removal_takes_both(life: Life) -> None:
    apply(life, resolve(life))
    life.api.later(7200)
    context = life.context("remove_endpoint/x")
    begun = BeginRemoveOperator(task_id="begin", endpoint=ENDPOINT, confirm=ENDPOINT).execute(context)
    release = life.history.get(begun["release"])
    life.lock(release.model_copy(update={"run_id": "remove_endpoint/x"}))
    assert len(workloads(life)) == 2

    with pytest.raises(TaskDeferred):
        RemoveOperator(task_id="remove", release=begun, finished=None).execute(context)

    assert workloads(life) == {}
    FinishRemoveOperator(task_id="finish", release=begun).execute(context)


# -- in place
# ----------------------------------------------------------------------------------------------------


def test_recreate_ends_all_old_pods_at_once(life: Life) -> None:
    scale(life, 2)
    serve(life, 2)
    second = resolve(life, strategy="recreate")
    apply(life, second)

    assert workloads(life) == {BLUE: second.label}
    assert not [path for path in life.api.objects if "/pods/" in path]


def test_while_replicas_change_one_after_another_clients_reach_both_releases(life: Life) -> None:
    scale(life, 2)
    serve(life, 2)
    second = resolve(life, strategy="rolling")
    apply(life, second)

    assert workloads(life) == {BLUE: second.label} and selected(life) is None
    assert len([path for path in life.api.objects if "/pods/" in path]) == 2
    prove(life, second)
    assert selected(life) == second.label


def test_a_rolling_change_that_fails_leads_clients_back(life: Life) -> None:
    first = life.history.last_good(ENDPOINT)
    assert first is not None
    second = resolve(life, strategy="rolling")
    apply(life, second)
    life.history.note_failure(second.id, "wait: it crashed")

    with pytest.raises(TaskDeferred) as waiting:
        RecordOperator(task_id="record", release=reference(second)).execute(life.context(SECOND))

    assert waiting.value.trigger.release == first.label
    assert workloads(life) == {BLUE: first.label} and selected(life) == first.label
