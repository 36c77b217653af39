"""Checks of a cluster as a whole."""

from __future__ import annotations

from slipway.checks import rights
from slipway.checks.api import check_api, check_certificate, check_clock
from slipway.checks.balancers import check_balancers, needs_balancers
from slipway.checks.check import BOTH, Check
from slipway.checks.classes import check_classes
from slipway.checks.datasets import check_datasets, needs_datasets
from slipway.checks.gateway import check_gateway_api, check_gateways, needs_gateway
from slipway.checks.hami import check_hami
from slipway.checks.hydra import chart_of, check_hydra
from slipway.checks.hydra_records import belongs_to_hydra, check_hydra_records
from slipway.checks.hydra_server import check_hydra_server, server_chart_of
from slipway.checks.programs import check_apis, check_webhooks

API = Check(
    id="api",
    title="the API answers and is new enough",
    scope="cluster",
    function=check_api,
    asked=BOTH,
    remedy="Correct the connection, or upgrade the cluster",
)

CLUSTERS: tuple[Check, ...] = (
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
        id="hami",
        title="HAMi runs, in the cluster's version",
        scope="cluster",
        function=check_hami,
        needs=lambda site: site.offers("hami"),
        remedy="Install HAMi",
        rights=(rights.PROGRAMS, rights.WEBHOOKS, rights.SLICES),
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
        id="balancers",
        title="load balancers give addresses",
        scope="cluster",
        function=check_balancers,
        needs=needs_balancers,
        remedy="Add addresses to the pool",
        rights=(rights.POOLS, rights.SERVICES, rights.PROGRAMS),
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
        id="hydra-records",
        title="Hydra has the models that are served here, and their vendors",
        scope="cluster",
        function=check_hydra_records,
        needs=belongs_to_hydra,
        remedy="Register them in Hydra's operations platform",
        deadline=25,
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
)
