"""Checks of cards: how many are free on which node, what nodes are labelled with, and whether the cards are real."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction

from slipway.catalog.quantities import quantity, readable
from slipway.catalog.records import Accelerator
from slipway.checks.capacity import pod_requests
from slipway.checks.findings import Finding, Report, Severity
from slipway.checks.nodes import MOST_NODES_TOLD, let_in, why_not
from slipway.checks.subject import Site, Subject
from slipway.checks.view import View
from slipway.cluster.objects import Object, labels_of

SIMULATED_LABELS = ("run.ai/simulated-gpu-node-pool", "run.ai/fake.gpu")
"""What fake-gpu-operator is told by, and what it puts on the nodes whose cards it pretends."""

_MIG = "nvidia.com/mig.strategy"


def check_cards(view: View, site: Site) -> list[Finding]:
    """Each accelerator that the cluster offers is there: allocatable less requested, node by node."""
    report = Report("cards")
    used = _used(view) if any(device.resource for device in site.devices) else {}
    # One kind of card that is not there keeps the endpoints that want it away; all of them, everything.
    there = any(_is_there(view, device) for device in site.devices)
    severity: Severity = "warning" if there else "blocking"
    for device in site.devices:
        if device.resource is None:
            continue
        about = f"accelerator {device.name} ({device.resource})"
        wanted = [one.endpoint for one in site.endpoints if device.resource in one.requests]
        if device.offered_by == "acs":
            report.add("not checked", about, "the cloud makes such pods without nodes that could be counted")
            continue
        nodes = [node for node in view.nodes() if offered(node, device.resource)]
        if not nodes:
            report.add(severity, about, f"no node offers it{_who(wanted)}", _how_to_offer(device))
            continue
        _told_nodes(report, about, device, nodes, used, wanted=wanted)
    return report.findings


def _told_nodes(
    report: Report,
    about: str,
    device: Accelerator,
    nodes: list[Object],
    used: dict[tuple[str, str], Fraction],
    *,
    wanted: list[str],
) -> None:
    resource, subject = device.resource or "", _any_pod(device)
    free_in_all, told, excluded, closed = Fraction(0), [], [], list[Object]()
    for node in nodes:
        name = node["metadata"]["name"]
        total = offered(node, resource)
        free = total - used.get((name, resource), Fraction(0))
        why = why_not(node, subject)
        if why:
            excluded.append(f"{name}: {why}")
            closed.append(node)
            continue
        free_in_all += free
        told.append(f"{name}: {readable(resource, free)} of {readable(resource, total)} free")
    shown = "; ".join([*told, *excluded][:MOST_NODES_TOLD])
    if len(nodes) > MOST_NODES_TOLD:
        shown += f"; and {len(nodes) - MOST_NODES_TOLD} more nodes"
    if not told:
        command = let_in(closed, subject)
        remedy = "Add the toleration to the accelerator's record, or open nodes" + (
            f": {command}" if command else ""
        )
        report.add("warning", about, f"no pod may go where it is{_who(wanted)}. {shown}", remedy)
    elif free_in_all <= 0:
        remedy = "Free cards or add nodes: kubectl describe nodes"
        report.add("warning", about, f"none is free. {shown}", remedy)
    else:
        report.add("ok", about, f"{readable(resource, free_in_all)} free. {shown}")


def _is_there(view: View, device: Accelerator) -> bool:
    if device.resource is None or device.offered_by == "acs":
        return True
    return any(offered(node, device.resource) for node in view.nodes())


def _who(endpoints: list[str]) -> str:
    shown = ", ".join(endpoints[:3]) + (f" and {len(endpoints) - 3} more" if len(endpoints) > 3 else "")
    return f", so endpoint {shown} cannot run" if endpoints else ""


def _any_pod(device: Accelerator) -> Subject:
    """A pod that only wants this device: what its record says of nodes, and nothing else."""
    return Subject.model_validate(
        {
            "namespace": "any",
            "node_selector": device.node_selector,
            "node_affinity": device.node_affinity,
            "tolerations": tuple(one.model_dump(exclude_none=True) for one in device.tolerations),
        }
    )


def _how_to_offer(device: Accelerator) -> str:
    if device.offered_by == "hami":
        return "Label the nodes that have cards and see that HAMi's device plugin runs: kubectl label node NODE gpu=on"
    if device.offered_by == "simulated":
        return "kubectl label node NODE run.ai/simulated-gpu-node-pool=default, and install fake-gpu-operator"
    if device.offered_by == "mig":
        return "Cut the cards into this profile, strategy mixed: kubectl label node NODE nvidia.com/mig.config=PROFILE"
    return "Install the vendor's driver and device plugin on the nodes that have cards, or correct the cluster's record"


def offered(node: Object, resource: str | None) -> Fraction:
    """How much of a resource a node has for pods."""
    found = (node.get("status", {}).get("allocatable") or {}).get(resource)
    return quantity(found) if found else Fraction(0)


def _used(view: View) -> dict[tuple[str, str], Fraction]:
    used: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for pod in view.running_pods():
        node = pod["spec"].get("nodeName")
        if node:
            for resource, amount in pod_requests(pod).items():
                used[node, resource] += amount
    return used


def check_labels(view: View, site: Site) -> list[Finding]:
    """Labels that the cluster's record asks of nodes are on one, and MIG's strategy is one that works."""
    report = Report("labels")
    setup = site.record.setup.node_labels if site.record else {}
    for key, value in setup.items():
        having = [node for node in view.nodes() if labels_of(node).get(key) == value]
        others = [node for node in view.nodes() if labels_of(node).get(key) not in (None, value)]
        about = f"label {key}={value}"
        if having:
            report.add("ok", about, f"on {len(having)} of {len(view.nodes())} nodes")
            continue
        meant = others or [
            node for node in view.nodes() if any(offered(node, one.resource) for one in site.devices)
        ]
        names = " ".join(node["metadata"]["name"] for node in meant[:MOST_NODES_TOLD]) or "NODE"
        remedy = f"Label the nodes that are meant: kubectl label node {names} --overwrite {key}={value}"
        wrong = others[0]["metadata"]["name"] if others else ""
        told = f"on no node; {wrong} has {key}={labels_of(others[0])[key]}" if others else "on no node"
        report.add("blocking", about, told, remedy)
    for node in view.nodes():
        strategy = labels_of(node).get(_MIG)
        about = f"Node {node['metadata']['name']}"
        if strategy == "single" and (site.offers("hami") or site.offers("mig")):
            reason = (
                "MIG's strategy is single: HAMi knows only none and mixed, and profiles are not told apart"
            )
            report.add("blocking", about, reason, "Set the device plugin's MIG strategy to none or mixed")
        elif strategy not in (None, "none", "mixed", "single"):
            report.add("warning", about, f"MIG's strategy is {strategy!r}, which is none that is known")
    return report.findings


def check_simulated(view: View, site: Site) -> list[Finding]:
    """Simulated cards are called so in the catalog: a program for real cards finds none of them."""
    report = Report("simulated")
    nodes = [node for node in view.nodes() if is_simulated(node)]
    for device in site.devices:
        if device.resource is None:
            continue
        pod = _any_pod(device)
        pretending = [node for node in nodes if offered(node, device.resource)]
        fitting = [node for node in pretending if not why_not(node, pod, state=False)]
        about = f"accelerator {device.name}"
        if device.offered_by == "simulated":
            real = [
                node
                for node in view.nodes()
                if not is_simulated(node) and offered(node, device.resource) and not why_not(node, pod)
            ]
            if real:
                told = f"called simulated, but {real[0]['metadata']['name']} does not carry {SIMULATED_LABELS[1]}"
                report.add("not checked", about, told)
            elif fitting:
                names = ", ".join(node["metadata"]["name"] for node in fitting[:MOST_NODES_TOLD])
                report.add(
                    "info", about, f"simulated cards on {names}: they compute nothing, the CPU does the work"
                )
        elif fitting:
            names = ", ".join(node["metadata"]["name"] for node in fitting[:MOST_NODES_TOLD])
            report.add(
                "blocking",
                about,
                f"the cards of {names} are simulated, the cluster's record offers them as real",
                "Offer nvidia-simulated in the cluster's record, or select other nodes for this accelerator",
            )
    return report.findings


def is_simulated(node: Object) -> bool:
    """Return whether fake-gpu-operator pretends a node's cards."""
    return any(labels_of(node).get(label) not in (None, "false") for label in SIMULATED_LABELS)
