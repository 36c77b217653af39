"""Starting an endpoint's pods anew when its regular probes fail: only where its record says so, and once.

A server that hangs is healthy to Kubernetes as long as its process answers ``/health``; a real request tells. Whether a
start anew mends it nobody knows beforehand, so it is tried once for each time that the endpoint begins to fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slipway.catalog.names import ENDPOINT_LABEL, RELEASE_LABEL
from slipway.catalog.read import read_catalog
from slipway.errors import SlipwayError
from slipway.operators.steps import plan_of

if TYPE_CHECKING:
    from slipway.catalog.records import Endpoint
    from slipway.cluster.client import Cluster
    from slipway.releases.records import Release, StateRecord
    from slipway.releases.store import History

_LOCK_SECONDS = 120


def due(history: History, states: Iterable[StateRecord]) -> list[StateRecord]:
    """Those whose records want their pods started anew now: they have failed long enough, and not been yet.

    The catalog is read once for all, and only where something fails: a thousand records take a third of a second.
    """
    failing = [state for state in states if state.state == "failing"]
    endpoints = read_catalog().endpoints if failing else {}
    return [state for state in failing if _is_due(history, state, endpoints.get(state.endpoint))]


def _is_due(history: History, state: StateRecord, record: Endpoint | None) -> bool:
    if record is None or record.restart_after is None:
        return False
    if state.seen - state.since < timedelta(minutes=record.restart_after):
        return False
    changes = history.changes(state.endpoint, limit=20)
    return not any(one.kind == "restart" and one.created_at >= state.since for one in changes)


def restart(cluster: Cluster, history: History, release: Release, *, run: str, reason: str) -> str:
    """Delete the pods of the release that serves, under the endpoint's lock; returns what became of it.

    It is written before it is done. A lock that is held is left alone: whoever has it is changing the endpoint.

    Args:
        cluster: where.
        history: where it is written.
        release: the good one.
        run: the run that does it, ``dag/run``.
        reason: why, as the probe saw it.
    """
    from slipway.cluster import lease
    from slipway.cluster.fencing import FencedCluster
    from slipway.cluster.objects import ref_of

    plan = plan_of(release)
    place: dict[str, Any] = {"namespace": plan.namespace, "endpoint_object": plan.object_name}
    fencing = lease.acquire(cluster, **place, holder=run, seconds=_LOCK_SECONDS)
    if fencing is None:
        lease.release(cluster, **place, holder=run)
        return "its pods are not started anew: another run holds its lock"
    change = history.begin_change(
        release_id=release.id, run_id=run, kind="restart", detail={}, reason=reason, actor="probe_endpoints"
    )
    try:
        fenced = FencedCluster(cluster, **place, holder=run, fencing=fencing)
        labels = {ENDPOINT_LABEL: plan.object_name, RELEASE_LABEL: release.label}
        pods = cluster.list(api_version="v1", kind="Pod", namespace=plan.namespace, labels=labels)
        for pod in pods:
            fenced.delete(ref_of(pod), uid=pod["metadata"]["uid"])
    except SlipwayError as error:
        history.finish_change(change.id, failure=str(error))
        raise
    finally:
        lease.release(cluster, **place, holder=run)
    history.finish_change(change.id, detail={"pods": [pod["metadata"]["name"] for pod in pods]})
    return f"its {len(pods)} pods are started anew, as its record says"
