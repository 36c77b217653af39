"""An endpoint's workloads: the one that serves, and beside it what comes up, or what a run that died left.

The cluster says which is which: the published Service selects a release by its label, and so do the controllers of
the pods carry one. Nothing else remembers it, so a run that is killed leaves nothing that could be wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from slipway.catalog.names import COLOUR_LABEL
from slipway.cluster.client import Cluster
from slipway.cluster.faults import UnknownKindError
from slipway.cluster.objects import (
    ENDPOINT_LABEL,
    RELEASE_LABEL,
    Inventory,
    Object,
    Ref,
    labels_of,
    ref_of,
    workload_api,
)

Kind = Literal["StatefulSet", "Deployment", "LeaderWorkerSet"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Workload:
    """One controller of an endpoint's pods, as the cluster has it."""

    live: Object

    @property
    def ref(self) -> Ref:
        """Its reference."""
        return ref_of(self.live)

    @property
    def colour(self) -> Literal["blue", "green"]:
        """Which of the two it is."""
        return "green" if labels_of(self.live).get(COLOUR_LABEL) == "green" else "blue"

    @property
    def release(self) -> str | None:
        """The label of the release that it is; None for one that somebody else made."""
        return labels_of(self.live).get(RELEASE_LABEL)

    @property
    def replicas(self) -> int:
        """How many are wanted; 0 is a workload that is stopped."""
        wanted: int = self.live["spec"].get("replicas", 1)
        return wanted


@dataclass(frozen=True)
class Standing:
    """How an endpoint stands in its cluster.

    Attributes:
        workloads: one, usually; two while a release comes up beside another.
        published: the label of the release that clients' requests go to; None when there is no published Service, or
            it takes any release's pods, as it does while a rolling change is on its way.
    """

    workloads: Sequence[Workload]
    published: str | None

    def of(self, release: str, *, kind: str | None = None) -> Workload | None:
        """The workload of a release; of two, which only a dead run can leave, the one that wants pods."""
        mine = [one for one in self.workloads if one.release == release and kind in (None, one.ref.kind)]
        return max(mine, key=lambda one: one.replicas > 0, default=None)

    def named(self, kind: str, name: str) -> Workload | None:
        """The workload of a kind and name."""
        return next((one for one in self.workloads if (one.ref.kind, one.ref.name) == (kind, name)), None)

    def serving(self, good: str | None) -> Workload | None:
        """The workload that has to stay until another is proven: the last good release's while it stands.

        Else the one that requests go to. A dead run may have published what nobody has proven; while the good one
        stands beside it, that is what the endpoint goes on with.
        """
        wanting = [one for one in (self.of(label) for label in (good, self.published) if label) if one]
        return next((one for one in wanting if one.replicas > 0), wanting[0] if wanting else self._any())

    def _any(self) -> Workload | None:
        return next(iter(self.workloads), None)


def look(cluster: Cluster, *, namespace: str, endpoint: str, kinds: Iterable[str] = KINDS) -> Standing:
    """Look how an endpoint stands.

    Args:
        cluster: where.
        namespace: the endpoint's namespace.
        endpoint: its object name, which is also the name of its published Service.
        kinds: of controllers that are looked for.
    """
    found = [one for kind in kinds for one in _of_kind(cluster, kind, namespace=namespace, endpoint=endpoint)]
    service = cluster.get(api_version="v1", kind="Service", namespace=namespace, name=endpoint)
    selected = ((service or {}).get("spec", {}).get("selector") or {}).get(RELEASE_LABEL)
    return Standing(workloads=found, published=selected)


def find_workload(
    cluster: Cluster, *, kind: str, namespace: str, endpoint: str, release: str
) -> Object | None:
    """Return the object that keeps the pods of a release, or what stands of that kind in its place, or None."""
    found = _of_kind(cluster, kind, namespace=namespace, endpoint=endpoint)
    standing = Standing(workloads=found, published=None)
    one = standing.of(release) or standing.serving(None)
    return one.live if one else None


def retire(cluster: Cluster, workloads: Iterable[Workload], *, keep: Collection[Ref]) -> Inventory:
    """Delete controllers of an endpoint's pods but those that are kept; the pods drain and end in the background.

    A controller of another kind under the same labels would count the pods of the new one, and one that is left would
    keep the cards that the new one waits for.

    Returns:
        What was deleted.
    """
    return [
        one.ref
        for one in workloads
        if one.ref not in keep and cluster.delete(one.ref, uid=one.live["metadata"]["uid"])
    ]


def _of_kind(cluster: Cluster, kind: str, *, namespace: str, endpoint: str) -> list[Workload]:
    api_version = workload_api(kind)[0]
    labels = {ENDPOINT_LABEL: endpoint}
    try:
        found = cluster.list(api_version=api_version, kind=kind, namespace=namespace, labels=labels)
    except UnknownKindError:  # most clusters have no LeaderWorkerSets
        return []
    # A LeaderWorkerSet keeps its leaders by a StatefulSet of its own.
    return [
        Workload(live)
        for live in found
        if not live["metadata"].get("ownerReferences") and not live["metadata"].get("deletionTimestamp")
    ]
