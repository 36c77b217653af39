"""Checks of nodes: which may take the pods, in which state they are, what is free on each, which images they have."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from fractions import Fraction

from slipway.checks.findings import Finding, blocking
from slipway.checks.quantities import quantity, readable
from slipway.checks.subject import Subject, View
from slipway.cluster.objects import Object, labels_of
from slipway.cluster.verdict import condition

_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")
_MOST_NODES_TOLD = 5
KUBELET_IMAGES = 50
"""A node's status lists at most this many images (the kubelet's nodeStatusMaxImages), the largest first."""

NODE_STATUS_SECONDS = 15.0
"""For how long an image that is on no node is looked for again: the kubelet's ten seconds and some."""

Amounts = dict[str, Fraction]


def check_nodes(view: View, subject: Subject) -> list[Finding]:
    """The nodes that may take the pods are ready and not under pressure."""
    findings = []
    for node in view.nodes():
        name = node["metadata"]["name"]
        if why_not(node, subject, state=False):
            continue
        pressures = [kind for kind in _PRESSURES if condition(node, kind).get("status") == "True"]
        if not _is_ready(node):
            told = condition(node, "Ready").get("message") or "it does not report"
            findings.append(_node(name, "warning", f"not ready: {told}", f"kubectl describe node {name}"))
        elif pressures:
            reason = f"under {', '.join(pressures)}: pods may be evicted"
            findings.append(_node(name, "warning", reason, f"Free it: kubectl describe node {name}"))
        elif node["spec"].get("unschedulable"):
            findings.append(_node(name, "info", "closed for new pods", f"kubectl uncordon {name}"))
        else:
            findings.append(_node(name, "ok", "ready, no pressure"))
    good = [finding for finding in findings if finding.severity == "ok"]
    if len(good) > _MOST_NODES_TOLD:
        findings = [finding for finding in findings if finding.severity != "ok"]
        findings.append(_node(f"{len(good)} nodes", "ok", "ready, no pressure"))
    if not findings:
        return [_none_fits(view, subject)]
    return findings


def _none_fits(view: View, subject: Subject) -> Finding:
    reasons = [
        f"{node['metadata']['name']}: {why_not(node, subject, state=False)}"
        for node in view.nodes()[:_MOST_NODES_TOLD]
    ]
    return Finding(
        check="nodes",
        severity="blocking",
        about="all nodes",
        reason=f"none of {len(view.nodes())} may take the pods: {'; '.join(reasons)}",
        remedy="Label a node, or add a toleration to the accelerator's record: kubectl get nodes --show-labels",
    )


def why_not(node: Object, subject: Subject, *, state: bool = True) -> str:
    """Return why a node may not take the pods, or "" when it may.

    Args:
        node: the node.
        subject: with node selector and tolerations.
        state: whether the node's present state counts too: not ready, closed, and the taints that say so.
    """
    labels = labels_of(node)
    for key, value in subject.node_selector.items():
        if labels.get(key) != value:
            return f"label {key} is {labels.get(key, 'missing')}, not {value}"
    for taint in node["spec"].get("taints") or []:
        if taint["key"].startswith("node.kubernetes.io/") and not state:
            continue
        if taint["effect"] != "PreferNoSchedule" and not _tolerated(taint, subject.tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"taint {taint['key']}{value}:{taint['effect']} is not tolerated"
    if state and not _is_ready(node):
        return "not ready"
    if state and node["spec"].get("unschedulable"):
        return "closed for new pods"
    return ""


def _tolerated(taint: Object, tolerations: Iterable[Mapping[str, object]]) -> bool:
    for toleration in tolerations:
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        if toleration.get("operator") == "Exists":
            if toleration.get("key") in (None, "", taint["key"]):
                return True
        elif (toleration.get("key"), toleration.get("value") or "") == (
            taint["key"],
            taint.get("value") or "",
        ):
            return True
    return False


def check_capacity(view: View, subject: Subject) -> list[Finding]:
    """All replicas fit: allocatable less requested, for each node that may take them, for each resource.

    What the scheduler also weighs (affinity, spread, a volume's node, pods that wait before these) is not counted,
    so "ok" says that there is room, not that nothing else can come between.
    """
    if not subject.requests or not subject.replicas:
        return []
    wanted = {resource: quantity(amount) for resource, amount in subject.requests.items()}
    used = _used(view.running_pods(), subject)
    room, told = 0, []
    for node in view.nodes():
        name, excluded = node["metadata"]["name"], why_not(node, subject)
        if excluded:
            told.append(f"{name}: {excluded}")
            continue
        free = _free(node, used[name])
        fits = _fits(free, wanted)
        room += fits
        amounts = ", ".join(f"{resource} {_told(resource, free)} free" for resource in wanted)
        told.append(f"{name}: {amounts}" + ("" if fits else " (too little)"))
    each = ", ".join(f"{resource} {amount}" for resource, amount in subject.requests.items())
    pods = "1 pod" if subject.replicas == 1 else f"{subject.replicas} pods"
    about = f"{pods} of {each}"
    listed = "; ".join(told[:_MOST_NODES_TOLD])
    if len(told) > _MOST_NODES_TOLD:
        listed += f"; and {len(told) - _MOST_NODES_TOLD} more nodes"
    if room >= subject.replicas:
        return [Finding(check="capacity", severity="ok", about=about, reason=f"room for {room}. {listed}")]
    return [
        Finding(
            check="capacity",
            severity="blocking",
            about=about,
            reason=f"room for {room} of {subject.replicas}. {listed}",
            remedy="Free or add capacity, or ask for less in the endpoint's resources: kubectl describe nodes",
        )
    ]


def _used(pods: Iterable[Object], subject: Subject) -> dict[str, Amounts]:
    used: dict[str, Amounts] = defaultdict(lambda: defaultdict(Fraction))
    for pod in pods:
        node = pod["spec"].get("nodeName")
        if (
            not node
            or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
            or _makes_room(pod, subject)
        ):
            continue
        used[node]["pods"] += 1
        for resource, amount in pod_requests(pod).items():
            used[node][resource] += amount
    return used


def _makes_room(pod: Object, subject: Subject) -> bool:
    if not subject.replaced or pod["metadata"].get("namespace") != subject.namespace:
        return False
    labels = labels_of(pod)
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


def _is_ready(node: Object) -> bool:
    return condition(node, "Ready").get("status") == "True"


def _node(name: str, severity: str, reason: str, remedy: str = "") -> Finding:
    about = name if " " in name else f"Node {name}"
    return Finding.model_validate(
        {"check": "nodes", "severity": severity, "about": about, "reason": reason, "remedy": remedy}
    )


def check_images(view: View, subject: Subject) -> list[Finding]:
    """Each image is on the nodes, or somewhere it can be pulled from, which only a pull can show.

    A node lists an image that was imported or pulled a moment ago only with its next status (kubelet's
    ``nodeStatusUpdateFrequency``, 10 s), so what is missing is looked for again before it is a finding.
    """
    nodes, given_up = view.nodes(), time.monotonic() + NODE_STATUS_SECONDS
    while True:
        able = [node for node in nodes if not why_not(node, subject)]
        findings = [_image(image, able, subject) for image in dict.fromkeys(subject.images)]
        if not blocking(findings) or time.monotonic() > given_up:
            return findings
        time.sleep(1)
        nodes = view.nodes_now()


def _image(image: str, nodes: list[Object], subject: Subject) -> Finding:
    wanted = full_name(image)
    having = [node for node in nodes if wanted in _image_names(node)]
    lacking = [node["metadata"]["name"] for node in nodes if node not in having]
    # Nobody serves a registry at the nodes' own "localhost": such images are imported, not pulled.
    only_local = subject.pull_policy == "Never" or wanted.startswith("localhost/")
    unsure = any(len(_images(node)) >= KUBELET_IMAGES for node in nodes if node not in having)

    def finding(severity: str, reason: str, remedy: str = "") -> Finding:
        return Finding.model_validate(
            {"check": "images", "severity": severity, "about": image, "reason": reason, "remedy": remedy}
        )

    import_it = (
        f"Import it there: ctr -n k8s.io images import FILE (nodes: {', '.join(lacking[:_MOST_NODES_TOLD])})"
    )
    if not nodes:
        return finding("not checked", "no node may take the pods now")
    if subject.pull_policy == "Always":
        return finding("not checked", "it is pulled at each start (imagePullPolicy Always)")
    if not lacking:
        return finding("ok", "on every node that may take the pods")
    if unsure:
        where = f"not in the list of {', '.join(lacking[:_MOST_NODES_TOLD])}"
        return finding("not checked", f"{where}, but a node lists only {KUBELET_IMAGES} images")
    if not only_local:
        where = f"not yet on {', '.join(lacking[:_MOST_NODES_TOLD])}"
        return finding("not checked", f"{where}; whether it can be pulled shows when a pod starts")
    if having:
        names = ", ".join(node["metadata"]["name"] for node in having[:_MOST_NODES_TOLD])
        return finding("warning", f"only on {names}, and it cannot be pulled", import_it)
    return finding("blocking", "on no node that may take the pods, and it cannot be pulled", import_it)


def _images(node: Object) -> list[Object]:
    return node.get("status", {}).get("images") or []


def _image_names(node: Object) -> set[str]:
    return {full_name(name) for image in _images(node) for name in image.get("names") or []}


def full_name(image: str) -> str:
    """Return an image's name as container runtimes list it: with registry, and with a tag or digest."""
    first, slash, _ = image.partition("/")
    if not slash:
        image = f"docker.io/library/{image}"
    elif "." not in first and ":" not in first and first != "localhost":
        image = f"docker.io/{image}"
    if "@" in image:
        repository, digest = image.split("@", 1)
        return f"{_without_tag(repository)}@{digest}"
    return image if ":" in image.rpartition("/")[2] else f"{image}:latest"


def _without_tag(repository: str) -> str:
    path, slash, last = repository.rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"
