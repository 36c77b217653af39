"""Checks of nodes: which may take the pods, in which state they are, which images they have."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from slipway.checks.findings import Finding, blocking
from slipway.checks.subject import Subject
from slipway.checks.view import View
from slipway.cluster.objects import Object, labels_of
from slipway.cluster.verdict import condition

_PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")
MOST_NODES_TOLD = 5
KUBELET_IMAGES = 50
"""A node's status lists at most this many images (the kubelet's nodeStatusMaxImages), the largest first."""

NODE_STATUS_SECONDS = 15.0
"""For how long an image that is on no node is looked for again: the kubelet's ten seconds and some."""


def check_nodes(view: View, subject: Subject) -> list[Finding]:
    """The nodes that may take the pods are ready and not under pressure."""
    findings = []
    for node in view.nodes():
        name = node["metadata"]["name"]
        if why_not(node, subject, state=False):
            continue
        pressures = pressures_of(node)
        if not is_ready(node):
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
    if len(good) > MOST_NODES_TOLD:
        findings = [finding for finding in findings if finding.severity != "ok"]
        findings.append(_node(f"{len(good)} nodes", "ok", "ready, no pressure"))
    if not findings:
        return [_none_fits(view, subject)]
    return findings


def _none_fits(view: View, subject: Subject) -> Finding:
    reasons = [
        f"{node['metadata']['name']}: {why_not(node, subject, state=False)}"
        for node in view.nodes()[:MOST_NODES_TOLD]
    ]
    return Finding(
        check="nodes",
        severity="blocking",
        about="all nodes",
        reason=f"none of {len(view.nodes())} may take the pods: {'; '.join(reasons)}",
        remedy=f"Correct the accelerator's record, or open the nodes that are meant: {let_in(view.nodes(), subject)}",
    )


def why_not(node: Object, subject: Subject, *, state: bool = True) -> str:
    """Return why a node may not take the pods, or "" when it may.

    Args:
        node: the node.
        subject: with node name, node selector, node affinity and tolerations.
        state: whether the node's present state counts too: not ready, closed, and the taints that say so.
    """
    elsewhere = _elsewhere(node, subject)
    if elsewhere:
        return elsewhere
    for taint in node["spec"].get("taints") or []:
        if taint["key"].startswith("node.kubernetes.io/") and not state:
            continue
        if taint["effect"] != "PreferNoSchedule" and not _tolerated(taint, subject.tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            return f"taint {taint['key']}{value}:{taint['effect']} is not tolerated"
    if state and not is_ready(node):
        return "not ready"
    if state and node["spec"].get("unschedulable"):
        return "closed for new pods"
    return ""


def let_in(nodes: Iterable[Object], subject: Subject) -> str:
    """Return the command that lets the pods onto nodes that exclude them, as far as commands can; "" for none."""
    changes: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        labels, name = labels_of(node), node["metadata"]["name"]
        wanted = {key: [value] for key, value in subject.node_selector.items()} | subject.node_affinity
        for key, values in wanted.items():
            if labels.get(key) not in values:
                changes.setdefault(("label", f"--overwrite {key}={values[0]}"), []).append(name)
        for taint in node["spec"].get("taints") or []:
            if taint["effect"] != "PreferNoSchedule" and not _tolerated(taint, subject.tolerations):
                changes.setdefault(("taint", f"{taint['key']}:{taint['effect']}-"), []).append(name)
        if node["spec"].get("unschedulable"):
            changes.setdefault(("uncordon", ""), []).append(name)
    return " && ".join(
        f"kubectl {verb} {' '.join(names[:MOST_NODES_TOLD])} {change}".rstrip()
        if verb == "uncordon"
        else f"kubectl {verb} node {' '.join(names[:MOST_NODES_TOLD])} {change}"
        for (verb, change), names in changes.items()
    )


def _elsewhere(node: Object, subject: Subject) -> str:
    """Return what the node lacks of a name or labels that the pods want, or ""."""
    labels, name = labels_of(node), node["metadata"]["name"]
    if subject.node_name and name != subject.node_name:
        return f"the pods are bound to node {subject.node_name}"
    for key, value in subject.node_selector.items():
        if labels.get(key) != value:
            return f"label {key} is {labels.get(key, 'missing')}, not {value}"
    for key, values in subject.node_affinity.items():
        if labels.get(key) not in values:
            return f"label {key} is {labels.get(key, 'missing')}, none of {', '.join(values)}"
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


def is_ready(node: Object) -> bool:
    """Return whether a node reports that it is ready."""
    return condition(node, "Ready").get("status") == "True"


def pressures_of(node: Object) -> list[str]:
    """Return what a node is short of: memory, disk, process numbers."""
    return [kind for kind in _PRESSURES if condition(node, kind).get("status") == "True"]


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
        f"Import it there: ctr -n k8s.io images import FILE (nodes: {', '.join(lacking[:MOST_NODES_TOLD])})"
    )
    if not nodes:
        return finding("not checked", "no node may take the pods now")
    if subject.pull_policy == "Always":
        return finding("not checked", "it is pulled at each start (imagePullPolicy Always)")
    if not lacking:
        return finding("ok", "on every node that may take the pods")
    if unsure:
        where = f"not in the list of {', '.join(lacking[:MOST_NODES_TOLD])}"
        return finding("not checked", f"{where}, but a node lists only {KUBELET_IMAGES} images")
    if not only_local:
        where = f"not yet on {', '.join(lacking[:MOST_NODES_TOLD])}"
        return finding("not checked", f"{where}; whether it can be pulled shows when a pod starts")
    if having:
        names = ", ".join(node["metadata"]["name"] for node in having[:MOST_NODES_TOLD])
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
