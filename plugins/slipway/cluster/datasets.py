"""The judgement of data sets that an operator of somebody else's fills: from objects alone, as for a workload.

Phases are those of BaizeAI's Dataset 0.1.11 (PENDING, PROCESSING, READY, FAILED) and of Fluid 1.0.8: Dataset
(Pending, Bound, NotBound, Updating, DataMigrating, Failed), JindoRuntime (NotReady, PartialReady, Ready for each of
its parts) and DataLoad (Pending, Executing, Complete, Failed).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from slipway.cluster.objects import Object, Ref
from slipway.cluster.verdict import Doom, Verdict, doomed, lasted, progressing
from slipway.errors import bounded

BAIZE = "dataset.baizeai.io"
FLUID = "data.fluid.io"

UNTOUCHED_SECONDS = 180.0
"""An object without any status for so long has no controller: they write their first one at once."""

_DONE = {"Dataset": ("READY", "Bound"), "DataLoad": ("Complete",)}
_FAILED = ("FAILED", "Failed")
_RUNTIME_PARTS = ("master", "worker")


def is_dataset(obj: Object) -> bool:
    """Whether an object is one of those that bring weights."""
    return str(obj["apiVersion"]).split("/")[0] in (BAIZE, FLUID)


def judge_datasets(
    wanted: Iterable[Ref], live: Mapping[Ref, Object], *, now: datetime | None = None
) -> Verdict:
    """Say whether the weights are there, on their way, or will not come.

    They are there when every data set is READY or Bound, every load Complete, and the data set's last wanted round of
    syncing has succeeded.

    Args:
        wanted: what was applied, in that order.
        live: what the server has.
        now: the server's time; this machine's when None.
    """
    now = now or datetime.now(UTC)
    waits = []
    for ref in wanted:
        obj = live.get(ref)
        if obj is None:
            return doomed(
                Doom(
                    reason="NotFound",
                    about=str(ref),
                    why="it is not there: it was not applied, or somebody deleted it",
                    remedy="Deploy the endpoint again",
                )
            )
        doom = _doom(obj, ref, now=now)
        if doom:
            return doomed(doom)
        if waiting := _waits(obj):
            waits.append(f"{ref.kind} {ref.name} {waiting}")
    if waits:
        return progressing("; ".join(waits))
    return Verdict(state="available", what="the data set has the weights")


def _doom(obj: Object, ref: Ref, *, now: datetime) -> Doom | None:
    status = obj.get("status") or {}
    if not status and lasted(obj["metadata"].get("creationTimestamp"), now, UNTOUCHED_SECONDS):
        return Doom(
            reason="NoController",
            about=str(ref),
            why=f"nothing has looked at it for {UNTOUCHED_SECONDS:.0f} s",
            remedy=f"Is the controller of {obj['apiVersion']} running in this cluster?",
        )
    if status.get("phase") not in _FAILED:
        return None
    look = (
        f"kubectl -n {ref.namespace} describe {ref.kind.lower()}.{obj['apiVersion'].split('/')[0]} {ref.name}"
    )
    job = _failed_job(status)
    return Doom(
        reason=_reason(status) or "Failed",
        about=str(ref),
        why=_message(status) or "its controller gives no reason",
        remedy=f"Read the loader's log: kubectl -n {ref.namespace} logs job/{job}"
        if job
        else f"Look: {look}",
    )


def _waits(obj: Object) -> str:
    """What an object still waits for; "" when it is done."""
    status = obj.get("status") or {}
    if obj["kind"] == "JindoRuntime":
        parts = {part: status.get(f"{part}Phase") or "NotReady" for part in _RUNTIME_PARTS}
        late = [f"{part} {phase}" for part, phase in parts.items() if phase != "Ready"]
        return ", ".join(late) + _because(status) if late else ""
    phase = str(status.get("phase") or "")
    if phase not in _DONE.get(obj["kind"], ()):
        return f"is {phase or 'new'}{_because(status)}"
    wanted, reached = (obj.get("spec") or {}).get("dataSyncRound", 0), status.get("lastSucceedRound")
    if reached is not None and reached < wanted:
        return f"has synced round {reached} of {wanted}"
    return ""


def _because(status: Object) -> str:
    message = _message(status)
    return f" ({message})" if message else ""


def _failed_job(status: Object) -> str | None:
    rounds = status.get("syncRoundStatuses") or []
    failed = [one for one in rounds if one.get("jobName") and one.get("endTime") and not one.get("succeed")]
    latest = max(failed, key=lambda one: one.get("round", 0), default=None)
    return str(latest["jobName"]) if latest else None


def _reason(status: Object) -> str:
    return str(_telling(status).get("reason") or "")


def _message(status: Object) -> str:
    return bounded(str(_telling(status).get("message") or ""), limit=300)


def _telling(status: Object) -> Object:
    """The condition that says most: the latest of those that are not as they should be, and have words."""
    conditions: list[Object] = status.get("conditions") or []
    spoken = [one for one in conditions if one.get("message")]
    bad = [one for one in spoken if one.get("status") == "False" or one.get("type") in _FAILED]
    return max(bad or spoken, key=lambda one: str(one.get("lastTransitionTime") or ""), default={})
