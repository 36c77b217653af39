"""Checks of all nodes of a cluster: their state, kernel, container runtime and architecture."""

from __future__ import annotations

import re
from collections import defaultdict

from slipway.checks.api import node_info
from slipway.checks.findings import Finding, Report
from slipway.checks.nodes import MOST_NODES_TOLD, is_ready, let_in, pressures_of, why_not
from slipway.checks.subject import Site, Subject
from slipway.checks.view import View
from slipway.cluster.objects import Object
from slipway.cluster.verdict import condition

OLDEST_KERNEL = (3, 10)
"""What HAMi's table asks for; Kubernetes itself wants more by now, so this is the least of all."""

_ARCHITECTURES = {"arm64": ("arm64", "aarch64"), "amd64": ("amd64", "x86_64", "x86-64")}


def check_machines(view: View, site: Site) -> list[Finding]:
    """Every node is ready, not under pressure, and has a kernel and a container runtime that will do."""
    report, good = Report("machines"), []
    for node in view.nodes():
        name = node["metadata"]["name"]
        before = len(report.findings)
        _state(report, node)
        _programs(report, node)
        if len(report.findings) == before:
            good.append(name)
    if good:
        # One line for all: a cluster of 500 good nodes is one good thing.
        shown = ", ".join(good[:MOST_NODES_TOLD])
        more = f" and {len(good) - MOST_NODES_TOLD} more" if len(good) > MOST_NODES_TOLD else ""
        reason = f"ready, no pressure, {_summary(view.nodes())}"
        report.add("ok", f"{len(good)} nodes ({shown}{more})" if len(good) > 1 else f"Node {shown}", reason)
    ready = [node for node in view.nodes() if is_ready(node) and not node["spec"].get("unschedulable")]
    if not ready:
        closed = [one for one in view.nodes() if is_ready(one) and one["spec"].get("unschedulable")]
        remedy = let_in(closed, Subject(namespace="any")) or "kubectl describe nodes"
        report.add("blocking", "all nodes", f"none of {len(view.nodes())} takes pods", remedy)
    return report.findings


def _state(report: Report, node: Object) -> None:
    name = node["metadata"]["name"]
    about = f"Node {name}"
    if not is_ready(node):
        told = condition(node, "Ready").get("message") or "it does not report"
        report.add("warning", about, f"not ready: {told}", f"kubectl describe node {name}")
    elif pressures_of(node):
        told = f"under {', '.join(pressures_of(node))}: pods may be evicted"
        report.add("warning", about, told, f"Free it: kubectl describe node {name}")
    elif condition(node, "NetworkUnavailable").get("status") == "True":
        report.add("warning", about, "its network is not set up", f"kubectl describe node {name}")
    if node["spec"].get("unschedulable"):
        report.add("info", about, "closed for new pods", f"kubectl uncordon {name}")


def _programs(report: Report, node: Object) -> None:
    about = f"Node {node['metadata']['name']}"
    kernel = node_info(node, "kernelVersion")
    found = re.match(r"(\d+)\.(\d+)", kernel)
    if found is None:
        report.add("not checked", about, f"its kernel's version {kernel!r} says nothing")
    elif (int(found[1]), int(found[2])) < OLDEST_KERNEL:
        oldest = ".".join(map(str, OLDEST_KERNEL))
        report.add("blocking", about, f"kernel {kernel} is older than {oldest}", "Upgrade the node's kernel")
    runtime = node_info(node, "containerRuntimeVersion")
    if not runtime:
        report.add("not checked", about, "it names no container runtime")
    elif runtime.startswith("docker://"):
        # Kubernetes 1.24 took dockershim out; cri-dockerd still reports so.
        report.add("info", about, f"container runtime {runtime}, through cri-dockerd")


def _summary(nodes: list[Object]) -> str:
    kernels = sorted({node_info(node, "kernelVersion").partition("-")[0] for node in nodes} - {""})
    runtimes = sorted({node_info(node, "containerRuntimeVersion") for node in nodes} - {""})
    return f"kernel {', '.join(kernels[:3]) or '?'}, {', '.join(runtimes[:3]) or 'no runtime named'}"


def check_architecture(view: View, site: Site) -> list[Finding]:
    """The images of every endpoint are for the processors of the nodes that may run them.

    A node lists images without their architecture. What can be known: an image that a node has is for it, and one
    whose name says another architecture is not.
    """
    report = Report("architecture")
    for subject in site.endpoints:
        by_architecture: dict[str, list[Object]] = defaultdict(list)
        for node in view.nodes():
            if not why_not(node, subject, state=False):
                by_architecture[node_info(node, "architecture")].append(node)
        for architecture, nodes in sorted(by_architecture.items()):
            _image_on(report, subject, architecture, nodes)
    return report.findings


def _image_on(report: Report, subject: Subject, architecture: str, nodes: list[Object]) -> None:
    for image in subject.images:
        names = next(
            (one for one, words in _ARCHITECTURES.items() if any(word in image for word in words)), ""
        )
        if names and names != architecture:
            shown = ", ".join(node["metadata"]["name"] for node in nodes[:MOST_NODES_TOLD])
            report.add(
                "blocking",
                image,
                f"it is for {names} by its name; {shown} are {architecture}",
                f"Name an image for {architecture} in the runtime, or select other nodes in the accelerator",
            )
        elif architecture not in _ARCHITECTURES:
            shown = nodes[0]["metadata"]["name"]
            told = (
                f"whether it runs on {architecture or 'an unnamed architecture'} (Node {shown}) is not known"
            )
            report.add("not checked", image, told)
        elif architecture == "arm64" and not names:
            told = "its name does not say whether it is also for arm64, which some nodes are"
            report.add("not checked", image, told, f"docker manifest inspect {image}")
        else:
            report.add("ok", image, f"taken to be for {architecture}, as every node that may run it is")
