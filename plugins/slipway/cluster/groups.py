"""Why a LeaderWorkerSet's group does not come up: a crash makes the whole group anew, which hides it from its pods.

Under its default restart policy the controller deletes a group's leader, and with it the group, as soon as a container
of any of its pods has restarted. So no pod ever comes to back off or to restart twice; a crash shows in a pod that is
being deleted, and in the set's events with reason RecreateGroup.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from slipway.cluster.containers import container_doom
from slipway.cluster.events import events_of
from slipway.cluster.objects import Object
from slipway.cluster.verdict import Doom, Limits, moment
from slipway.errors import bounded

# As many as a pod may restart, and one more: when no look met a crashed pod, its own words are worth another round.
_MOST_UNSEEN = 3
_DEFAULT_POLICY = "RecreateGroupOnPodRestart"


def is_condemned(workload: Object, pod: Object) -> bool:
    """Return whether a pod's group is about to be made anew, though the pod itself may look Ready."""
    groups = workload["spec"].get("leaderWorkerTemplate") or {}
    policy = groups.get("restartPolicy", _DEFAULT_POLICY)
    return workload["kind"] == "LeaderWorkerSet" and policy == _DEFAULT_POLICY and bool(_restarted(pod))


def group_doom(
    workload: Object,
    pods: list[Object],
    events: list[Object],
    *,
    limits: Limits,
    now: datetime,
    since: datetime,
) -> Doom | None:
    """Return why a group is made anew again and again, or None while it may come up.

    Args:
        workload: a LeaderWorkerSet.
        pods: those of the release, also those that are being deleted.
        events: of the set and of the pods.
        limits: patience with what often mends itself.
        now: the server's time.
        since: crashes and events from before are of an earlier release.
    """
    groups = workload["spec"].get("leaderWorkerTemplate") or {}
    if groups.get("restartPolicy", _DEFAULT_POLICY) not in (_DEFAULT_POLICY, "RecreateGroupAfterStart"):
        return None
    recreations = events_of(events, workload, reasons=("RecreateGroup",), since=since)
    for pod in sorted((pod for pod in pods if _crashed_at(pod) > since), key=_crashed_at):
        # What is being deleted has its event already.
        count = len(recreations) + (0 if pod["metadata"].get("deletionTimestamp") else 1)
        # One crash shows as that of a pod that may still come up, but for what no repetition mends.
        doom = container_doom(pod, events, limits=limits, now=now, recreated=max(count, 1))
        if doom:
            return doom
    if len(recreations) < _MOST_UNSEEN:
        return None
    return _unseen(workload, recreations)


def _crashed_at(pod: Object) -> datetime:
    """Return when the first container of a pod that has restarted ended; long ago when none has."""
    ends = [
        moment(((one.get("lastState") or {}).get("terminated") or {}).get("finishedAt"))
        for one in _restarted(pod)
    ]
    return min((end for end in ends if end), default=datetime.fromtimestamp(0, tz=UTC))


def _restarted(pod: Object) -> list[Object]:
    """Return the statuses of a pod's containers that have restarted."""
    status = pod.get("status", {})
    return [
        one
        for statuses in ("initContainerStatuses", "containerStatuses")
        for one in status.get(statuses) or []
        if one.get("restartCount")
    ]


def _unseen(workload: Object, recreations: list[Object]) -> Doom:
    metadata, message = workload["metadata"], recreations[0].get("message", "")
    namespace = metadata.get("namespace", "")
    named = re.search(r"[Pp]od (\S+) failed", message)
    pod = named[1] if named else None
    return Doom(
        reason="GroupRecreated",
        about=f"LeaderWorkerSet {namespace}/{metadata['name']}",
        why=f"its group was made anew {len(recreations)} times, the last time so: {bounded(message)}",
        remedy=f"Read the log while it runs: kubectl -n {namespace} logs -f {pod or metadata['name'] + '-0'}",
        pod=pod,
    )
