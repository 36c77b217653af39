"""Which strategy a release is rolled out by: what the person says, else what the cluster's room allows.

The best that there is room for: a second workload beside the one that serves (no request fails, and what is not proven
never serves); else the replicas one after another; else, with one replica and no room, the old one first, which is an
outage, but ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

from slipway.catalog.quantities import quantity
from slipway.catalog.records import Strategy
from slipway.checks.capacity import room_for
from slipway.checks.nodes import why_not
from slipway.checks.subject import Subject
from slipway.checks.view import View
from slipway.cluster.controllers import Workload
from slipway.cluster.objects import ENDPOINT_LABEL, RELEASE_LABEL, Object, labels_of
from slipway.errors import ClusterError, UsageError
from slipway.manifests.plan import Plan
from slipway.manifests.rollout import Rollout


def refuse_canary_without_route(plan: Plan, asked: Strategy | None) -> None:
    """Refuse a canary where nothing shares requests out by weight.

    Raises:
        UsageError: the endpoint has no route.
    """
    if asked == "canary" and plan.publication.route is None:
        raise UsageError(
            "a canary needs a route",
            about=plan.endpoint,
            why="only an HTTPRoute gives a share of the requests to a new release, and the endpoint has none",
            remedy="Set exposure.route in its record, or use the strategy blue-green",
        )


def choose(
    view: View,
    subject: Subject,
    *,
    plan: Plan,
    serving: Workload | None,
    asked: Strategy | None,
    by: str,
) -> Rollout:
    """Choose how a release takes the place of the one that serves.

    Args:
        view: the cluster.
        subject: the release's pods.
        plan: of the release, with its record's canary.
        serving: the workload that serves.
        asked: by a person.
        by: where the person says so.
    """
    if serving is None or serving.replicas == 0:
        return _in_place(plan, "nothing serves that has to stay up")
    wanted = serving.replicas * plan.pods_per_replica
    room, told = _room_beside(view, subject, plan=plan, serving=serving)
    surge = (
        0 if plan.controller == "StatefulSet" else int(min(room // plan.pods_per_replica, serving.replicas))
    )
    numbers = {"surge": surge, "unavailable": 0 if surge else 1}
    if asked:
        return _rollout(plan, asked, f"{by} says so", serving, **numbers)
    pods = f"{min(room, wanted)} of {wanted} {'pod' if wanted == 1 else 'pods'}"
    there = f"room for {pods} beside those that serve ({told})"
    if room >= wanted:
        return _rollout(plan, "blue-green", there, serving)
    if serving.replicas > 1 and serving.ref.kind == plan.controller:
        return _rollout(plan, "rolling", there, serving, **numbers)
    return _in_place(
        plan, f"{there}: the old ones end before the new ones start, which is an outage", serving
    )


def _in_place(plan: Plan, reason: str, serving: Workload | None = None) -> Rollout:
    return _rollout(plan, "recreate", reason, serving)


def _rollout(
    plan: Plan,
    strategy: Strategy,
    reason: str,
    serving: Workload | None,
    *,
    surge: int = 0,
    unavailable: int = 1,
) -> Rollout:
    return Rollout(
        strategy=strategy,
        reason=reason,
        serving=serving.release if serving else None,
        surge=surge,
        unavailable=unavailable,
        canary=plan.rollout.canary,
    )


def _room_beside(view: View, subject: Subject, *, plan: Plan, serving: Workload) -> tuple[float, str]:
    """For how many pods there is room beside those that serve, and what is free.

    Other pods of the endpoint (of a release that failed, or of a run before this one) count as gone.
    """
    beside = subject.model_copy(
        update={"replaced": {ENDPOINT_LABEL: plan.object_name}, "kept": serving.release}
    )
    mode = plan.volume.access_mode
    if mode == "ReadWriteOncePod":
        return 0, "their volume can be mounted by one pod only"
    nodes = sorted(_nodes_of(view.running_pods(), plan, serving.release))
    if mode == "ReadWriteOnce" and nodes:
        others = [
            one for one in view.nodes() if one["metadata"]["name"] not in nodes and not why_not(one, subject)
        ]
        if others and not _volume_stays(view, plan):
            return 0, "their volume can be mounted on one node only, and a pod might get another"
        beside = beside.model_copy(update={"node_name": nodes[0]})
    room, told = room_for(view, beside, without=nodes if plan.server.placement.host_network else ())
    granted, quota = _granted(view, subject)
    return (granted, f"{quota} grants no more") if granted < room else (room, told)


def _granted(view: View, subject: Subject) -> tuple[float, str]:
    """For how many more pods the namespace's quotas leave room, and which grants least.

    Scoped quotas count only some pods and are left out; so are all where the connection may not see them.
    """
    least: tuple[float, str] = (math.inf, "")
    try:
        quotas = view.all_of("v1", "ResourceQuota", namespace=subject.namespace)
    except ClusterError:
        return least
    for quota in quotas:
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            continue
        status = quota.get("status") or {}
        for resource, hard in (status.get("hard") or {}).items():
            wanted = _of_one_pod(subject, resource)
            if wanted:
                free = quantity(hard) - quantity((status.get("used") or {}).get(resource, "0"))
                least = min(least, (max(0, free // wanted), f"ResourceQuota {quota['metadata']['name']}"))
    return least


def _of_one_pod(subject: Subject, resource: str) -> Fraction:
    if resource in ("pods", "count/pods"):
        return Fraction(1)
    name = resource.removeprefix("requests.")
    if resource == "limits.memory":
        name = "memory"  # a serving pod's limit is what it requests
    return quantity(subject.requests[name]) if name in subject.requests else Fraction(0)


def _nodes_of(pods: Iterable[Object], plan: Plan, release: str | None) -> set[str]:
    return {
        pod["spec"]["nodeName"]
        for pod in pods
        if pod["metadata"].get("namespace") == plan.namespace
        and labels_of(pod).get(ENDPOINT_LABEL) == plan.object_name
        and labels_of(pod).get(RELEASE_LABEL) == release
        and pod["spec"].get("nodeName")
    }


def _volume_stays(view: View, plan: Plan) -> bool:
    """Whether the volume belongs to a node, so that the scheduler puts every pod that mounts it there."""
    try:
        claim = view.one("v1", "PersistentVolumeClaim", plan.volume.claim, namespace=plan.namespace) or {}
        name = claim.get("spec", {}).get("volumeName")
        volume = view.one("v1", "PersistentVolume", name) if name else None
    except ClusterError:  # a connection that may not look at volumes
        return False
    return bool(volume and volume["spec"].get("nodeAffinity"))
