"""What the catalog's record of cluster `sandbox` sets up, as objects."""

from __future__ import annotations

import yaml

from sandbox.settings import CHECKOUT

CLUSTER = "sandbox"


def of_cluster(*kinds: str) -> str:
    """The objects of these kinds, as `slipway render --cluster sandbox` prints them."""
    from slipway.catalog.read import read_catalog
    from slipway.manifests.cluster_objects import render_cluster

    include = CHECKOUT / "include"
    rendered = render_cluster(read_catalog(include), CLUSTER, include=include)
    chosen = [one for one in rendered if one["kind"] in kinds]
    return yaml.safe_dump_all(chosen, sort_keys=False)
