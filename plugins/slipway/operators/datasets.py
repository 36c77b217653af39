"""Waiting deferred for weights that a data set operator brings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from typing import Any

from airflow.sdk import Connection
from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway.cluster.client import Cluster
from slipway.cluster.datasets import is_dataset, judge_datasets
from slipway.cluster.faults import ApiError, UnreachableError
from slipway.cluster.objects import Object, Ref, ref_of
from slipway.cluster.verdict import Doom, Verdict, doomed, progressing
from slipway.errors import WeightsError
from slipway.manifests.plan import Plan
from slipway.operators.connections import open_cluster

PAUSE_SECONDS = 5.0
LONGEST = timedelta(hours=24)
_SILENT_SECONDS = 180.0


class DatasetTrigger(BaseTrigger):
    """Wait until data sets have the weights, or until it is known that they will not.

    Args:
        connection: an Airflow connection's id; never a kubeconfig.
        objects: what is waited for, as references.
        seconds: for how long.
    """

    def __init__(self, *, connection: str, objects: list[dict[str, Any]], seconds: float) -> None:
        super().__init__()
        self.connection, self.objects, self.seconds = connection, objects, seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow stores to start the trigger again after a restart."""
        keys = ("connection", "objects", "seconds")
        return f"{type(self).__module__}.{type(self).__name__}", {key: getattr(self, key) for key in keys}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look every few seconds; one event with the verdict."""
        extra = (await Connection.async_get(self.connection)).extra_dejson
        cluster = await asyncio.to_thread(open_cluster, self.connection, extra)
        refs = [Ref.model_validate(ref) for ref in self.objects]
        started = answered = time.monotonic()
        told = ""
        while True:
            try:
                verdict = await asyncio.to_thread(look, cluster, refs)
                answered = time.monotonic()
            except (ApiError, UnreachableError) as error:
                if not error.is_transient or time.monotonic() - answered > _SILENT_SECONDS:
                    raise
                verdict = progressing(f"waiting for the API server: {error.why}")
            if verdict.state == "progressing" and time.monotonic() - started > self.seconds:
                verdict = doomed(_too_late(refs, self.seconds, verdict.what))
            if verdict.what != told:
                told = verdict.what
                self.log.info("%s", told)
            if verdict.state != "progressing":
                yield TriggerEvent(verdict.model_dump(mode="json"))
                return
            await asyncio.sleep(PAUSE_SECONDS)


def look(cluster: Cluster, refs: Iterable[Ref]) -> Verdict:
    """Judge the data sets as the server has them now."""
    refs = list(refs)
    found = {
        ref: cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
        for ref in refs
    }
    return judge_datasets(refs, {ref: obj for ref, obj in found.items() if obj is not None})


def wait_for_dataset(plan: Plan, storage: Iterable[Object]) -> dict[str, Any]:
    """What to defer with: the trigger, and the method that goes on."""
    refs = [ref_of(obj).model_dump(mode="json") for obj in storage if is_dataset(obj)]
    trigger = DatasetTrigger(connection=plan.connection, objects=refs, seconds=LONGEST.total_seconds())
    return {"trigger": trigger, "method_name": "dataset_ready", "timeout": LONGEST + timedelta(minutes=10)}


def what_became(event: dict[str, Any]) -> str:
    """Read the trigger's verdict.

    Raises:
        WeightsError: the weights will not come, with the reason that the cluster knows.
    """
    verdict = Verdict.model_validate(event)
    doom = verdict.doom
    if doom is not None:
        raise WeightsError(
            "the data set does not bring the weights",
            about=doom.about,
            why=f"{doom.reason}: {doom.why}",
            remedy=doom.remedy,
        )
    return verdict.what


def _too_late(refs: list[Ref], seconds: float, last: str) -> Doom:
    return Doom(
        reason="DeadlineExceeded",
        about=", ".join(map(str, refs)),
        why=f"no weights after {seconds:.0f} s; last seen: {last}",
        remedy="Look at the data set's controller and at its loader's log",
    )
