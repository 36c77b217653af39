"""What several commands need: the plan that is asked for, overrides, a cluster."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from slipway.catalog.read import include_directory, read_catalog
from slipway.errors import UsageError
from slipway.manifests.overrides import Overrides, parse_overrides
from slipway.manifests.plan import Plan
from slipway.manifests.planning import make_plan
from slipway.manifests.validation import refuse_problems

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster


def include_of(options: argparse.Namespace) -> Path:
    """The include directory that was named, else the project's."""
    return Path(options.include or include_directory())


def plan_of(options: argparse.Namespace) -> Plan:
    """Plan the endpoint that was named, with the overrides that were given.

    Raises:
        UsageError: what ``slipway validate`` says of the endpoint, or an override that is not allowed.
    """
    include, overrides = include_of(options), overrides_of(options)
    catalog = read_catalog(include)
    if overrides == Overrides():  # an override may be just what cures the record
        refuse_problems(catalog, options.endpoint, include=include)
    return make_plan(catalog, options.endpoint, overrides, include=include)


def overrides_of(options: argparse.Namespace) -> Overrides:
    """The overrides of the command line."""
    text = getattr(options, "overrides", None)
    try:
        data = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise UsageError("the overrides are not JSON", about=text or "", why=str(error)) from error
    return parse_overrides(data)


def cluster_of(plan: Plan, options: argparse.Namespace) -> Cluster:
    """Connect to a plan's cluster."""
    return connect(options, context=plan.context)


def connect(options: argparse.Namespace, *, context: str | None) -> Cluster:
    """Connect as the kubeconfig that was named says, else the environment's, else the user's own."""
    from slipway.cluster.client import Cluster

    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    path = options.kubeconfig or Path(first or Path.home() / ".kube" / "config")
    return Cluster.from_kubeconfig(path, context=context)
