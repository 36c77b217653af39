"""Checks of what endpoints need, each or all of a cluster."""

from __future__ import annotations

from slipway.checks import rights
from slipway.checks.capacity import check_sizing
from slipway.checks.check import BOTH, Check, per_endpoint
from slipway.checks.datasets import check_acs
from slipway.checks.namespaces import check_namespace, check_quotas
from slipway.checks.permissions import check_permissions
from slipway.checks.plans import check_plans
from slipway.checks.routes import check_names, check_routes
from slipway.checks.storage import check_secrets, check_storage

ENDPOINTS: tuple[Check, ...] = (
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
        id="routes",
        title="routes are accepted and lead somewhere",
        scope="endpoint",
        function=check_routes,
        needs=lambda site: bool(site.all_routes),
        remedy="kubectl describe httproute",
        rights=(rights.GATEWAYS, rights.SERVICES, rights.SLICES),
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
        id="acs",
        title="pods name what Alibaba's container service asks for",
        scope="endpoint",
        function=check_acs,
        needs=lambda site: site.offers("acs"),
        remedy="Set the accelerator's pod_labels",
    ),
    Check(
        id="sizing",
        title="the model fits its memory",
        scope="endpoint",
        function=per_endpoint(check_sizing),
        severity="info",
        asked=("endpoint",),
    ),
)
