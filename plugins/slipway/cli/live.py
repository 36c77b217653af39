"""Commands that ask a cluster: check, diff."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from slipway.catalog.names import ENDPOINT_LABEL
from slipway.catalog.read import read_catalog
from slipway.cli.shared import cluster_of, connect, include_of, plan_of
from slipway.errors import SlipwayError, UsageError
from slipway.manifests.portnames import with_port_names
from slipway.manifests.render import render

if TYPE_CHECKING:
    from slipway.catalog.read import Catalog
    from slipway.cluster.client import Cluster
    from slipway.cluster.objects import Inventory, Object
    from slipway.manifests.plan import Plan
    from slipway.releases.records import Release

SAME, DIFFERENT, NOT_TOLD = 0, 1, 3


def check(options: argparse.Namespace) -> int:
    """Run the checks of a cluster, or of an endpoint's plan against its cluster; 1 with a blocking finding."""
    from slipway.checks.findings import blocking, table
    from slipway.checks.plan import site_of, subject_of
    from slipway.checks.run import run_checks
    from slipway.checks.subject import Site, Subject
    from slipway.prepare.target import environment_credentials

    include = include_of(options)
    catalog = read_catalog(include)
    subject: Site | Subject
    if _is_cluster(catalog, options):
        subject = site_of(
            catalog,
            options.endpoint,
            include=include,
            node_pods=options.node_pods,
            credentials=environment_credentials,
        )
        context = catalog.clusters[options.endpoint].context
    else:
        plan = plan_of(options)
        subject, context = subject_of(plan, render(plan, include=include)), plan.context
    cluster = connect(options, context=context)
    findings = run_checks(cluster, subject, active=options.active)
    if options.output == "json":
        listed = [finding.model_dump(mode="json") for finding in findings]
        print(json.dumps(listed, ensure_ascii=False, indent=2))
    else:
        print(table(findings))
    return 1 if blocking(findings) else 0


def _is_cluster(catalog: Catalog, options: argparse.Namespace) -> bool:
    """Whether the name that was given is a cluster's.

    Raises:
        UsageError: an endpoint has the same name, or an option is given that is not for such a name.
    """
    name = options.endpoint
    if name not in catalog.clusters:
        if options.node_pods:
            raise UsageError("--node-pods is for a whole cluster", about=name, remedy="Name a cluster")
        return False
    if name in catalog.endpoints:
        raise UsageError("a cluster and an endpoint have this name", about=name, remedy="Rename one of them")
    if options.overrides:
        raise UsageError("overrides are an endpoint's", about=name, remedy="Name an endpoint")
    return True


def diff(options: argparse.Namespace) -> int:
    """Show what a deployment would change on the live cluster, without changing anything.

    Exit status 0: nothing; 1: something; 2: a user's mistake; 3: it could not be told, or the cluster refuses it.
    """
    try:
        return _diff(options)
    except SlipwayError as error:
        if error.exit_status != 1:
            raise
        print(f"slipway: {error}", file=sys.stderr)
        return NOT_TOLD


def _diff(options: argparse.Namespace) -> int:
    from slipway.cluster.apply import inventory_of
    from slipway.cluster.controllers import look
    from slipway.cluster.diff import differences, prunable
    from slipway.manifests.colours import in_colour

    plan = plan_of(options)
    cluster = cluster_of(plan, options)
    plan = with_port_names(plan, _published(cluster, plan))
    serving = look(cluster, namespace=plan.namespace, endpoint=plan.object_name).serving(None)
    # Held against what serves, in whichever colour that is: a second workload in between is not the difference.
    colour = serving.colour if serving else "blue"
    objects = in_colour(render(plan, include=include_of(options)), plan, colour).objects()
    status = SAME
    for one in differences(cluster, objects):
        if one.refusal:
            print(f"slipway: the cluster refuses {one.ref}: {one.refusal}", file=sys.stderr)
            status = NOT_TOLD
        if one.note:
            print(f"# {one.ref}: {one.note}" + ("; shown as new" if one.new else ""))
        if one.text:
            print(one.text, end="")
            status = max(status, DIFFERENT)
    for ref in prunable(cluster, old=_last_good(cluster, plan), new=inventory_of(objects)):
        print(f"# {ref}: would be deleted when the deployment is proven")
        status = max(status, DIFFERENT)
    if status == SAME:
        print("no difference")
    return status


def _published(cluster: Cluster, plan: Plan) -> list[Object]:
    """The live Services that clients use, where nobody else changed them: what he did is a difference."""
    from slipway.cluster.ownership import foreign_managers, taken

    names = [plan.object_name, *(one.name for one in plan.publication.services)]
    found = (
        cluster.get(api_version="v1", kind="Service", namespace=plan.namespace, name=name) for name in names
    )
    return [one for one in found if one and taken(one) is None and not foreign_managers(one)]


def _last_good(cluster: Cluster, plan: Plan) -> Inventory:
    """What the last good release left, as the cluster itself knows it."""
    kept = kept_releases(cluster, plan)
    return max(kept, key=lambda one: one[0].number)[1] if kept else []


def kept_releases(cluster: Cluster, plan: Plan) -> list[tuple[Release, Inventory]]:
    """The good releases of an endpoint and their inventories, from the ConfigMaps of its namespace."""
    from slipway.releases.inventory import NUMBER_LABEL, read_inventory

    labels = {ENDPOINT_LABEL: plan.object_name}
    found = cluster.list(api_version="v1", kind="ConfigMap", namespace=plan.namespace, labels=labels)
    return [read_inventory(obj) for obj in found if NUMBER_LABEL in obj["metadata"]["labels"]]
