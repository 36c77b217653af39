"""Checks of room: whether all pods fit, whether new ones fit beside the old, and what the model was sized at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction

from slipway.catalog.quantities import quantity, readable
from slipway.checks.findings import Finding
from slipway.checks.nodes import MOST_NODES_TOLD, why_not
from slipway.checks.subject import Subject
from slipway.checks.view import View
from slipway.cluster.objects import RELEASE_LABEL, Object, labels_of

Amounts = dict[str, Fraction]


def check_sizing(view: View, subject: Subject) -> list[Finding]:
    """What the model needs of memory, as it was computed before anything changed."""
    if not subject.sizing:
        return []
    return [Finding(check="sizing", severity="info", about="memory", reason=subject.sizing)]


def check_capacity(view: View, subject: Subject) -> list[Finding]:
    """All replicas fit: allocatable less requested, for each node that may take them, for each resource.

    What the scheduler also weighs (affinity between pods, spread, a volume's node, pods that wait before these) is
    not counted, nor how much of a card that several share is free, which no node lists: so "ok" says that there is
    room, not that nothing else can come between.
    """
    if not subject.requests or not subject.pods:
        return []
    room, told = room_for(view, subject)
    about = _about(subject.pods, subject)
    if room >= subject.pods:
        return [Finding(check="capacity", severity="ok", about=about, reason=f"room for {room}. {told}")]
    return [
        Finding(
            check="capacity",
            severity="blocking",
            about=about,
            reason=f"room for {room} of {subject.pods}. {told}",
            remedy="Free or add capacity, or ask for less in the endpoint's resources: kubectl describe nodes",
        )
    ]


def check_surge(view: View, subject: Subject) -> list[Finding]:
    """One more replica fits beside those that serve now; if not, a rollout must end old pods before it starts new."""
    serving = [pod for pod in view.running_pods() if makes_room(pod, subject)]
    if not subject.requests or not serving or subject.kept:
        return []  # with pods that are kept, check_capacity has counted beside them
    room, told = room_for(view, subject.model_copy(update={"replaced": {}}))
    about = f"{_about(subject.pods_per_replica, subject)} more"
    if room >= subject.pods_per_replica:
        reason = f"room beside the {len(serving)} that serve now. {told}"
        return [Finding(check="surge", severity="ok", about=about, reason=reason)]
    reason = (
        f"room for {room} of {subject.pods_per_replica} beside the {len(serving)} that serve now, so a changed "
        f"endpoint is down from the end of its old pods until its new ones are ready. {told}"
    )
    return [Finding(check="surge", severity="info", about=about, reason=reason)]


def _about(pods: int, subject: Subject) -> str:
    each = ", ".join(f"{resource} {amount}" for resource, amount in subject.requests.items())
    return f"{'1 pod' if pods == 1 else f'{pods} pods'} of {each}"


def room_for(view: View, subject: Subject, *, without: Collection[str] = ()) -> tuple[int, str]:
    """Return for how many pods there is room, and what is free on each node.

    Args:
        view: the cluster.
        subject: whose pods; those that make room are counted as gone.
        without: names of nodes that cannot take another one.
    """
    wanted = {resource: quantity(amount) for resource, amount in subject.requests.items()}
    used = _used(view.running_pods(), subject)
    room, told = 0, []
    for node in view.nodes():
        name, excluded = node["metadata"]["name"], why_not(node, subject)
        if not excluded and name in without:
            excluded = "has one of them, and two cannot share its ports"
        if excluded:
            told.append(f"{name}: {excluded}")
            continue
        free = _free(node, used[name])
        fits = _fits(free, wanted)
        room += fits
        amounts = ", ".join(f"{resource} {_told(resource, free)} free" for resource in wanted)
        told.append(f"{name}: {amounts}" + ("" if fits else " (too little)"))
    listed = "; ".join(told[:MOST_NODES_TOLD])
    if len(told) > MOST_NODES_TOLD:
        listed += f"; and {len(told) - MOST_NODES_TOLD} more nodes"
    return room, listed


def _used(pods: Iterable[Object], subject: Subject) -> dict[str, Amounts]:
    used: dict[str, Amounts] = defaultdict(lambda: defaultdict(Fraction))
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if (
            not node
            or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
            or makes_room(pod, subject)
        ):
            continue
        used[node]["pods"] += 1
        for resource, amount in pod_requests(pod).items():
            used[node][resource] += amount
    return used


def makes_room(pod: Object, subject: Subject) -> bool:
    """Return whether a pod goes before the new ones come."""
    if not subject.replaced or pod["metadata"].get("namespace") != subject.namespace:
        return False
    labels = labels_of(pod)
    if subject.kept and labels.get(RELEASE_LABEL) == subject.kept:
        return False
    return all(labels.get(key) == value for key, value in subject.replaced.items())


def pod_requests(pod: Object) -> Amounts:
    """Return what a pod asks for as the scheduler counts it.

    That is the sum of its containers and sidecars (init containers that keep running), or the largest init
    container with the sidecars before it if that is more, and the runtime class's overhead.
    """
    spec = pod["spec"]
    total: Amounts = defaultdict(Fraction)
    sidecars: Amounts = defaultdict(Fraction)
    peak: Amounts = defaultdict(Fraction)
    for container in spec.get("initContainers") or []:
        requests = _requests(container)
        for resource, amount in requests.items():
            peak[resource] = max(peak[resource], sidecars[resource] + amount)
            if container.get("restartPolicy") == "Always":
                sidecars[resource] += amount
    for container in spec.get("containers") or []:
        for resource, amount in _requests(container).items():
            total[resource] += amount
    overhead = {resource: quantity(amount) for resource, amount in (spec.get("overhead") or {}).items()}
    return {
        resource: max(total[resource] + sidecars[resource], peak[resource])
        + overhead.get(resource, Fraction(0))
        for resource in {*total, *sidecars, *peak, *overhead}
    }


def _requests(container: Object) -> Amounts:
    requests = (container.get("resources") or {}).get("requests") or {}
    return {resource: quantity(amount) for resource, amount in requests.items()}


def _free(node: Object, used: Mapping[str, Fraction]) -> Amounts:
    allocatable = node.get("status", {}).get("allocatable") or {}
    return {
        resource: quantity(amount) - used.get(resource, Fraction(0))
        for resource, amount in allocatable.items()
    }


def _fits(free: Amounts, wanted: Amounts) -> int:
    """Return how many such pods fit on a node."""
    places = [int(free.get(resource, Fraction(0)) / amount) for resource, amount in wanted.items() if amount]
    return max(0, min([*places, int(free.get("pods", Fraction(0)))]))


def _told(resource: str, free: Amounts) -> str:
    return readable(resource, free[resource]) if resource in free else "not offered, so none"
