"""What is checked: the needs of endpoints, and the cluster that they share as its record describes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from slipway.catalog.records import Accelerator, Cluster, PodSecurity

Credentials = Callable[[str], Mapping[str, str]]
"""From a connection's id to its parts: login, password, host, schema, port, and ``extra.NAME`` of each extra."""


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


class KindNeed(_Record):
    """A kind of object that is applied."""

    api_version: str
    kind: str


class RouteNeed(_Record):
    """An HTTPRoute: the Gateway that it hangs on, its hosts, and the Services that it leads to.

    Attributes:
        backends: namespace, name and port of each Service.
    """

    namespace: str
    name: str
    gateway_namespace: str
    gateway: str
    section: str | None = None
    hosts: tuple[str, ...] = ()
    backends: tuple[tuple[str, str, int], ...] = ()


class SourceNeed(_Record):
    """Where the weights come from, as far as it can be asked without downloading.

    Attributes:
        locations: in the order in which they are tried, such as ``s3://models/qwen3-tiny``.
        endpoint_url, region, addressing: of the S3 service, or of OSS, which speaks its protocol.
        credentials: Secrets by name whose keys the pod that asks gets as files; where OSS calls a key otherwise, key →
            the name that S3 has for it.
        by: who reads it: our own download, or an operator, whose way nobody here can go.
    """

    locations: tuple[str, ...]
    endpoint_url: str | None = None
    region: str = "us-east-1"
    addressing: Literal["path", "virtual"] = "path"
    credentials: dict[str, dict[str, str]] = Field(default_factory=dict)
    by: Literal["slipway", "operator"] = "slipway"


class NodePortNeed(_Record):
    """A Service that every node offers on a port; ``node_port`` is None where the cluster chooses one."""

    name: str
    node_port: int | None = None


class Subject(_Record):
    """What a deployment needs from its cluster.

    Attributes:
        endpoint: its name; "" where there is none.
        namespace: where the endpoint's objects live.
        storage: its volume; None when it needs none.
        images: the references that its pods use.
        tools_image: the one of them that looks around inside the cluster; "" when there is none.
        pull_policy: of those images.
        pull_secrets: for them.
        requests: what one serving pod asks for: cpu, memory, and extended resources such as ``nvidia.com/gpu``.
        replicas: how many replicas of ``pods_per_replica`` such pods.
        node_name, node_selector, node_affinity, tolerations: where those pods may run; the affinity maps a label to
            the values that will do.
        pod_labels: of those pods.
        pod_security: the level that the namespace enforces by its cluster's record; None when that says nothing.
        sizing: what the model needs of memory and what there is, in one line; "" when that is not known.
        kinds: of the objects that are applied; each kind has rights of its own.
        apis: the same with their API versions.
        secrets: what pods refer to.
        routes: HTTPRoutes.
        balancers: names of Services of type LoadBalancer.
        node_ports: Services of type NodePort.
        source: where the weights come from.
        datasets: kind, namespace and name of what a data set operator is to make.
        replaced: labels of the serving pods that make room first (strategy recreate), so that what they ask for
            counts as free; empty when they stay until the new ones are ready.
        kept: the label of the release whose pods stay all the same, since the new ones come up beside them.
    """

    endpoint: str = ""
    namespace: str
    storage: Storage | None = None
    images: tuple[str, ...] = ()
    tools_image: str = ""
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    requests: dict[str, str] = Field(default_factory=dict)
    replicas: int = 1
    pods_per_replica: int = 1
    node_name: str | None = None
    node_selector: dict[str, str] = Field(default_factory=dict)
    node_affinity: dict[str, list[str]] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    pod_labels: dict[str, str] = Field(default_factory=dict)
    pod_security: PodSecurity | None = None
    sizing: str = ""
    kinds: tuple[str, ...] = ()
    apis: tuple[KindNeed, ...] = ()
    secrets: tuple[SecretNeed, ...] = ()
    routes: tuple[RouteNeed, ...] = ()
    balancers: tuple[str, ...] = ()
    node_ports: tuple[NodePortNeed, ...] = ()
    source: SourceNeed | None = None
    datasets: tuple[tuple[str, str, str], ...] = ()
    replaced: dict[str, str] = Field(default_factory=dict)
    kept: str | None = None

    @property
    def pods(self) -> int:
        """How many pods all replicas have."""
        return self.replicas * self.pods_per_replica


class ModelNeed(_Record):
    """A model that an endpoint of the cluster serves, as others know it.

    Attributes:
        names: by which it may be registered elsewhere.
        vendor: its vendor's display names.
    """

    name: str
    names: tuple[str, ...]
    vendor: tuple[str, ...] = ()


class HydraAccess(_Record):
    """The API of the Hydra that a cluster belongs to.

    Attributes:
        token: None where it cannot be had, which ``why`` explains.
    """

    url: str
    token: SecretStr | None = None
    why: str = ""


class Site(_Record):
    """A cluster and the endpoints that are meant to run in it.

    Attributes:
        record: what the catalog says of the cluster; None where only an endpoint's needs are looked at.
        devices: the accelerators that it offers, its own changes applied.
        endpoints: their needs.
        unplanned: endpoints without a plan, each with the reason.
        routes: of the cluster's own.
        node_pods: the namespace where pods may be made that read their node's files; None where nobody agreed to it.
        models: what its endpoints serve.
        hydra: how Hydra is asked for its records; None where the cluster's record does not say.
    """

    record: Cluster | None = None
    devices: tuple[Accelerator, ...] = ()
    endpoints: tuple[Subject, ...] = ()
    unplanned: dict[str, str] = Field(default_factory=dict)
    routes: tuple[RouteNeed, ...] = ()
    node_pods: str | None = None
    models: tuple[ModelNeed, ...] = ()
    hydra: HydraAccess | None = None

    @property
    def name(self) -> str:
        """The cluster's name in the catalog, or a word for one that has none."""
        return self.record.name if self.record else "NAME"

    @property
    def all_routes(self) -> tuple[RouteNeed, ...]:
        """The cluster's own routes and those of its endpoints."""
        return (*self.routes, *(route for one in self.endpoints for route in one.routes))

    def offers(self, offered_by: str) -> bool:
        """Whether one of its accelerators comes from this kind of offer (``hami``, ``acs``, ``simulated``, …)."""
        return any(device.offered_by == offered_by for device in self.devices)
