"""Endpoints: a model served by a runtime on an accelerator in a cluster, and how clients reach it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slipway.catalog.records.fields import (
    AccessMode,
    Annotations,
    Argument,
    EnvironmentName,
    HostName,
    HttpPath,
    LabelKey,
    Labels,
    LabelValue,
    Name,
    Namespace,
    ObjectName,
    Origin,
    Quantity,
    Record,
    ServedName,
    Source,
    Text,
    Toleration,
)
from slipway.catalog.records.strategies import Canary, Strategy


class Resources(Record):
    """What one pod asks for: memory is request and limit, cpu a request (a limit would throttle).

    Attributes:
        cpu_limit: a limit all the same; where the accelerator wants requests to equal limits it is cpu.
    """

    cpu: Quantity
    memory: Quantity
    cpu_limit: Quantity | None = None


class Share(Record):
    """Part of a card instead of all of it, where the accelerator can be shared.

    Attributes:
        memory: of each card, as a quantity (``16Gi``).
        cores: percent of each card's cores; None leaves them shared without a limit.
    """

    memory: Quantity
    cores: Annotated[int, Field(ge=1, le=100)] | None = None


class Fluid(Record):
    """The weights through Fluid: a Dataset over ``oss://``, cached by a JindoRuntime, warmed by a DataLoad.

    Attributes:
        replicas: cache workers.
        worker_cpu, worker_memory: of each; the memory holds the cache.
        cache: the size of the memory tier of each worker.
        pod_labels, worker_annotations: for master and workers (ACS compute classes).
    """

    replicas: Annotated[int, Field(ge=1, le=64)] = 1
    worker_cpu: Quantity = "16"
    worker_memory: Quantity = "128Gi"
    cache: Quantity = "128Gi"
    pod_labels: Labels = {}
    worker_annotations: Annotations = {}


class Dataset(Record):
    """The weights through a BaizeAI Dataset, whose operator downloads them into a claim of the Dataset's name.

    Attributes:
        namespace: where the Dataset lives when it is not the endpoint's own namespace (``public``, shared from
            there); the endpoint's namespace then has one that refers to it.
        labels: such as ``hydra.io/model-id``.
    """

    namespace: Namespace | None = None
    labels: Labels = {}
    sync_round: Annotated[int, Field(ge=1)] = 1
    secret: ObjectName | None = None
    options: dict[Annotated[str, Field(pattern=r"^[A-Za-z]{1,64}$")], Text] = {}
    uid: Annotated[int, Field(ge=0)] = 1000
    gid: Annotated[int, Field(ge=0)] = 1000
    mode: Annotated[str, Field(pattern=r"^0[0-7]{3}$")] = "0774"


class StaticVolume(Record):
    """A volume that is there already and gets its PersistentVolume from Slipway.

    Attributes:
        source: ``oss://bucket/path`` (Alibaba's CSI driver) or ``nfs://server/export/path`` (csi-driver-nfs).
    """

    source: Source


class Volume(Record):
    """The claim that holds an endpoint's weights; endpoints of one model in one namespace may share it.

    At most one of ``fluid``, ``dataset`` and ``static``; with none, Slipway downloads into a claim of its own.

    Attributes:
        path: where in the volume the weights lie, when somebody else put them there.
    """

    size: Quantity
    claim: ObjectName | None = None
    storage_class: ObjectName | None = None
    access_mode: AccessMode | None = None
    fluid: Fluid | None = None
    dataset: Dataset | None = None
    static: StaticVolume | None = None
    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", max_length=512)] | None = None

    @model_validator(mode="after")
    def _one_provider(self) -> Volume:
        if sum(one is not None for one in (self.fluid, self.dataset, self.static)) > 1:
            raise ValueError("only one of fluid, dataset and static")
        if self.path and ".." in self.path.split("/"):
            raise ValueError("path leaves the volume")
        return self


SecretEntry = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,253}$")]


class ApiKey(Record):
    """The Secret whose key clients must present; Slipway passes it by reference and never reads it.

    Attributes:
        key: the entry with the key that Slipway's own requests use.
        accepted: the entry with all keys that the program accepts, as YAML; only for a program that reads such a file.
            `slipway key` writes both.
    """

    secret: ObjectName
    key: SecretEntry = "api-key"
    accepted: SecretEntry | None = None


class Parallel(Record):
    """How the model is cut over cards.

    Attributes:
        tensor: cards that each layer is cut over; all cards over ``pipeline`` when None.
        pipeline: groups of layers, one after the other.
        pods: pods that serve one replica together (a leader and its workers), each with the endpoint's cards.
    """

    tensor: Annotated[int, Field(ge=1, le=256)] | None = None
    pipeline: Annotated[int, Field(ge=1, le=64)] = 1
    pods: Annotated[int, Field(ge=1, le=64)] = 1


class Placement(Record):
    """Where the pods may run, besides what the accelerator says."""

    node_name: ObjectName | None = None
    node_selector: Labels = {}
    node_affinity: dict[LabelKey, list[LabelValue]] = {}
    tolerations: list[Toleration] = []
    scheduler: ObjectName | None = None
    priority_class: ObjectName | None = None
    host_network: bool = False


class ServiceExposure(Record):
    """A Service of its own in front of the published one.

    Attributes:
        public: whether a LoadBalancer's address is reachable from outside the cluster's network.
        name: of the Service; the endpoint's with ``-public``, ``-private`` or ``-nodes`` when None.
    """

    type: Literal["NodePort", "LoadBalancer"]
    name: ObjectName | None = None
    public: bool = False
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    node_port: Annotated[int, Field(ge=30000, le=32767)] | None = None
    annotations: Annotations = {}
    local_traffic: bool = False


class IngressExposure(Record):
    """An Ingress. Answers are streamed: no buffering, and time for the longest of them."""

    host: HostName
    path: HttpPath = "/"
    tls_secret: ObjectName | None = None
    annotations: Annotations = {}
    timeout_seconds: Annotated[int, Field(gt=0, le=86_400)] = 600


class RouteExposure(Record):
    """An HTTPRoute on the cluster's Gateway.

    Attributes:
        host: None takes the Gateway's own hosts.
        allow_origin: whose web pages may call, ``*`` for everybody's; None for no CORS headers. One only: a
            Gateway of API version 1.2 cannot choose among several.
    """

    host: HostName | None = None
    path: HttpPath = "/v1"
    timeout_seconds: Annotated[int, Field(gt=0, le=86_400)] = 600
    allow_origin: Origin | None = None


class Exposure(Record):
    """How clients outside the cluster reach the endpoint; none of these for clients inside it."""

    services: list[ServiceExposure] = []
    ingress: IngressExposure | None = None
    route: RouteExposure | None = None


class Autoscaling(Record):
    """How many replicas, decided by load. Exactly vLLM's own metrics; the cluster says how it collects them.

    Attributes:
        by: ``hpa`` (needs prometheus-adapter) or ``keda`` (needs KEDA and Prometheus).
        waiting_requests: add replicas when so many requests wait per replica.
        kv_cache_percent: add replicas when so much of the KV cache is used.
        ttft_seconds: add replicas while the time to first token is longer: its 95th percentile over two minutes. Only
            KEDA can ask for it: prometheus-adapter hands on gauges of pods, and no percentile over all of them.
        cooldown_seconds: a replica goes when for so long fewer would have been enough.
    """

    by: Literal["hpa", "keda"]
    minimum: Annotated[int, Field(ge=1, le=64)] = 1
    maximum: Annotated[int, Field(ge=1, le=256)]
    waiting_requests: Annotated[int, Field(ge=1)] | None = 5
    kv_cache_percent: Annotated[int, Field(ge=1, le=100)] | None = None
    ttft_seconds: Annotated[float, Field(gt=0, le=600)] | None = None
    cooldown_seconds: Annotated[int, Field(ge=0, le=3600)] = 300

    @model_validator(mode="after")
    def _consistent(self) -> Autoscaling:
        if self.maximum < self.minimum:
            raise ValueError("maximum is less than minimum")
        if self.waiting_requests is None and self.kv_cache_percent is None and self.ttft_seconds is None:
            raise ValueError("name a metric: waiting_requests, kv_cache_percent or ttft_seconds")
        if self.ttft_seconds is not None and self.by == "hpa":
            raise ValueError("only keda goes by the time to first token")
        return self


class NetworkRule(Record):
    """Who may connect to the serving pods: the namespaces with these labels; the endpoint's own always."""

    from_namespaces: list[Labels] = []


class Endpoint(Record):
    """A model served by a runtime on an accelerator in a cluster: the unit that is deployed.

    Attributes:
        controller: what keeps the pods; several pods for one replica are always a LeaderWorkerSet.
        strategy: how a release takes the place of the one before; None chooses by the room that the cluster has.
        canary: of the strategy of that name.
        cards: accelerator cards for each pod.
        share: part of each card, where the accelerator is shared.
        concurrency: requests at once that must fit with their whole context; the sizing's KV cache.
        memory_utilization: the part of a card's memory that the runtime takes; vLLM's own default is 0.9.
        args: flags that are added to the runtime's, or replace the runtime's of the same name.
        sizing: ``advise`` when the person knows better than the sizing, which then only says its numbers.
        compile_cache: the size of a volume that keeps compiled kernels over restarts; None for none.
        workload: the benchmark load of the measure step and of the nightly benchmark.
        nightly: whether the nightly benchmark measures it.
        restart_after: after how many minutes of failing probes its pods are started anew, once; None for never.
    """

    name: Name
    model: Name
    runtime: Name
    accelerator: Name
    cluster: Name
    namespace: Namespace
    served_name: ServedName | None = None
    source: Source | None = None
    controller: Literal["StatefulSet", "Deployment"] = "StatefulSet"
    strategy: Strategy | None = None
    canary: Canary = Canary()
    replicas: Annotated[int, Field(ge=0, le=64)] = 1
    cards: Annotated[int, Field(ge=0, le=64)] = 0
    share: Share | None = None
    parallel: Parallel = Parallel()
    resources: Resources
    shared_memory: Quantity | None = None
    volume: Volume
    context_length: Annotated[int, Field(gt=0)] | None = None
    concurrency: Annotated[int, Field(gt=0, le=4096)] = 1
    memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    sizing: Literal["enforce", "advise"] = "enforce"
    args: list[Argument] = []
    env: dict[EnvironmentName, Text] = {}
    labels: Labels = {}
    annotations: Annotations = {}
    placement: Placement = Placement()
    api_key: ApiKey | None = None
    exposure: Exposure = Exposure()
    autoscaling: Autoscaling | None = None
    disruption_budget: bool = False
    network_policy: NetworkRule | None = None
    service_monitor: bool = False
    compile_cache: Quantity | None = None
    workload: Name | None = None
    nightly: bool = True
    restart_after: Annotated[int, Field(ge=5, le=1440)] | None = None
