"""One at a time prepares a cluster, whoever it is and by whatever name they know it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypedDict

from slipway.cluster import lease
from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError
from slipway.cluster.fencing import FencedCluster
from slipway.errors import ClusterError, LockError, SlipwayError
from slipway.prepare.refusals import remedy_of


class _Place(TypedDict):
    namespace: str
    endpoint_object: str


# Where every cluster has Leases of parts that exist once. A name that no endpoint can have: it has a dot.
PLACE: _Place = {"namespace": "kube-system", "endpoint_object": "cluster.prepare"}
LEASE_SECONDS = 45
_RENEW_SECONDS = 10.0
_ASK_SECONDS = 2.0


@contextmanager
def held(
    cluster: Cluster, *, holder: str, patience: float, say: Callable[[str], None]
) -> Iterator[FencedCluster]:
    """Hold the cluster's lock while something is made in it, for a terminal.

    The lock is renewed while this lasts and lives for less than a minute otherwise, so that a process that was killed
    stands in nobody's way for longer.

    Args:
        cluster: which.
        holder: who holds it.
        patience: for how many seconds to wait for another holder.
        say: told once who it is that is waited for.

    Yields:
        The cluster in which each write asks first whether the lock is still held.

    Raises:
        LockError: another holder did not end in time.
        ClusterError: it cannot be asked for; a missing right is in the remedy.
    """
    try:
        fencing = _take(cluster, holder=holder, patience=patience, say=say)
    except ApiError as error:
        about = f"Lease {PLACE['namespace']}/{lease.lease_name(PLACE['endpoint_object'])}"
        remedy = remedy_of(error)
        raise ClusterError(
            "the cluster's lock cannot be taken", about=about, why=error.why, remedy=remedy
        ) from error
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(cluster, holder, fencing, ended), daemon=True)
    renewing.start()
    try:
        yield FencedCluster(cluster, **PLACE, holder=holder, fencing=fencing)
    finally:
        ended.set()
        renewing.join()
        lease.release(cluster, **PLACE, holder=holder, fencing=fencing)


def _take(cluster: Cluster, *, holder: str, patience: float, say: Callable[[str], None]) -> int:
    deadline, told = time.monotonic() + patience, False
    while True:
        fencing = lease.acquire(cluster, **PLACE, holder=holder, seconds=LEASE_SECONDS)
        if fencing is not None:
            return fencing
        found = lease.holder_of(cluster, **PLACE)
        name = found.holder if found else "another run"
        if time.monotonic() > deadline:
            lease.release(cluster, **PLACE, holder=holder)
            raise LockError(
                "the cluster is being prepared by another run", about=name, remedy="Wait for it to end"
            )
        if not told:
            say(f"waiting for {name}, which prepares this cluster")
            told = True
        time.sleep(_ASK_SECONDS)


def _renew(cluster: Cluster, holder: str, fencing: int, ended: threading.Event) -> None:
    """Renew until the end; what is lost is noticed by the next write, which asks for the lock."""
    while not ended.wait(_RENEW_SECONDS):
        try:
            lease.renew(cluster, **PLACE, holder=holder, fencing=fencing, seconds=LEASE_SECONDS)
        except SlipwayError:
            continue
