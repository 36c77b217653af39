"""A step's pod that will never start ends its wait as soon as that is known."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.cncf.kubernetes.triggers.pod import ContainerState, KubernetesPodTrigger

from slipway.operators import pod_start
from slipway.operators.pod_start import StepPodTrigger

CLAIM = "weights"


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


class Unbound:
    """A cluster with a pod whose claim nobody makes a volume for."""

    waited = 10.0

    def get(self, *, kind: str, **_: Any) -> dict[str, Any]:
        metadata = {"name": "tiny-download" if kind == "Pod" else CLAIM, "namespace": "models"}
        if kind != "Pod":
            return {"metadata": metadata, "spec": {}, "status": {"phase": "Pending"}}
        volumes = [{"name": "w", "persistentVolumeClaim": {"claimName": CLAIM}}]
        return {
            "metadata": metadata,
            "spec": {"containers": [], "volumes": volumes},
            "status": {"phase": "Pending"},
        }

    def list(self, *, field_selector: str, **_: Any) -> list[dict[str, Any]]:
        if field_selector != f"involvedObject.name={CLAIM}":
            return []
        about = {"name": CLAIM, "namespace": "models"}
        told = {"reason": "ExternalProvisioning", "message": "Waiting for a volume by example.com/nobody"}
        times = {"firstTimestamp": ago(self.waited), "lastTimestamp": ago(1)}
        return [{"involvedObject": about, **told, **times, "metadata": {}}]


@pytest.fixture
def trigger(monkeypatch: pytest.MonkeyPatch) -> StepPodTrigger:
    """As the provider makes it, with a pod that starts after a second and a look every tenth of one."""

    async def start(self: Any) -> ContainerState:
        await asyncio.sleep(1)
        return ContainerState.TERMINATED

    async def opened(self: Any) -> Unbound:
        return Unbound()

    monkeypatch.setattr(pod_start, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(KubernetesPodTrigger, "_wait_for_pod_start", start)
    monkeypatch.setattr(StepPodTrigger, "_open", opened)
    made = KubernetesPodTrigger(
        pod_name="tiny-download",
        pod_namespace="models",
        trigger_start_time=datetime.now(UTC),
        base_container_name="step",
        kubernetes_conn_id="c",
    )
    return StepPodTrigger(**made.serialize()[1])


def event(trigger: StepPodTrigger) -> dict[str, Any]:
    async def first() -> dict[str, Any]:
        return (await anext(trigger.run())).payload

    return asyncio.run(first())


def test_a_pod_that_will_never_start_ends_the_wait_with_the_reason(
    trigger: StepPodTrigger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Unbound, "waited", 70)

    told = event(trigger)

    assert told["status"] == "timeout"
    assert "ClaimNotBound: Waiting for a volume by example.com/nobody" in told["message"]


def test_a_pod_that_may_still_start_is_waited_for(trigger: StepPodTrigger) -> None:
    assert event(trigger)["status"] == "success"


def test_airflow_finds_the_trigger_again(trigger: StepPodTrigger) -> None:
    path, values = trigger.serialize()

    assert path == "slipway.operators.pod_start.StepPodTrigger"
    assert StepPodTrigger(**values).serialize() == trigger.serialize()
