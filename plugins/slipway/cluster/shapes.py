"""What the kinds of workloads differ in: where their pod templates are, how many pods they want, which are theirs.

A LeaderWorkerSet (leaderworkerset.x-k8s.io/v1) wants ``replicas`` groups of ``size`` pods. Its controller makes a
StatefulSet of its own name for the leaders ``<name>-<group>`` and, for each leader, one of the leader's name for the
workers ``<name>-<group>-<index>``; so the events that say why pods cannot be made are about those StatefulSets.
"""

from __future__ import annotations

from slipway.catalog.names import COLOUR_LABEL
from slipway.cluster.objects import Object, labels_of

SET_NAME_LABEL = "leaderworkerset.sigs.k8s.io/name"
_MOST_GROUPS = 8


def pod_templates(workload: Object) -> dict[str, Object]:
    """Return the pod templates by the name of their pods' role; empty for a kind that has none.

    A LeaderWorkerSet has one for leaders, which is the workers' where it isn't given, and one for workers, which
    counts only where a group has any.
    """
    spec = workload.get("spec", {})
    groups = spec.get("leaderWorkerTemplate")
    if isinstance(groups, dict) and workload.get("kind") == "LeaderWorkerSet":
        workers = groups["workerTemplate"]
        leaders = {"leader pods": groups.get("leaderTemplate") or workers}
        return leaders | ({"worker pods": workers} if group_size(workload) > 1 else {})
    template = spec.get("template")
    return {"pods": template} if isinstance(template, dict) and "spec" in template else {}


def claim_templates(workload: Object) -> list[Object]:
    """Return the templates of claims that each pod gets for itself."""
    spec = workload["spec"]
    return (spec.get("leaderWorkerTemplate") or spec).get("volumeClaimTemplates") or []


def group_size(workload: Object) -> int:
    """Return how many pods make up one replica."""
    groups = workload["spec"].get("leaderWorkerTemplate") or {}
    size: int = groups.get("size", 1)
    return size


def wanted_pods(workload: Object) -> int:
    """Return how many pods the workload wants in all."""
    replicas: int = workload["spec"].get("replicas", 1)
    return replicas * group_size(workload)


def owns(workload: Object, pod: Object) -> bool:
    """Return whether a pod is the workload's, by its labels.

    The selector of a blue workload, which names no colour, also fits the pods of a green one beside it.
    """
    labels = labels_of(pod)
    if workload["kind"] == "LeaderWorkerSet":
        return bool(labels.get(SET_NAME_LABEL) == workload["metadata"]["name"])
    wanted = workload["spec"].get("selector", {}).get("matchLabels") or {}
    same_colour = labels.get(COLOUR_LABEL) == wanted.get(COLOUR_LABEL)
    return bool(wanted) and same_colour and all(labels.get(key) == value for key, value in wanted.items())


def pod_makers(workload: Object) -> list[str]:
    """Return the names of the objects whose events say why pods cannot be made; at most eight groups."""
    name = workload["metadata"]["name"]
    if workload["kind"] != "LeaderWorkerSet" or group_size(workload) == 1:
        return [name]
    groups = min(workload["spec"].get("replicas", 1), _MOST_GROUPS)
    return [name, *(f"{name}-{group}" for group in range(groups))]


def pod_names(workload: Object) -> list[str]:
    """Return the names that its pods will have; empty for a Deployment, whose pods have new ones each time."""
    if workload["kind"] == "Deployment":
        return []
    name, replicas = workload["metadata"]["name"], workload["spec"].get("replicas", 1)
    firsts = [f"{name}-{index}" for index in range(replicas)]
    workers = range(1, group_size(workload))
    return [one for first in firsts for one in (first, *(f"{first}-{worker}" for worker in workers))]
