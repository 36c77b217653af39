"""Checks of NVIDIA's drivers: new enough for themselves, and for the CUDA of the endpoints' images.

Labels are those of NVIDIA's GPU feature discovery
(https://github.com/NVIDIA/k8s-device-plugin/tree/main/docs/gpu-feature-discovery); the older ones of each pair are
deprecated there and still found.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable

from slipway.checks.cards import is_simulated, offered
from slipway.checks.findings import Finding, Report
from slipway.checks.nodes import MOST_NODES_TOLD, why_not
from slipway.checks.subject import Site, Subject
from slipway.checks.view import View
from slipway.cluster.objects import Object, labels_of

OLDEST_DRIVER = 440
"""What HAMi's table asks for; older ones know no CUDA 10.2."""

_DRIVER = ("nvidia.com/cuda.driver-version.major", "nvidia.com/cuda.driver.major")
_CUDA = ("nvidia.com/cuda.runtime-version.major", "nvidia.com/cuda.runtime.major")
_IMAGE_CUDA = re.compile(r"(?:cuda|cu)[-_.]?(\d{2})(?:[.\d]|$|[-_])")


def check_drivers(view: View, site: Site) -> list[Finding]:
    """NVIDIA's driver is new enough, and its CUDA not older than that of the endpoints' images."""
    report = Report("drivers")
    resources = {one.resource for one in site.devices if one.kind == "nvidia" and one.offered_by != "acs"}
    nodes = [
        node
        for node in view.nodes()
        if not is_simulated(node) and any(offered(node, resource) for resource in resources)
    ]
    for node in nodes:
        _driver(report, node)
    for subject in site.endpoints:
        if resources & set(subject.requests):
            _cuda(report, subject, nodes)
    return _many_as_one(report, "ok", lambda count: f"{count} nodes")


def _driver(report: Report, node: Object) -> None:
    name, found = node["metadata"]["name"], _label(node, _DRIVER)
    about = f"Node {name}"
    if found is None or not found.isdigit():
        remedy = "Install NVIDIA's GPU feature discovery, or look on the node: nvidia-smi"
        report.add("not checked", about, f"no label {_DRIVER[0]} says which driver it has", remedy)
    elif int(found) < OLDEST_DRIVER:
        reason = f"driver {found} is older than {OLDEST_DRIVER}"
        report.add("blocking", about, reason, "Install a newer driver on the node")
    else:
        report.add("ok", about, f"driver {found}, CUDA {_label(node, _CUDA) or 'not named'}")


def _cuda(report: Report, subject: Subject, nodes: list[Object]) -> None:
    able = [node for node in nodes if not why_not(node, subject, state=False)]
    for image in subject.images:
        if image == subject.tools_image:
            continue
        wanted = _IMAGE_CUDA.search(image.rpartition("/")[2])
        about = f"{image} of endpoint {subject.endpoint}"
        if wanted is None:
            told = "neither its name nor anything else says which CUDA it has; an older driver refuses a newer one"
            report.add("not checked", about, told)
            continue
        for node in able:
            have = _label(node, _CUDA)
            name = node["metadata"]["name"]
            if have is None or not have.isdigit():
                report.add("not checked", about, f"no label {_CUDA[0]} says which CUDA {name}'s driver knows")
            elif int(have) < int(wanted[1]):
                reason = f"it has CUDA {wanted[1]}, the driver of {name} knows CUDA {have} at most (error 803 or 804)"
                report.add(
                    "blocking", about, reason, f"Install a newer driver on {name}, or name an older image"
                )


def _label(node: Object, keys: tuple[str, ...]) -> str | None:
    return next((labels_of(node)[key] for key in keys if key in labels_of(node)), None)


def _many_as_one(report: Report, severity: str, about: Callable[[int], str]) -> list[Finding]:
    """Many findings of one severity with one reason are one line: a cluster has hundreds of equal nodes."""
    by_reason: dict[str, list[Finding]] = defaultdict(list)
    for one in report.findings:
        if one.severity == severity:
            by_reason[one.reason].append(one)
    folded = [
        same[0] if len(same) <= MOST_NODES_TOLD else same[0].model_copy(update={"about": about(len(same))})
        for same in by_reason.values()
    ]
    few = [one for same in by_reason.values() if len(same) <= MOST_NODES_TOLD for one in same[1:]]
    return [one for one in report.findings if one.severity != severity] + folded + few
