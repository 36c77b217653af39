"""The registry: every check as data and one function."""

from __future__ import annotations

from slipway.checks import rights
from slipway.checks.api import check_api, check_certificate, check_clock, check_skew
from slipway.checks.balancers import check_balancers, needs_balancers
from slipway.checks.capacity import check_capacity, check_sizing, check_surge
from slipway.checks.cards import check_cards, check_labels, check_simulated
from slipway.checks.check import BOTH, Check, per_endpoint
from slipway.checks.classes import check_classes
from slipway.checks.datasets import check_acs, check_datasets, needs_datasets
from slipway.checks.drivers import check_drivers
from slipway.checks.gateway import check_gateway_api, check_gateways, needs_gateway
from slipway.checks.hami import check_hami
from slipway.checks.hydra import chart_of, check_hydra
from slipway.checks.hydra_server import check_hydra_server, server_chart_of
from slipway.checks.machines import check_architecture, check_machines
from slipway.checks.namespaces import check_namespace, check_quotas
from slipway.checks.node_files import check_node_files
from slipway.checks.nodes import check_images, check_nodes
from slipway.checks.permissions import check_permissions
from slipway.checks.plans import check_plans
from slipway.checks.programs import check_apis, check_webhooks
from slipway.checks.reach import check_reach
from slipway.checks.routes import check_names, check_routes
from slipway.checks.storage import check_secrets, check_storage
from slipway.checks.volumes import check_volumes

API = Check(
    id="api",
    title="the API answers and is new enough",
    scope="cluster",
    function=check_api,
    asked=BOTH,
    remedy="Correct the connection, or upgrade the cluster",
)

CHECKS: tuple[Check, ...] = (
    API,
    Check(
        id="certificate",
        title="the API's certificate has days left",
        scope="cluster",
        function=check_certificate,
        remedy="Renew it",
        deadline=15,
    ),
    Check(
        id="clock",
        title="clocks agree",
        scope="cluster",
        function=check_clock,
        remedy="Let NTP set the clocks",
        rights=(rights.NODE_LEASES,),
    ),
    Check(
        id="skew",
        title="kubelets are as old as the API server supports",
        scope="node",
        function=check_skew,
        remedy="Upgrade the nodes",
    ),
    Check(
        id="permissions",
        title="the connection's user may do what Slipway does",
        scope="endpoint",
        function=check_permissions,
        asked=BOTH,
        remedy="Apply the role that is printed",
    ),
    Check(
        id="plans",
        title="every endpoint of the cluster can be planned",
        scope="endpoint",
        function=check_plans,
        severity="not checked",
        remedy="slipway validate",
    ),
    Check(
        id="namespace",
        title="the namespace is there, as strict as planned",
        scope="endpoint",
        function=per_endpoint(check_namespace),
        asked=BOTH,
        remedy="Make the namespace",
    ),
    Check(
        id="quotas",
        title="quotas and limit ranges let the pods in",
        scope="endpoint",
        function=check_quotas,
        remedy="Raise the quota",
        rights=(rights.QUOTAS,),
    ),
    Check(
        id="apis",
        title="the cluster has the kinds of objects that endpoints consist of",
        scope="cluster",
        function=check_apis,
        asked=BOTH,
        remedy="Install what brings them",
        rights=(rights.PROGRAMS,),
    ),
    Check(
        id="webhooks",
        title="admission webhooks answer",
        scope="cluster",
        function=check_webhooks,
        remedy="Bring their pods up",
        rights=(rights.WEBHOOKS, rights.SLICES),
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
        id="hami",
        title="HAMi runs, in the cluster's version",
        scope="cluster",
        function=check_hami,
        needs=lambda site: site.offers("hami"),
        remedy="Install HAMi",
        rights=(rights.PROGRAMS, rights.WEBHOOKS, rights.SLICES),
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
        id="classes",
        title="storage classes are there and fit",
        scope="cluster",
        function=check_classes,
        remedy="Make the storage class",
        rights=(rights.DRIVERS,),
    ),
    Check(
        id="storage",
        title="the volume is there or can be made",
        scope="endpoint",
        function=per_endpoint(check_storage),
        asked=BOTH,
        remedy="Make or change the claim",
    ),
    Check(
        id="secrets",
        title="Secrets have their keys",
        scope="endpoint",
        function=per_endpoint(check_secrets),
        asked=BOTH,
        remedy="Make the Secret",
    ),
    Check(
        id="gateway-api",
        title="the Gateway API is installed, new enough",
        scope="cluster",
        function=check_gateway_api,
        needs=needs_gateway,
        remedy="Install the Gateway API",
        rights=(rights.DEFINITIONS,),
    ),
    Check(
        id="gateways",
        title="Gateways are programmed, with address and certificate",
        scope="cluster",
        function=check_gateways,
        asked=BOTH,
        needs=needs_gateway,
        remedy="kubectl describe gateway",
        rights=(rights.GATEWAYS,),
    ),
    Check(
        id="routes",
        title="routes are accepted and lead somewhere",
        scope="endpoint",
        function=check_routes,
        needs=lambda site: bool(site.all_routes),
        remedy="kubectl describe httproute",
        rights=(rights.GATEWAYS, rights.SERVICES, rights.SLICES),
    ),
    Check(
        id="balancers",
        title="load balancers give addresses",
        scope="cluster",
        function=check_balancers,
        needs=needs_balancers,
        remedy="Add addresses to the pool",
        rights=(rights.POOLS, rights.SERVICES, rights.PROGRAMS),
    ),
    Check(
        id="names",
        title="hosts of routes resolve to their Gateway",
        scope="endpoint",
        function=check_names,
        severity="warning",
        needs=lambda site: any(one.hosts for one in site.all_routes),
        remedy="Point the name at the Gateway",
        rights=(rights.GATEWAYS,),
        deadline=20,
    ),
    Check(
        id="hydra",
        title="Hydra's agent runs as the cluster's record says",
        scope="cluster",
        function=check_hydra,
        needs=lambda site: chart_of(site) is not None,
        remedy="Install or configure the agent",
        rights=(rights.PROGRAMS, rights.HYDRA_CONFIG, rights.GATEWAYS, rights.DATASET_STATE),
    ),
    Check(
        id="hydra-server",
        title="Hydra runs, with its database and cache",
        scope="cluster",
        function=check_hydra_server,
        needs=lambda site: server_chart_of(site) is not None,
        remedy="Install or configure Hydra",
        rights=(rights.PROGRAMS, rights.HYDRA_CONFIG, rights.SERVICES, rights.SLICES),
    ),
    Check(
        id="datasets",
        title="data set operators run and deliver",
        scope="cluster",
        function=check_datasets,
        needs=needs_datasets,
        remedy="Install the operator",
        rights=(rights.PROGRAMS, rights.WEBHOOKS, rights.FLUID_STATE, rights.DATASET_STATE),
    ),
    Check(
        id="acs",
        title="pods name what Alibaba's container service asks for",
        scope="endpoint",
        function=check_acs,
        needs=lambda site: site.offers("acs"),
        remedy="Set the accelerator's pod_labels",
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
        id="sizing",
        title="the model fits its memory",
        scope="endpoint",
        function=per_endpoint(check_sizing),
        severity="info",
        asked=("endpoint",),
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
    Check(
        id="volume",
        title="a volume can be bound, written and read by two pods",
        scope="cluster",
        function=check_volumes,
        asked=("active",),
        remedy="kubectl describe storageclass",
        deadline=600,
    ),
    Check(
        id="reach",
        title="pods reach DNS, registry, Gateway and sources",
        scope="cluster",
        function=check_reach,
        asked=("active",),
        remedy="Open the way from the cluster's pods",
        rights=(rights.GATEWAYS,),
        deadline=300,
    ),
)
