"""The objects of data set operators on a real API server: applied as rendered, judged by the status that it keeps.

Their controllers do not run here; the tests write the status that those would write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.sdk.exceptions import TaskDeferred

from slipway.catalog.read import read_catalog
from slipway.cluster.apply import apply
from slipway.cluster.client import Cluster
from slipway.cluster.datasets import is_dataset
from slipway.cluster.objects import Object, Ref, ref_of
from slipway.manifests.planning import make_plan
from slipway.manifests.render import Rendered, render
from slipway.operators.datasets import DatasetTrigger, look, what_became
from slipway.operators.pod_steps import DownloadOperator

TIME = "2026-11-21T12:00:00Z"
NUMBERS = (
    "currentFuseNumberScheduled", "currentMasterNumberScheduled", "currentWorkerNumberScheduled",
    "desiredFuseNumberScheduled", "desiredMasterNumberScheduled", "desiredWorkerNumberScheduled",
    "fuseNumberReady", "masterNumberReady", "workerNumberReady",
)  # fmt: skip
RUNTIME = {
    **dict.fromkeys(NUMBERS, 1),
    "fusePhase": "Ready",
    "masterPhase": "Ready",
    "workerPhase": "Ready",
    "valueFile": "v",
}


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    """A condition."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": TIME,
    }


def rendered(provider: str, namespace: str) -> list[Object]:
    """The data set objects of an endpoint of the catalog that has some, for a namespace of the test's."""
    catalog = read_catalog()
    name = next(name for name, one in catalog.endpoints.items() if getattr(one.volume, provider))
    objects = [obj for obj in render(make_plan(catalog, name)).stages["storage"] if is_dataset(obj)]
    found: dict[str, Object] = {}
    for obj in objects:
        moved = {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
        if moved["kind"] == "DataLoad":
            moved["spec"]["dataset"]["namespace"] = namespace
        # Two namespaces become one: the data set itself counts, and not the reference to it.
        found.setdefault(moved["kind"], moved)
    return list(found.values())


@pytest.fixture
def cluster(slipway: Cluster) -> Cluster:
    """What is tried here acts with Slipway's own rights."""
    return slipway


@pytest.fixture
def fluid(cluster: Cluster, namespace: str) -> dict[str, Ref]:
    """Fluid's objects of an endpoint, applied."""
    objects = rendered("fluid", namespace)
    apply(cluster, objects)
    return {obj["kind"]: ref_of(obj) for obj in objects}


WriteStatus = Callable[[Ref, dict[str, Any]], Any]


@pytest.fixture
def write_status(administrator: Cluster) -> WriteStatus:
    """Write what a controller would."""
    return lambda ref, status: administrator.patch(
        ref, {"status": status}, subresource="status", manager="a-controller"
    )


def test_a_baize_dataset_is_waited_for_until_it_is_ready(
    cluster: Cluster, namespace: str, write_status: WriteStatus
) -> None:
    (obj,) = rendered("dataset", namespace)
    apply(cluster, [obj])
    ref = ref_of(obj)
    assert look(cluster, [ref]).state == "progressing"
    write_status(ref, {"phase": "PROCESSING", "inProcessing": True, "inProcessingRound": 1})
    assert "is PROCESSING" in look(cluster, [ref]).what
    write_status(ref, {"phase": "READY", "lastSucceedRound": 1, "pvcName": ref.name})
    assert look(cluster, [ref]).state == "available"


def test_a_baize_dataset_fails_with_its_own_reason(
    cluster: Cluster, namespace: str, write_status: WriteStatus
) -> None:
    (obj,) = rendered("dataset", namespace)
    apply(cluster, [obj])
    ref = ref_of(obj)
    rounds = [
        {"round": 1, "jobName": "dataset-x-round-1", "startTime": TIME, "endTime": TIME, "succeed": False}
    ]
    failed = condition("DataLoaded", "False", "JobFailed", "the token may not read the model")
    write_status(ref, {"phase": "FAILED", "conditions": [failed], "syncRoundStatuses": rounds})
    verdict = look(cluster, [ref])
    assert verdict.doom is not None
    assert (verdict.doom.reason, verdict.doom.why) == ("JobFailed", "the token may not read the model")
    assert "job/dataset-x-round-1" in verdict.doom.remedy


def test_fluid_is_waited_for_until_bound_and_loaded(
    cluster: Cluster, fluid: dict[str, Ref], write_status: WriteStatus
) -> None:
    refs = list(fluid.values())
    assert look(cluster, refs).state == "progressing"
    write_status(fluid["Dataset"], {"phase": "Bound", "conditions": []})
    write_status(fluid["JindoRuntime"], RUNTIME)
    write_status(fluid["DataLoad"], {"phase": "Executing", "conditions": [], "duration": ""})
    assert "DataLoad" in look(cluster, refs).what
    write_status(fluid["DataLoad"], {"phase": "Complete", "conditions": [], "duration": "9s"})
    assert look(cluster, refs).state == "available"


def test_fluid_fails_with_the_loads_own_reason(
    cluster: Cluster, fluid: dict[str, Ref], write_status: WriteStatus
) -> None:
    failed = condition("Failed", "True", "DataLoadJobFailed", "the job has reached its backoff limit")
    write_status(fluid["Dataset"], {"phase": "Bound", "conditions": []})
    write_status(fluid["JindoRuntime"], RUNTIME)
    write_status(fluid["DataLoad"], {"phase": "Failed", "conditions": [failed], "duration": "9s"})
    verdict = look(cluster, fluid.values())
    assert verdict.doom is not None
    assert (verdict.doom.reason, verdict.doom.about) == ("DataLoadJobFailed", str(fluid["DataLoad"]))


def test_the_trigger_fires_once_with_the_verdict(
    cluster: Cluster,
    namespace: str,
    slipway_kubeconfig: Path,
    write_status: WriteStatus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (obj,) = rendered("dataset", namespace)
    apply(cluster, [obj])
    ref = ref_of(obj)

    class Found:
        extra_dejson: ClassVar = {"kube_config_path": str(slipway_kubeconfig)}

    async def connection(_: str) -> Found:
        return Found()

    async def events() -> list[Any]:
        trigger = DatasetTrigger(connection="c", objects=[ref.model_dump()], seconds=60)
        fired = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.5)
        assert not fired.done()
        await asyncio.to_thread(write_status, ref, {"phase": "READY", "lastSucceedRound": 1})
        return [(await asyncio.wait_for(fired, 20)).payload]

    monkeypatch.setattr("slipway.operators.datasets.Connection.async_get", connection)
    monkeypatch.setattr("slipway.operators.datasets.PAUSE_SECONDS", 0.1)
    (event,) = asyncio.run(events())
    assert what_became(event) == "the data set has the weights"


class FakeWork:
    """What the download step looks at of its release."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        catalog = read_catalog()
        name = next(name for name, one in catalog.endpoints.items() if one.volume.dataset)
        self.plan = make_plan(catalog, name)
        self.rendered = Rendered(release="0", stages={"storage": rendered("dataset", namespace)})
        self.cluster = self.fenced = lambda: cluster


def test_the_download_step_applies_the_data_set_and_waits_deferred_without_a_worker(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DownloadOperator(task_id="download", release={"release": 1, "digest": "0"}, deferrable=True)
    work = FakeWork(cluster, namespace)
    monkeypatch.setattr(step, "_open", lambda context: work)
    monkeypatch.setattr(step, "admit", lambda work, context: None)
    with pytest.raises(TaskDeferred) as deferred:
        step.execute({})
    trigger = deferred.value.trigger
    assert isinstance(trigger, DatasetTrigger)
    (ref,) = (Ref.model_validate(one) for one in trigger.objects)
    assert cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
    assert deferred.value.method_name == "dataset_ready"
