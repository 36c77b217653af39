"""Checks of nodes and what is on them."""

from __future__ import annotations

from slipway.checks.api import check_skew
from slipway.checks.capacity import check_capacity, check_surge
from slipway.checks.cards import check_cards, check_labels, check_simulated
from slipway.checks.check import Check, per_endpoint
from slipway.checks.drivers import check_drivers
from slipway.checks.machines import check_architecture, check_machines
from slipway.checks.node_files import check_node_files
from slipway.checks.nodes import check_images, check_nodes

NODES: tuple[Check, ...] = (
    Check(
        id="skew",
        title="kubelets are as old as the API server supports",
        scope="node",
        function=check_skew,
        remedy="Upgrade the nodes",
    ),
    Check(
        id="machines",
        title="nodes are ready and new enough",
        scope="node",
        function=check_machines,
        remedy="kubectl describe nodes",
    ),
    Check(
        id="architecture",
        title="images are for the processors of their nodes",
        scope="node",
        function=check_architecture,
        remedy="Name another image",
    ),
    Check(
        id="cards",
        title="each accelerator that the cluster offers is there",
        scope="node",
        function=check_cards,
        needs=lambda site: bool(site.devices),
        remedy="Install driver and device plugin",
    ),
    Check(
        id="drivers",
        title="NVIDIA's drivers are new enough for the images",
        scope="node",
        function=check_drivers,
        needs=lambda site: any(one.kind == "nvidia" for one in site.devices),
        remedy="Install a newer driver",
    ),
    Check(
        id="labels",
        title="nodes have the labels that the cluster's set-up names",
        scope="node",
        function=check_labels,
        remedy="kubectl label node",
    ),
    Check(
        id="simulated",
        title="simulated cards are called so",
        scope="node",
        function=check_simulated,
        needs=lambda site: any(one.resource for one in site.devices),
        remedy="Offer nvidia-simulated instead",
    ),
    Check(
        id="node-files",
        title="C library and default container runtime of nodes",
        scope="node",
        function=check_node_files,
        needs=lambda site: site.offers("hami") or site.node_pods is not None,
        remedy="Set the container runtime's default",
        deadline=300,
    ),
    Check(
        id="nodes",
        title="nodes that may take the pods are ready",
        scope="node",
        function=per_endpoint(check_nodes),
        asked=("endpoint",),
        remedy="kubectl describe nodes",
    ),
    Check(
        id="capacity",
        title="all pods find room",
        scope="node",
        function=per_endpoint(check_capacity),
        asked=("endpoint",),
        remedy="Free capacity",
    ),
    Check(
        id="surge",
        title="new pods find room beside the old",
        scope="node",
        function=per_endpoint(check_surge),
        severity="info",
        asked=("endpoint",),
    ),
    Check(
        id="images",
        title="images are on the nodes",
        scope="node",
        function=per_endpoint(check_images),
        asked=("endpoint",),
        remedy="Import the image",
    ),
)
