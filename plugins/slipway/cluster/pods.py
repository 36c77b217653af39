"""Why a pod does not come to run: no node, no volume, thrown off its node, node lost."""

from __future__ import annotations

import re
from datetime import datetime

from slipway.cluster.containers import about_pod, container_doom
from slipway.cluster.events import event_time, events_of, first_time
from slipway.cluster.objects import Object
from slipway.cluster.verdict import Doom, Limits, condition, lasted
from slipway.errors import bounded

_OWN_SCHEDULER = "default-scheduler"
_UNBOUND = "unbound immediate PersistentVolumeClaims"
_LOST_PODS = frozenset({"UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory", "OutOfpods", "NodeAffinity"})


def pod_doom(
    pod: Object,
    events: list[Object],
    claims: list[Object],
    *,
    limits: Limits,
    now: datetime,
    making_room: bool = False,
) -> Doom | None:
    """Return why a pod will not become Ready, or None while it may.

    Args:
        pod: a pod of the release.
        events: of the pod, its earlier incarnations and its claims.
        claims: those that it uses.
        limits: patience with what often mends itself.
        now: the server's time.
        making_room: other pods of the endpoint are still stopping; lack of room is theirs.
    """
    if pod["metadata"].get("deletionTimestamp"):
        return None
    return (
        _evicted(pod)
        or container_doom(pod, events, limits=limits, now=now)
        or claim_doom(pod, events, claims, limits=limits, now=now)
        or _unschedulable(pod, events, limits=limits, now=now, making_room=making_room)
        or _not_mounted(pod, events, limits=limits, now=now)
        or _node_lost(pod, events, limits=limits, now=now)
    )


def earlier_eviction(pod_name: str, events: list[Object], *, namespace: str, since: datetime) -> Doom | None:
    """Return an eviction of an earlier pod of this name; a StatefulSet soon removes evicted pods."""
    named = {"metadata": {"name": pod_name}}
    found = events_of(events, named, reasons=("Evicted",), since=since, any_incarnation=True)
    if not found:
        return None
    return _eviction(f"Pod {namespace}/{pod_name}", found[0].get("message", ""))


def _evicted(pod: Object) -> Doom | None:
    status = pod.get("status", {})
    if status.get("phase") != "Failed":
        return None
    reason, message = status.get("reason", ""), status.get("message", "")
    if reason == "Evicted":
        return _eviction(about_pod(pod), message)
    if reason in _LOST_PODS:
        node = pod["spec"].get("nodeName", "its node")
        return Doom(
            reason=reason,
            about=about_pod(pod),
            why=f"node {node} did not take it: {bounded(message)}",
            remedy=f"Look at what the node has left: kubectl describe node {node}",
        )
    return None


def _eviction(about: str, message: str) -> Doom:
    if "exceeds" in message:
        remedy = "Give it more ephemeral storage (scratch or shared memory of the runtime), or write less"
    elif "ephemeral-storage" in message or "imagefs" in message or "nodefs" in message:
        remedy = "Free disk space on the node: unused images and logs first"
    else:
        remedy = "Free what the node is low on, or ask for it in the endpoint's resources"
    return Doom(reason="Evicted", about=about, why=bounded(message), remedy=remedy)


def claim_doom(
    pod: Object, events: list[Object], claims: list[Object], *, limits: Limits, now: datetime
) -> Doom | None:
    """Return why a claim of the pod will not be bound."""
    for claim in claims:
        phase = claim.get("status", {}).get("phase")
        if claim["metadata"]["name"] not in claim_names(pod) or phase == "Bound":
            continue
        about = f"PersistentVolumeClaim {claim['metadata'].get('namespace', '')}/{claim['metadata']['name']}"
        if phase == "Lost":
            return Doom(
                reason="ClaimLost",
                about=about,
                why=f"its volume {claim['spec'].get('volumeName', '')} is gone",
                remedy="Restore the volume, or delete the claim and bring the weights again",
            )
        doom = _unbound(claim, about, events, limits=limits, now=now)
        if doom:
            return doom
    return None


def claim_names(pod: Object) -> list[str]:
    """Return the names of the claims that a pod mounts."""
    volumes = pod["spec"].get("volumes") or []
    return [v["persistentVolumeClaim"]["claimName"] for v in volumes if v.get("persistentVolumeClaim")]


def _unbound(
    claim: Object, about: str, events: list[Object], *, limits: Limits, now: datetime
) -> Doom | None:
    found = events_of(events, claim, reasons=("ProvisioningFailed", "FailedBinding", "ExternalProvisioning"))
    if not found:
        return None
    event, message = found[0], bounded(found[0].get("message", ""))
    storage_class = claim["spec"].get("storageClassName") or ""
    missing = "not found" in message and "storageclass" in message.lower()
    if not missing and not lasted(min(map(first_time, found)), now, limits.provision):
        return None
    remedy = "Look at the storage's provisioner and its log"
    if missing:
        remedy = "Name a storage class that exists: kubectl get storageclass"
    elif event.get("reason") == "FailedBinding":
        remedy = "Name a storage class, or make a volume that fits the claim"
    elif "access mode" in message.lower() or "supports" in message.lower():
        remedy = f"Use an access mode that storage class {storage_class} has"
    return Doom(reason="ClaimNotBound", about=about, why=message, remedy=remedy)


def _unschedulable(
    pod: Object, events: list[Object], *, limits: Limits, now: datetime, making_room: bool
) -> Doom | None:
    scheduled = condition(pod, "PodScheduled")
    if not scheduled:
        return _not_looked_at(pod, limits=limits, now=now)
    if scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    message = scheduled.get("message", "")
    missing_claim = re.search(r'persistentvolumeclaim "([^"]+)" (not found|is being deleted)', message)
    if making_room and not missing_claim:
        return None
    grace = limits.missing if missing_claim else limits.unschedulable
    if _UNBOUND in message:
        # A volume that is there is bound at the controller's next look, every 15 s or more.
        grace = max(grace, limits.provision)
    if events_of(events, pod, reasons=("TriggeredScaleUp",)):
        grace = max(grace, limits.scale_up)
    if not lasted(scheduled.get("lastTransitionTime"), now, grace):
        return None
    if missing_claim:
        return Doom(
            reason="ClaimMissing",
            about=about_pod(pod),
            why=bounded(message),
            remedy=f"Make the claim {missing_claim[1]}: the download step of a deployment does",
        )
    refused = events_of(events, pod, reasons=("NotTriggerScaleUp",))
    added = f" (autoscaler: {bounded(refused[0].get('message', ''), limit=150)})" if refused else ""
    return Doom(
        reason="Unschedulable",
        about=about_pod(pod),
        why=bounded(message.split(" preemption:")[0], limit=300) + added + _asked(pod, message),
        remedy=_scheduling_remedy(message),
    )


def _not_looked_at(pod: Object, *, limits: Limits, now: datetime) -> Doom | None:
    """Say that a scheduler of the pod's own choice isn't there; Kubernetes' own may be about to have a new leader."""
    scheduler = pod["spec"].get("schedulerName") or _OWN_SCHEDULER
    created = pod["metadata"].get("creationTimestamp")
    if scheduler == _OWN_SCHEDULER or pod["spec"].get("nodeName"):
        return None
    if not lasted(created, now, limits.unschedulable):
        return None
    return Doom(
        reason="Unscheduled",
        about=about_pod(pod),
        why=f"no scheduler named {scheduler} has looked at it for {limits.unschedulable:.0f} s",
        remedy="Start that scheduler, or name another one in the endpoint's placement.scheduler",
    )


def _asked(pod: Object, message: str) -> str:
    """Return what the pod asks for of the resources that the scheduler calls insufficient."""
    wanted = dict.fromkeys(re.findall(r"Insufficient ([\w./-]*\w)", message))
    requests = [(c.get("resources") or {}).get("requests") or {} for c in pod["spec"].get("containers") or []]
    parts = [
        f"{resource}: {', '.join(str(r[resource]) for r in requests if resource in r)}"
        for resource in wanted
        if any(resource in r for r in requests)
    ]
    return f" The pod asks for {'; '.join(parts)}" if parts else ""


def _scheduling_remedy(message: str) -> str:
    if "Insufficient" in message:
        return "Free or add capacity, or ask for less in the endpoint's resources: kubectl describe nodes"
    if "untolerated taint" in message:
        return "Add a toleration to the accelerator's record, or remove the taint: kubectl describe nodes"
    if "node affinity" in message or "node selector" in message:
        return "Label a node as the accelerator's node_selector asks: kubectl get nodes --show-labels"
    if "volume" in message.lower():
        return "Look at the claim and its volume's node: kubectl describe pvc"
    return "Look at the nodes: kubectl describe nodes"


def _not_mounted(pod: Object, events: list[Object], *, limits: Limits, now: datetime) -> Doom | None:
    reasons = ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox")
    found = events_of(events, pod, reasons=reasons)
    statuses = pod.get("status", {}).get("containerStatuses") or []
    if not found or any((s.get("state") or {}).get("running") or s.get("restartCount") for s in statuses):
        return None
    # A timeout's event only lists volumes; the one before it says why.
    telling = next((e for e in found if "timed out waiting" not in e.get("message", "")), found[0])
    message = telling.get("message", "")
    missing = re.search(r'(secret|configmap) "([^"]+)" not found', message)
    grace = limits.missing if missing else limits.mount
    if not lasted(min(map(first_time, found)), now, grace) or lasted(event_time(found[0]), now, 300):
        return None
    remedy = "Look at the volume and its driver: kubectl describe pvc"
    if missing:
        remedy = f"Create the {missing[1]} {missing[2]}, or correct its name"
    elif "Multi-Attach" in message:
        remedy = "The volume is still attached to another node: use ReadWriteMany, or stop the pod there"
    elif telling.get("reason") == "FailedCreatePodSandBox":
        remedy = "Look at the node's container runtime and network plugin"
    return Doom(
        reason=telling["reason"], about=about_pod(pod), why=bounded(message, limit=300), remedy=remedy
    )


def _node_lost(pod: Object, events: list[Object], *, limits: Limits, now: datetime) -> Doom | None:
    node = pod["spec"].get("nodeName", "")
    ready = condition(pod, "Ready")
    lost = pod.get("status", {}).get("reason") == "NodeLost"
    found = events_of(events, pod, reasons=("NodeNotReady",))
    gone_since = ready.get("lastTransitionTime")
    if not lost and not (found and ready.get("status") == "False" and lasted(gone_since, now, limits.node)):
        return None
    # A kubelet that came back reports its containers again, which sets Ready by a newer transition.
    if not lost and found and lasted(event_time(found[0]), now, limits.node * 5):
        return None
    return Doom(
        reason="NodeLost",
        about=about_pod(pod),
        why=f"node {node} stopped answering {f'at {gone_since}' if gone_since else ''}".strip(),
        remedy=f"Bring the node back or remove it: kubectl describe node {node}",
    )
