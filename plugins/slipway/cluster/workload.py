"""The judgement of a workload from objects alone: no network, and the same input gives the same verdict."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from slipway.cluster.events import event_time, events_of
from slipway.cluster.faults import refusal_remedy
from slipway.cluster.groups import group_doom, is_condemned
from slipway.cluster.objects import MANAGER, RELEASE_LABEL, Object, labels_of
from slipway.cluster.pods import earlier_eviction, pod_doom
from slipway.cluster.shapes import owns, pod_makers, pod_names, pod_templates, wanted_pods
from slipway.cluster.verdict import Doom, Limits, Verdict, condition, doomed, lasted, moment, progressing
from slipway.errors import bounded

_TRANSIENT_REFUSALS = (
    "exceeded quota",
    "failed calling webhook",
    "no endpoints available",
    "is being terminated",
)


def judge(
    workload: Object,
    pods: Iterable[Object],
    events: Iterable[Object],
    claims: Iterable[Object],
    *,
    release: str,
    now: datetime | None = None,
    limits: Limits | None = None,
) -> Verdict:
    """Say whether a workload is available, on its way, or will never be.

    Available means: the controller has seen the last change and is done with it, every pod that it wants is
    Ready and is of this release, and no pod of another release is left. A Ready pod of the old release counts
    nothing.

    Args:
        workload: a StatefulSet, Deployment or LeaderWorkerSet as the server has it.
        pods: the endpoint's pods; those that aren't the workload's are ignored.
        events: of the workload, of what makes its pods, of its pods (earlier ones of the same name too) and of
            their claims.
        claims: the claims that the pods mount.
        release: the value of the release label that counts.
        now: the server's time; this machine's when None.
        limits: patience with what often mends itself.
    """
    now, limits = now or datetime.now(UTC), limits or Limits()
    events, claims = list(events), list(claims)
    mine = [pod for pod in pods if owns(workload, pod)]
    ours = [pod for pod in mine if labels_of(pod).get(RELEASE_LABEL) == release]
    here = [pod for pod in ours if not _is_stopping(pod)]
    others = [pod for pod in mine if pod not in here and not _has_ended(pod)]
    wanted = wanted_pods(workload)
    if _releases(workload) != {release}:
        return doomed(_replaced(workload, release))
    if wanted == 0:
        return doomed(_scaled_to_zero(workload))
    ready = [
        pod
        for pod in here
        if condition(pod, "Ready").get("status") == "True" and not is_condemned(workload, pod)
    ]
    if _is_current(workload) and len(ready) == wanted and not others:
        return Verdict(state="available", what=f"{_ready(len(ready), wanted)}")
    for pod in here:
        if pod not in ready:
            doom = pod_doom(pod, events, claims, limits=limits, now=now, making_room=bool(others))
            if doom:
                return doomed(doom)
    doom = _workload_doom(workload, here, others, events, limits=limits, now=now) or _evictions(
        workload, mine, events
    )
    if doom is None and workload["kind"] == "LeaderWorkerSet":
        doom = group_doom(workload, ours, events, limits=limits, now=now, since=changed_at(workload))
    return doomed(doom) if doom else progressing(_progress(here, ready, others, events, wanted=wanted))


def changed_at(workload: Object) -> datetime:
    """Return when Slipway last changed the workload, or anybody its replicas; earlier events are of before."""
    times = [
        entry.get("time") for entry in workload["metadata"].get("managedFields") or [] if _is_change(entry)
    ]
    found = [time for time in map(moment, times) if time]
    created = moment(workload["metadata"].get("creationTimestamp")) or datetime.fromtimestamp(1, tz=UTC)
    return max(found, default=created) - timedelta(seconds=1)


def _is_change(entry: Object) -> bool:
    applied = entry.get("manager") == MANAGER and entry.get("operation") == "Apply"
    return applied or "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})


def _about(workload: Object) -> str:
    metadata = workload["metadata"]
    return f"{workload['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


def _is_stopping(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _has_ended(pod: Object) -> bool:
    """Return whether a pod is only a record of one; a Deployment's evicted pods stay as such for long."""
    return pod.get("status", {}).get("phase") in ("Failed", "Succeeded")


def _is_current(workload: Object) -> bool:
    """Return whether the controller has acted on the last change for all pods."""
    status, kind = workload.get("status", {}), workload["kind"]
    wanted = workload["spec"].get("replicas", 1)
    generation = workload["metadata"].get("generation", 0)
    # LeaderWorkerSet's controller says since 0.9 which generation it has seen.
    unsaid = generation if kind == "LeaderWorkerSet" else 0
    if status.get("observedGeneration", unsaid) < generation:
        return False
    if kind == "StatefulSet" and (workload["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
        return bool(status.get("replicas", 0) == wanted)  # each pod stays as it was made until it goes
    if status.get("updatedReplicas", 0) != wanted or status.get("replicas", 0) != wanted:
        return False
    if kind == "StatefulSet":
        return bool(status.get("currentRevision") == status.get("updateRevision"))
    return bool(kind != "LeaderWorkerSet" or status.get("readyReplicas", 0) == wanted)


def _releases(workload: Object) -> set[str]:
    templates = pod_templates(workload).values()
    return {labels_of(template).get(RELEASE_LABEL, "none") for template in templates}


def _replaced(workload: Object, release: str) -> Doom:
    now_there = " and ".join(sorted(_releases(workload)))
    return Doom(
        reason="ReleaseReplaced",
        about=_about(workload),
        why=f"it is at release {now_there} now, not at {release}",
        remedy="Somebody else deployed in between; look at the endpoint's history",
    )


def _scaled_to_zero(workload: Object) -> Doom:
    metadata = workload["metadata"]
    return Doom(
        reason="ScaledToZero",
        about=_about(workload),
        why="it is scaled to 0 replicas, and a deployment keeps that, so nothing would serve",
        remedy=f"Scale it up: kubectl -n {metadata.get('namespace', '')} scale {workload['kind'].lower()} "
        f"{metadata['name']} --replicas=1",
    )


def _workload_doom(
    workload: Object,
    here: list[Object],
    others: list[Object],
    events: list[Object],
    *,
    limits: Limits,
    now: datetime,
) -> Doom | None:
    """Return why the controller cannot make pods. It says so in events of its own, or in a condition."""
    failure = condition(workload, "ReplicaFailure")
    if failure.get("status") == "True":
        message, since = failure.get("message", ""), moment(failure.get("lastTransitionTime"))
    else:
        if len(here) + len(others) >= wanted_pods(workload):
            return None
        since = changed_at(workload)
        failed = _failed_create(workload, events, since=since)
        if failed is None:
            return None
        message = failed.get("message", "")
    if any(word in message for word in _TRANSIENT_REFUSALS) and (
        others or not lasted(since, now, limits.create)
    ):
        return None
    remedy = refusal_remedy(message) or "Change what the message names"
    return Doom(reason="FailedCreate", about=_about(workload), why=_refusal(message), remedy=remedy)


def _failed_create(workload: Object, events: list[Object], *, since: datetime) -> Object | None:
    """Return the last event of a maker of pods that could not make one, unless it has made one since."""
    # A LeaderWorkerSet's makers are StatefulSets that come and go with their group: only their names are known.
    grouped = workload["kind"] == "LeaderWorkerSet"
    for name in pod_makers(workload):
        maker = {"metadata": {"name": name}} if grouped else workload
        failed, made = (
            events_of(events, maker, reasons=(reason,), since=since, any_incarnation=grouped)
            for reason in ("FailedCreate", "SuccessfulCreate")
        )
        if failed and not (made and event_time(made[0]) > event_time(failed[0])):
            return failed[0]
    return None


def _refusal(message: str) -> str:
    """Return the server's refusal without the controller's words before it."""
    return bounded(message.rpartition(" failed error: ")[2] or message)


def _evictions(workload: Object, mine: list[Object], events: list[Object]) -> Doom | None:
    expected = pod_names(workload)
    if not expected:
        return None  # pods of new names each time: an evicted one stays to be looked at
    names = {pod["metadata"]["name"] for pod in mine} | set(expected)
    for name in sorted(names):
        doom = earlier_eviction(
            name, events, namespace=workload["metadata"].get("namespace", ""), since=changed_at(workload)
        )
        if doom:
            return doom
    return None


def _ready(ready: int, wanted: int) -> str:
    return f"{ready} of {wanted} {'pod' if wanted == 1 else 'pods'} ready"


def _progress(
    here: list[Object], ready: list[Object], others: list[Object], events: list[Object], *, wanted: int
) -> str:
    parts = [_ready(len(ready), wanted)]
    stopping = [pod["metadata"]["name"] for pod in others]
    if stopping:
        parts.append(f"{', '.join(stopping[:3])} of before still there")
    waiting = [pod for pod in here if pod not in ready]
    parts += [f"{pod['metadata']['name']} {_doing(pod, events)}" for pod in waiting[:3]]
    if not here and not stopping:
        parts.append("no pod made yet")
    return "; ".join(parts)


def _doing(pod: Object, events: list[Object]) -> str:
    """Say in a few words what a pod that isn't Ready waits for."""
    if condition(pod, "PodScheduled").get("status") != "True":
        told = condition(pod, "PodScheduled").get("message", "")
        return f"has no node yet{': ' + bounded(told, limit=160) if told else ''}"
    statuses = pod.get("status", {})
    for status in [
        *(statuses.get("initContainerStatuses") or []),
        *(statuses.get("containerStatuses") or []),
    ]:
        state = status.get("state") or {}
        if "waiting" in state:
            reason = state["waiting"].get("reason", "")
            pulling = events_of(events, pod, reasons=("Pulling", "Pulled"))
            if pulling and pulling[0].get("reason") == "Pulling":
                return f"pulls {status.get('image', 'its image')}"
            mounting = events_of(events, pod, reasons=("FailedMount", "FailedAttachVolume", "Failed"))
            told = f" ({bounded(mounting[0].get('message', ''), limit=160)})" if mounting else ""
            return f"waits: {reason}{told}" if reason else "waits"
        if "running" in state and not status.get("ready"):
            again = f", restarted {status['restartCount']} times" if status.get("restartCount") else ""
            step = "ready" if status.get("started") else "started"
            return f"runs and isn't {step} yet{again}"
    return "starts"
