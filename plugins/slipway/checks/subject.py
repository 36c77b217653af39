"""What is checked: the needs of a plan, and one look at the cluster that all checks share."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Storage(_Record):
    """The volume for the weights: a claim that is there already, or one to be made."""

    claim: str
    storage_class: str
    access_mode: str = "ReadWriteOnce"
    size: str


class SecretNeed(_Record):
    """A Secret that pods refer to, and the keys that they read."""

    name: str
    keys: tuple[str, ...] = ()


class Subject(_Record):
    """What a deployment needs from its cluster.

    Attributes:
        namespace: where the endpoint's objects live.
        storage: its volume; None when it needs none.
        images: the references that its pods use.
        pull_policy: of those images.
        requests: what one serving pod asks for: cpu, memory, and extended resources such as ``nvidia.com/gpu``.
        replicas: how many such pods.
        node_selector, tolerations: where those pods may run.
        secrets: what pods refer to.
        replaced: labels of the serving pods that make room first (strategy recreate), so that what they ask for
            counts as free; empty when they stay until the new ones are ready.
    """

    namespace: str
    storage: Storage | None = None
    images: tuple[str, ...] = ()
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    requests: dict[str, str] = Field(default_factory=dict)
    replicas: int = 1
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    secrets: tuple[SecretNeed, ...] = ()
    replaced: dict[str, str] = Field(default_factory=dict)


class View:
    """A cluster as the checks of one run see it: long lists are read once and shared by all of them."""

    def __init__(self, *, cluster: Cluster) -> None:
        self.cluster = cluster
        self._lock = Lock()
        self._read: dict[str, list[Object]] = {}
        self._locks: dict[str, Lock] = {}

    def nodes(self) -> list[Object]:
        """Return all nodes."""
        return self._once("nodes", self.nodes_now)

    def nodes_now(self) -> list[Object]:
        """Return all nodes, read anew."""
        return self.cluster.list(api_version="v1", kind="Node")

    def running_pods(self) -> list[Object]:
        """Return all pods of all namespaces that still hold resources of a node."""

        def read() -> list[Object]:
            # What has ended holds nothing; the server leaves it out, which on a busy cluster is most of the list.
            alive = "status.phase!=Succeeded,status.phase!=Failed"
            return self.cluster.list(api_version="v1", kind="Pod", field_selector=alive)

        return self._once("pods", read)

    def _once(self, what: str, read: Callable[[], list[Object]]) -> list[Object]:
        with self._lock:
            lock = self._locks.setdefault(what, Lock())
        with lock:
            if what not in self._read:
                self._read[what] = read()
            return self._read[what]
