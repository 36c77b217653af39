"""Why a container of a pod does not run: image, configuration, crash, memory, probes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from slipway.cluster.events import events_of
from slipway.cluster.objects import Object
from slipway.cluster.verdict import Doom, Limits, lasted
from slipway.errors import bounded

# Words of registries and container runtimes for pulls that fail the same way for ever.
_PERMANENT_PULL = (
    "not found",
    "manifest unknown",
    "unauthorized",
    "authentication required",
    "denied",
    "forbidden",
    "invalid reference",
    "no match for platform",
    "no such image",
    "unsupported protocol",
    "no such host",
)
# What the kubelet and containerd put before the cause, each with the image's name: the cause would be cut off.
_AROUND_A_PULL = re.compile(
    r"(?:Back-off pulling|Failed to pull|failed to pull and unpack|failed to resolve) (?:image|reference)"
    r' "[^"]*": |\bErrImagePull: |\brpc error: code = \w+ desc = '
)
_MOST_RESTARTS = 2


def container_doom(
    pod: Object, events: list[Object], *, limits: Limits, now: datetime, recreated: int = 0
) -> Doom | None:
    """Return the first reason among a pod's containers, init containers first as they run first.

    Args:
        pod: the pod.
        events: of the pod.
        limits: patience with what often mends itself.
        now: the server's time.
        recreated: how often the pod's whole group was made anew, where that is what follows a crash.
    """
    for container, status in _containers(pod):
        doom = (
            _waiting_doom(pod, container, status, events, limits=limits, now=now)
            or _killed_by_probe(pod, container, status, events)
            or _crashed(pod, container, status, recreated=recreated)
        )
        if doom:
            return doom
    return None


def about_pod(pod: Object, container: str | None = None) -> str:
    """Return how a message names a pod or one of its containers."""
    metadata = pod["metadata"]
    name = f"Pod {metadata.get('namespace', '')}/{metadata['name']}"
    return f"{name}, container {container}" if container else name


def _containers(pod: Object) -> Iterator[tuple[Object, Object]]:
    for specs, statuses in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
        known = {status["name"]: status for status in pod.get("status", {}).get(statuses) or []}
        for container in pod["spec"].get(specs) or []:
            if container["name"] in known:
                yield container, known[container["name"]]


def _waiting_doom(
    pod: Object, container: Object, status: Object, events: list[Object], *, limits: Limits, now: datetime
) -> Doom | None:
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    about = about_pod(pod, container["name"])
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        return _pull_doom(pod, container, message, events, limits=limits, now=now)
    if reason in ("InvalidImageName", "ErrImageNeverPull"):
        image = container["image"]
        remedy = (
            "Correct the image's name"
            if reason == "InvalidImageName"
            else f"Import {image} into the node's container runtime, or let it be pulled (imagePullPolicy)"
        )
        return Doom(reason=reason, about=about, why=bounded(message) or f"image {image}", remedy=remedy)
    if reason == "CreateContainerConfigError":
        if "failed to sync" in message:  # the kubelet's cache of Secrets, right after its start
            return None
        return Doom(reason=reason, about=about, why=bounded(message), remedy=_config_remedy(pod, message))
    if reason in ("CreateContainerError", "RunContainerError"):
        lasting = "no such file" in message or "not found in $PATH" in message
        if not lasting and not status.get("restartCount"):
            return None
        return Doom(reason=reason, about=about, why=bounded(message), remedy=_start_remedy(message))
    return None


def _pull_doom(
    pod: Object,
    container: Object,
    message: str,
    events: list[Object],
    *,
    limits: Limits,
    now: datetime,
) -> Doom | None:
    image = container["image"]
    failed = [
        event.get("message", "")
        for event in events_of(events, pod, reasons=("Failed",))
        if image in event.get("message", "") and "pull" in event.get("message", "").lower()
    ]
    # "Back-off pulling image" alone says nothing: the reason is in the message before it, or in the event.
    told = message if "rpc error" in message or "failed to" in message.lower() or not failed else failed[0]
    lower = told.lower()
    started = pod.get("status", {}).get("startTime")
    # Nobody serves a registry at a node's own "localhost": such images are imported, never pulled.
    for_good = image.startswith("localhost/") or any(word in lower for word in _PERMANENT_PULL)
    if not for_good and not lasted(started, now, limits.pull):
        return None
    return Doom(
        # The kubelet says ErrImagePull and ImagePullBackOff in turn: the same failure has one name.
        reason="ImagePullBackOff",
        about=about_pod(pod, container["name"]),
        why=f"image {image} cannot be pulled: {bounded(_AROUND_A_PULL.sub('', told), limit=300)}",
        remedy=_pull_remedy(lower, image),
    )


def _pull_remedy(message: str, image: str) -> str:
    if image.startswith("localhost/"):
        return "It is built and imported, not pulled: import it into the node's container runtime"
    if any(word in message for word in ("unauthorized", "authentication required", "denied", "forbidden")):
        return "Give the cluster's record a pull secret that may read it, or check the repository's name"
    if "no match for platform" in message:
        return "Use an image built for the nodes' architecture: kubectl get nodes -L kubernetes.io/arch"
    if "no such host" in message or "connection refused" in message or "timeout" in message:
        return f"The node cannot reach the registry: check its network, or import {image} into the node"
    return f"Check that the tag exists, or import {image} into the node's container runtime"


def _config_remedy(pod: Object, message: str) -> str:
    namespace = pod["metadata"].get("namespace", "")
    if "runAsNonRoot" in message or "non-numeric user" in message:
        return "Set runAsUser to a number other than 0, one that the image can run as"
    if "secret" in message.lower():
        command = f"kubectl -n {namespace} create secret generic NAME --from-literal=KEY=…"
        return f"Create the Secret with that key: {command}"
    if "configmap" in message.lower():
        command = f"kubectl -n {namespace} create configmap NAME --from-literal=KEY=…"
        return f"Create the ConfigMap with that key: {command}"
    return f"Look at it with: kubectl -n {namespace} describe pod {pod['metadata']['name']}"


def _start_remedy(message: str) -> str:
    if "no such file" in message or "not found in $PATH" in message:
        return "The image has no such program: correct the runtime's command or its image"
    return "Look at the runtime's command, volumes and security context"


def _killed_by_probe(pod: Object, container: Object, status: Object, events: list[Object]) -> Doom | None:
    killings = [
        event
        for event in events_of(events, pod, reasons=("Killing",))
        if f"Container {container['name']} failed" in event.get("message", "")
    ]
    if not killings or not status.get("restartCount"):
        return None
    kind = "startup" if "startup" in killings[0]["message"] else "liveness"
    probe = container.get(f"{kind}Probe") or {}
    budget = probe.get("initialDelaySeconds", 0) + probe.get("periodSeconds", 10) * probe.get(
        "failureThreshold", 3
    )
    unhealthy = [
        event.get("message", "")
        for event in events_of(events, pod, reasons=("Unhealthy",))
        if kind in event.get("message", "").lower()
    ]
    said = f"; the last answer was: {bounded(unhealthy[0], limit=200)}" if unhealthy else ""
    remedy = (
        "Give it a longer startup budget (startup_seconds of the runtime) if it was still loading"
        if kind == "startup"
        else "Read its log: it answered once and then stopped answering"
    )
    return Doom(
        reason="StartupProbeFailed" if kind == "startup" else "LivenessProbeFailed",
        about=about_pod(pod, container["name"]),
        why=f"its {kind} probe did not pass within {budget} s, so it was killed{said}",
        remedy=remedy,
        pod=pod["metadata"]["name"],
        container=container["name"],
        previous=True,
    )


def _crashed(pod: Object, container: Object, status: Object, *, recreated: int) -> Doom | None:
    state = status.get("state") or {}
    now_ended = state.get("terminated")
    ended = now_ended or (status.get("lastState") or {}).get("terminated") or {}
    if not ended:
        return None
    restarts = recreated or status.get("restartCount", 0)
    again = _times(restarts, what="its group made anew" if recreated else "restarted")
    out_of_memory = ended.get("reason") == "OOMKilled"
    backing_off = (state.get("waiting") or {}).get("reason") == "CrashLoopBackOff"
    for_good = bool(now_ended) and pod["spec"].get("restartPolicy") == "Never" and ended.get("exitCode") != 0
    if not (backing_off or restarts >= _MOST_RESTARTS or for_good or out_of_memory):
        return None
    if restarts and not backing_off and not recreated and status.get("ready"):
        return None  # it came up after all
    about = about_pod(pod, container["name"])
    place = {"pod": pod["metadata"]["name"], "container": container["name"], "previous": not now_ended}
    if out_of_memory:
        limit = (container.get("resources") or {}).get("limits", {}).get("memory", "")
        held = f"its memory limit of {limit}" if limit else "the node's memory (it has no limit of its own)"
        return Doom(
            reason="OOMKilled",
            about=about,
            why=f"it needed more than {held} (exit code {ended.get('exitCode')}, {again})",
            remedy="Raise the endpoint's memory, or ask for less: a shorter context, a smaller KV cache",
            **place,
        )
    return Doom(
        reason="CrashLoopBackOff" if backing_off or restarts else "Crashed",
        about=about,
        why=f"{_exit(ended)}, {again}",
        remedy="It is to serve until it is told to stop: correct the runtime's command or args"
        if ended.get("exitCode") == 0
        else "The end of its log is in the log of the wait step and in the release's evidence",
        **place,
    )


def _times(count: int, *, what: str) -> str:
    return f"{what} once" if count == 1 else f"{what} {count} times"


def _exit(ended: Object) -> str:
    code = ended.get("exitCode")
    message = bounded(ended.get("message") or "", limit=200)
    signal = ended.get("signal") or (code - 128 if isinstance(code, int) and 128 < code < 160 else None)
    text = f"it ends with exit code {code}" + (f" (signal {signal})" if signal else "")
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        text = f"it cannot be started (exit code {code})"
    return f"{text}: {message}" if message else text
