"""One look at a cluster that all checks of a run share."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar, cast

from slipway.cluster.access import who_am_i
from slipway.cluster.client import Cluster
from slipway.cluster.faults import UnknownKindError
from slipway.cluster.objects import Object, Ref
from slipway.errors import SlipwayError

T = TypeVar("T")


class View:
    """A cluster as the checks of one run see it: what was read once is shared by all of them, refusals too.

    Safe to use from several threads; two that want the same list read it once.
    """

    def __init__(self, *, cluster: Cluster) -> None:
        self.cluster = cluster
        self._lock = Lock()
        self._read: dict[object, Any] = {}
        self._locks: dict[object, Lock] = {}

    def nodes(self) -> list[Object]:
        """Return all nodes."""
        return self.once("nodes", self.nodes_now)

    def nodes_now(self) -> list[Object]:
        """Return all nodes, read anew."""
        return self.cluster.list(api_version="v1", kind="Node")

    def running_pods(self) -> list[Object]:
        """Return all pods of all namespaces that still hold resources of a node."""

        def read() -> list[Object]:
            # What has ended holds nothing; the server leaves it out, which on a busy cluster is most of the list.
            alive = "status.phase!=Succeeded,status.phase!=Failed"
            return self.cluster.list(api_version="v1", kind="Pod", field_selector=alive)

        return self.once("pods", read)

    def all_of(self, api_version: str, kind: str, *, namespace: str | None = None) -> list[Object]:
        """Return all objects of a kind, of one namespace or of all.

        Raises:
            UnknownKindError: the cluster has no such kind.
            ClusterError: they cannot be read.
        """
        return self.once(
            (api_version, kind, namespace),
            lambda: self.cluster.list(api_version=api_version, kind=kind, namespace=namespace),
        )

    def one(self, api_version: str, kind: str, name: str, *, namespace: str | None = None) -> Object | None:
        """Return one object, or None when it is not there."""
        return self.once(
            (api_version, kind, namespace, name),
            lambda: self.cluster.get(api_version=api_version, kind=kind, name=name, namespace=namespace),
        )

    def user(self) -> str | None:
        """Return the name of the connection's user; None where the server does not tell."""
        return self.once("user", lambda: who_am_i(self.cluster))

    def has(self, api_version: str, kind: str) -> bool:
        """Return whether the cluster has a kind of objects; every authenticated user may ask."""

        def ask() -> bool:
            try:
                self.cluster.path_of(Ref(apiVersion=api_version, kind=kind, name="x"), collection=True)
            except UnknownKindError:
                return False
            return True

        return self.once(("has", api_version, kind), ask)

    def once(self, what: object, read: Callable[[], T]) -> T:
        """Return what ``read`` gave the first time, or raise what it raised then."""
        with self._lock:
            lock = self._locks.setdefault(what, Lock())
        with lock:
            if what not in self._read:
                try:
                    self._read[what] = read()
                except SlipwayError as error:
                    self._read[what] = error
            found = self._read[what]
        if isinstance(found, SlipwayError):
            raise found
        return cast(T, found)
