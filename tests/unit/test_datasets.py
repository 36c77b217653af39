"""What is said of data sets that an operator fills, from their status alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.cluster.datasets import UNTOUCHED_SECONDS, judge_datasets
from slipway.cluster.objects import Object, Ref, ref_of
from slipway.cluster.verdict import Verdict
from slipway.errors import WeightsError
from slipway.operators.datasets import DatasetTrigger, what_became

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BAIZE, FLUID = "dataset.baizeai.io/v1alpha1", "data.fluid.io/v1alpha1"


def bad(message: str, reason: str = "Broken") -> dict[str, Any]:
    """A condition that something is not as it should be."""
    time = "2026-11-21T11:00:00Z"
    return {
        "type": "Ready",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": time,
    }


def dataset(status: Object | None, *, api: str = BAIZE, kind: str = "Dataset", **spec: Any) -> Object:
    """A data set as a server would have it, made a minute ago."""
    made = (NOW - timedelta(seconds=60)).isoformat()
    metadata = {"name": "llm", "namespace": "models", "creationTimestamp": made}
    found = {"apiVersion": api, "kind": kind, "metadata": metadata, "spec": spec}
    return found if status is None else {**found, "status": status}


def judged(*objects: Object, now: datetime = NOW) -> Verdict:
    refs = [ref_of(obj) for obj in objects]
    return judge_datasets(refs, dict(zip(refs, objects, strict=True)), now=now)


READY = {"masterPhase": "Ready", "workerPhase": "Ready"}
ROUNDS = [
    {"round": 1, "jobName": "dataset-llm-round-1", "endTime": "t", "succeed": True},
    {"round": 2, "jobName": "dataset-llm-round-2", "endTime": "t", "succeed": False},
]

STATES: list[tuple[str, Object, str, str]] = [
    ("nobody looked yet", dataset(None), "progressing", "is new"),
    ("waiting", dataset({"phase": "PENDING"}), "progressing", "is PENDING"),
    ("loading", dataset({"phase": "PROCESSING"}), "progressing", "is PROCESSING"),
    ("loaded", dataset({"phase": "READY"}), "available", "has the weights"),
    (
        "loaded, but an earlier round",
        dataset({"phase": "READY", "lastSucceedRound": 1}, dataSyncRound=2),
        "progressing",
        "synced round 1 of 2",
    ),
    (
        "the round that is wanted",
        dataset({"phase": "READY", "lastSucceedRound": 2}, dataSyncRound=2),
        "available",
        "has the weights",
    ),
    (
        "the loader failed",
        dataset({"phase": "FAILED", "conditions": [bad("repo not found")], "syncRoundStatuses": ROUNDS}),
        "doomed",
        "repo not found. Read the loader's log: kubectl -n models logs job/dataset-llm-round-2",
    ),
    ("failed without a word", dataset({"phase": "FAILED"}), "doomed", "its controller gives no reason"),
    ("not bound", dataset({"phase": "NotBound"}, api=FLUID), "progressing", "is NotBound"),
    ("bound", dataset({"phase": "Bound"}, api=FLUID), "available", "has the weights"),
    (
        "mount failed",
        dataset({"phase": "Failed", "conditions": [bad("bucket is private", "MountFailed")]}, api=FLUID),
        "doomed",
        "MountFailed: bucket is private",
    ),
    (
        "workers late",
        dataset({**READY, "workerPhase": "PartialReady"}, api=FLUID, kind="JindoRuntime"),
        "progressing",
        "worker PartialReady",
    ),
    ("runtime ready", dataset(READY, api=FLUID, kind="JindoRuntime"), "available", "has the weights"),
    (
        "loading into the cache",
        dataset({"phase": "Executing"}, api=FLUID, kind="DataLoad"),
        "progressing",
        "DataLoad llm is Executing",
    ),
    ("cached", dataset({"phase": "Complete"}, api=FLUID, kind="DataLoad"), "available", "has the weights"),
    (
        "load failed",
        dataset({"phase": "Failed", "conditions": [bad("no space")]}, api=FLUID, kind="DataLoad"),
        "doomed",
        "no space",
    ),
]


@pytest.mark.parametrize(("obj", "state", "words"), [case[1:] for case in STATES], ids=[c[0] for c in STATES])
def test_each_state_is_told_as_what_it_is(obj: Object, state: str, words: str) -> None:
    verdict = judged(obj)
    assert verdict.state == state
    assert words in verdict.what


def test_fluid_has_the_weights_when_all_three_objects_say_so() -> None:
    bound = dataset({"phase": "Bound"}, api=FLUID)
    runtime = dataset(READY, api=FLUID, kind="JindoRuntime")
    loading = dataset({"phase": "Executing"}, api=FLUID, kind="DataLoad")
    loaded = dataset({"phase": "Complete"}, api=FLUID, kind="DataLoad")
    assert judged(bound, runtime, loading).state == "progressing"
    assert judged(bound, runtime, loaded).state == "available"


def test_an_object_that_nothing_looks_at_has_no_controller() -> None:
    verdict = judged(dataset(None), now=NOW + timedelta(seconds=UNTOUCHED_SECONDS))
    assert verdict.doom is not None
    assert verdict.doom.reason == "NoController"
    assert BAIZE in verdict.doom.remedy


def test_a_data_set_that_somebody_deleted_is_told() -> None:
    ref = Ref(apiVersion=BAIZE, kind="Dataset", namespace="models", name="llm")
    assert "it is not there" in judge_datasets([ref], {}).what


def test_the_step_fails_with_the_controllers_own_reason() -> None:
    verdict = judged(dataset({"phase": "FAILED", "conditions": [bad("quota exceeded", "Quota")]}))
    with pytest.raises(
        WeightsError, match=r"does not bring the weights.*Dataset models/llm.*Quota: quota exceeded"
    ):
        what_became(verdict.model_dump(mode="json"))


def test_the_trigger_carries_references_and_a_connection_id_and_nothing_else() -> None:
    ref = Ref(apiVersion=BAIZE, kind="Dataset", namespace="models", name="llm")
    trigger = DatasetTrigger(connection="c", objects=[ref.model_dump()], seconds=60)
    path, values = trigger.serialize()
    assert path == "slipway.operators.datasets.DatasetTrigger"
    assert values == {"connection": "c", "objects": [ref.model_dump()], "seconds": 60}
