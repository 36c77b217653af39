"""What somebody changed about endpoints since they were released, found by the regular probes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from slipway.cluster.drift import Drift, drifts_of
from slipway.errors import ClusterError
from slipway.manifests.render import Rendered
from slipway.operators.autoscaling import choice_of, chosen
from slipway.operators.rollout import as_it_stands
from slipway.operators.steps import plan_of

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster
    from slipway.cluster.objects import Object, Ref
    from slipway.manifests.plan import Plan
    from slipway.releases.records import Release


def differences(cluster: Cluster, release: Release) -> list[dict[str, str]]:
    """Compare the stored bytes of the release that serves with what is in the cluster.

    What scale or an autoscaler decides (replicas, who sets them) is no difference, nor which of its two names the
    workload stands under.

    Args:
        cluster: where; a ``ListedCluster`` for many endpoints.
        release: the good one, of which no run is changing anything now.

    Raises:
        SlipwayError: it could not be looked at.
    """
    plan, rendered = plan_of(release), Rendered.from_bytes(release.objects)
    found: list[Drift] = []
    for wanted in _as_applied(cluster, plan, rendered).objects():
        found += drifts_of(wanted, _live(cluster, _ref(wanted)))
    return [asdict(one) for one in found]


def _as_applied(cluster: Cluster, plan: Plan, rendered: Rendered) -> Rendered:
    try:
        return as_it_stands(cluster, plan, rendered)
    except ClusterError as error:
        if getattr(error, "is_transient", False):
            raise
        # Its workload is gone, so it has no colour: the comparison says so.
        return chosen(rendered, plan, choice_of(cluster, plan))


def _live(cluster: Cluster, ref: Ref) -> Object | None:
    from slipway.cluster.faults import UnknownKindError

    try:
        return cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
    except UnknownKindError:
        return None


def _ref(wanted: Object) -> Ref:
    from slipway.cluster.objects import ref_of

    return ref_of(wanted)
