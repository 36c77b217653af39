"""A cluster that changes nothing without its endpoint's lock."""

from __future__ import annotations

from slipway.cluster.client import Cluster
from slipway.cluster.lease import holder_of, lease_name, lost_lock, renew
from slipway.cluster.transport import Answer, Request
from slipway.errors import LockError


class FencedCluster(Cluster):
    """A cluster in which each write first asks whether the lock is still held under its number.

    Reads and dry runs go through as they are. The moment between the question and the write stays open.

    Attributes:
        fencing: the number that the lock was taken under.

    Args:
        cluster: the cluster itself.
        namespace: of the endpoint.
        endpoint_object: the endpoint's object name.
        holder: who holds the lock.
        fencing: the lock's number.
    """

    def __init__(
        self, cluster: Cluster, *, namespace: str, endpoint_object: str, holder: str, fencing: int
    ) -> None:
        self._connection, self._discovered = cluster._connection, {}
        self._unfenced, self._namespace, self._endpoint_object = cluster, namespace, endpoint_object
        self._holder, self.fencing = holder, fencing

    def keep(self, *, seconds: int) -> None:
        """Have the lock live for so long from now: longer than it would have, or shorter.

        Raises:
            LockError: it is somebody else's by now.
        """
        renew(
            self._unfenced,
            namespace=self._namespace,
            endpoint_object=self._endpoint_object,
            holder=self._holder,
            fencing=self.fencing,
            seconds=seconds,
        )

    def send(self, request: Request) -> Answer:
        """Send a request.

        Raises:
            LockError: it would change something, and the lock is no longer held, or has run out.
        """
        if request.method != "GET" and "dryRun" not in request.query:
            self._demand_lock()
        return self._unfenced.send(request)

    def _demand_lock(self) -> None:
        place = {"namespace": self._namespace, "endpoint_object": self._endpoint_object}
        found = holder_of(self._unfenced, **place)
        if found is None:
            raise lost_lock("nobody", 0, self.fencing, **place)
        if (found.holder, found.fencing) != (self._holder, self.fencing):
            raise lost_lock(found.holder, found.fencing, self.fencing, **place)
        if not found.live:
            raise LockError(
                "this run's lock on the endpoint has run out",
                about=f"Lease {self._namespace}/{lease_name(self._endpoint_object)}",
                why=f"it was renewed at {found.renewed:%H:%M:%S} and lived until {found.expires:%H:%M:%S}",
                remedy="Nothing more is changed by this run; start it again if it is still wanted",
            )
