"""Removing an endpoint: confirmed, complete, and without other people's things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from slipway.cluster import lease
from slipway.operators.lock import LockOperator
from slipway.operators.remove import BeginRemoveOperator, FinishRemoveOperator, RemoveOperator
from slipway.releases.inventory import inventory_object
from tests.unit.life_api import ENDPOINT, NAMESPACE, Life, make_life

RUN = "remove_endpoint/x"
CLAIM = f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/qwen3-tiny-weights"
OTHERS = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "somebody", "namespace": NAMESPACE, "labels": {"app": "theirs"}},
}


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    """An endpoint with a good release, a failed one before it, and somebody else's Service beside it."""
    life = make_life(monkeypatch, tmp_path)
    failed = life.pend("deploy_endpoint/0", args=["--max-num-seqs=2"])
    life.apply(failed)
    life.history.mark_failed(failed.id, failure="it crashed")
    life.api.cluster().apply(inventory_object(life.good("deploy_endpoint/1")))
    life.api.cluster().apply(OTHERS)
    return life


def begin(life: Life, *, confirm: str = ENDPOINT, weights: bool = False, run: str = RUN) -> dict[str, Any]:
    operator = BeginRemoveOperator(
        task_id="begin", endpoint=ENDPOINT, confirm=confirm, weights=str(weights), reason="old"
    )
    return operator.execute(life.context(run))


def remove(life: Life, reference: dict[str, Any]) -> None:
    lease.acquire(life.api.cluster(), namespace=NAMESPACE, endpoint_object=ENDPOINT, holder=RUN, seconds=600)
    RemoveOperator(task_id="remove", release=reference, finished=None).execute(life.context(RUN))


def finish(life: Life, reference: dict[str, Any]) -> None:
    FinishRemoveOperator(task_id="finish", release=reference).execute(life.context(RUN))


def left(life: Life) -> set[str]:
    """Kind and name of what is there, without the lock."""
    return {"/".join(path.split("/")[-2:]) for path in life.api.objects if "/leases/" not in path}


def test_nothing_is_left_behind_but_the_weights_and_what_is_not_ours(life: Life) -> None:
    reference = begin(life)

    with pytest.raises(TaskDeferred) as deferred:
        remove(life, reference)

    assert deferred.value.trigger.endpoint_object == ENDPOINT
    finish(life, reference)
    assert left(life) == {"persistentvolumeclaims/qwen3-tiny-weights", "services/somebody"}
    assert life.history.last_good(ENDPOINT) is None
    assert [release.status for release in life.history.list()] == ["superseded", "failed"]
    assert life.history.changes(ENDPOINT)[0].status == "done"
    assert life.holder() is None


def test_pods_of_steps_whose_runs_are_gone_do_not_stay(life: Life) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{ENDPOINT}-probe-release"
    labels = {"slipway.io/endpoint": ENDPOINT, "app.kubernetes.io/component": "probe-release"}
    metadata = {"name": f"{ENDPOINT}-probe-release", "namespace": NAMESPACE, "labels": labels, "uid": "1"}
    life.api.objects[path] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}
    reference = begin(life)

    with pytest.raises(
        AirflowFailException, match=f"left behind: .*Pod {NAMESPACE}/{ENDPOINT}-probe-release"
    ):
        finish(life, reference)
    with pytest.raises(TaskDeferred):
        remove(life, reference)

    assert path not in life.api.objects


def test_an_endpoint_whose_namespace_is_gone_can_be_removed(life: Life) -> None:
    reference = begin(life)
    life.api.delete_namespace(NAMESPACE)

    LockOperator(task_id="lock", release=reference, finished=None).execute(life.context(RUN))
    RemoveOperator(task_id="remove", release=reference, finished=None).execute(life.context(RUN))
    finish(life, reference)

    assert life.history.last_good(ENDPOINT) is None
    assert life.history.changes(ENDPOINT)[0].status == "done"


def test_publication_goes_before_what_serves(life: Life) -> None:
    with pytest.raises(TaskDeferred):
        remove(life, begin(life))

    deleted = ["/".join(write.split("/")[-2:]) for write in life.api.writes if write.startswith("DELETE")]
    assert deleted[0] == f"services/{ENDPOINT}"
    assert f"statefulsets/{ENDPOINT}" in deleted[1:]


@pytest.mark.parametrize("confirm", ["", "qwen3", "QWEN3-TINY"])
def test_a_name_that_was_not_typed_removes_nothing(life: Life, confirm: str) -> None:
    before = left(life)

    with pytest.raises(AirflowFailException, match="not confirmed"):
        begin(life, confirm=confirm)

    assert left(life) == before and not life.history.changes(ENDPOINT)


def test_the_weights_go_when_they_are_asked_for(life: Life) -> None:
    reference = begin(life, weights=True)

    with pytest.raises(TaskDeferred):
        remove(life, reference)

    assert CLAIM not in life.api.objects


def another_release(life: Life) -> None:
    other = life.history.last_good(ENDPOINT)
    assert other is not None
    values = other.model_dump(
        include={
            "cluster",
            "namespace",
            "overrides",
            "objects",
            "digest",
            "label",
            "images",
            "weights_source",
        }
    )
    life.history.create_pending(
        endpoint="another", run_id="deploy_endpoint/a", plan={**other.plan, "endpoint": "another"}, **values
    )


def another_workload(life: Life) -> None:
    volume = {"name": "w", "persistentVolumeClaim": {"claimName": "qwen3-tiny-weights"}}
    life.api.cluster().apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "another", "namespace": NAMESPACE, "labels": {}},
            "spec": {"replicas": 0, "template": {"spec": {"volumes": [volume]}}},
        }
    )


@pytest.mark.parametrize("other", [another_release, another_workload])
def test_weights_that_another_needs_stay_and_nothing_else_goes_either(life: Life, other: Any) -> None:
    other(life)
    before = left(life)

    with pytest.raises(AirflowFailException, match=r"another endpoint's too.*another"):
        remove(life, begin(life, weights=True))

    assert left(life) == before


def test_what_is_left_behind_is_named_and_the_release_still_counts_as_serving(life: Life) -> None:
    reference = begin(life)
    lease.acquire(life.api.cluster(), namespace=NAMESPACE, endpoint_object=ENDPOINT, holder=RUN, seconds=600)

    with pytest.raises(AirflowFailException, match=r"left behind: .*StatefulSet models/qwen3-tiny"):
        finish(life, reference)

    assert life.history.last_good(ENDPOINT) is not None and life.holder() is None


def test_a_first_release_that_failed_can_be_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    life = make_life(monkeypatch, tmp_path)
    failed = life.pend("deploy_endpoint/0")
    life.apply(failed)
    life.history.mark_failed(failed.id, failure="it crashed")
    reference = begin(life)

    with pytest.raises(TaskDeferred):
        remove(life, reference)

    finish(life, reference)
    assert left(life) == {"persistentvolumeclaims/qwen3-tiny-weights"}
