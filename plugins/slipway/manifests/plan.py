"""The plan of a deployment: every value that templates use, fixed before anything changes.

Nothing in it changes by itself (no clock, no run id), so that the same catalog and overrides always give the same
plan, the same bytes and the same release label.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from slipway.catalog.names import (
    COMPONENT_LABEL,
    ENDPOINT_LABEL,
    MANAGED_BY_LABEL,
    MODEL_LABEL,
    RELEASE_LABEL,
    green_name,
    object_name,
)
from slipway.catalog.records import (
    ApiKey,
    Autoscaling,
    ControllerFilter,
    Dataset,
    Fluid,
    IngressExposure,
    NetworkRule,
    ObjectStore,
    OssStore,
    Placement,
    PodSecurity,
    Record,
    RouteExposure,
    ServiceExposure,
    Task,
    Toleration,
    Workload,
)
from slipway.manifests.rollout import Colour, Rollout

MODEL_PATH = "/data/serving-model"
WEIGHTS_MOUNT = "/weights"

# What a BaizeAI Dataset (v1alpha1) calls kinds of sources.
DATASET_TYPES = {
    "modelscope": "MODEL_SCOPE",
    "s3": "S3",
    "http": "HTTP",
    "https": "HTTP",
    "nfs": "NFS",
    "pvc": "PVC",
}

Controller = Literal["StatefulSet", "Deployment", "LeaderWorkerSet"]
SERVING_PORT = "http"


class Process(Record):
    """What one kind of serving pod runs."""

    command: list[str]
    args: list[str]


class CompileCache(Record):
    """The volume that keeps compiled kernels over restarts.

    Attributes:
        path: in the volume: a hash of what compiled kernels depend on.
    """

    claim: str
    size: str
    storage_class: str
    access_mode: str
    mount: str
    path: str


class Server(Record):
    """The serving pods: all templates of the runtime filled in, all rules of the accelerator applied.

    Attributes:
        worker: what the other pods of a LeaderWorkerSet run; None when one pod serves a replica.
        keys_file: the file in the pod with the API keys that it accepts; None where it has one by its environment.
        startup_seconds: the budget for a start: reading the weights and the program's own time.
    """

    task: Task
    tool_calls: bool = False  # plans of before this field ask for none
    image: str
    command: list[str]
    args: list[str]
    worker: Process | None
    env: dict[str, str]
    pod_env: dict[str, str]
    api_key_env: str | None
    keys_file: str | None = None
    port: int
    ports: dict[str, int]
    model_path: str
    health_path: str
    health_port: str
    metrics_path: str | None
    metrics_port: str
    running_metric: str | None
    startup_seconds: int
    drain_seconds: int
    shared_memory: str
    scratch: str
    compile_cache: CompileCache | None
    user: int
    read_only_root: bool
    requests: dict[str, str]
    limits: dict[str, str]
    labels: dict[str, str]
    annotations: dict[str, str]
    node_selector: dict[str, str]
    node_affinity: dict[str, list[str]]
    tolerations: list[Toleration]
    runtime_class: str | None
    placement: Placement
    init_containers: list[dict[str, Any]]
    volumes: list[dict[str, Any]]
    volume_mounts: list[dict[str, Any]]
    pod_security_context: dict[str, Any] | None
    security_context: dict[str, Any] | None

    @property
    def metrics_number(self) -> int:
        """The number of the port that has the metrics."""
        return self.ports.get(self.metrics_port, self.port)

    @property
    def watched_ports(self) -> dict[str, int]:
        """The ports besides the serving one that probes and metrics need a Service for."""
        needed = {self.health_port, self.metrics_port}
        return {name: number for name, number in self.ports.items() if name in needed}


class Location(NamedTuple):
    """The parts of a source's URL."""

    scheme: str
    host: str
    path: str


class Weights(Record):
    """Where the weights come from and where in the volume they lie.

    Attributes:
        provider: who brings them: our own download step, a data set operator, or nobody because they are there.
        source: the first one, without what follows a ``?``.
        path: in the volume. What we download lies in ``<model>/<key>`` (``manifests.sources``): another version is
            another directory, so weights that a release needs are never written over.
        fetch: all sources in the order in which our own download tries them, as its order names them.
    """

    source: str
    revision: str | None
    provider: Literal["download", "fluid", "dataset", "static"]
    path: str
    bytes: int
    object_store: ObjectStore | None
    fetch: list[str] = Field(default=[])
    oss: OssStore | None = None
    fluid: Fluid | None = None
    dataset: Dataset | None = None

    @property
    def location(self) -> Location:
        """The source, taken apart."""
        parts = urlsplit(self.source)
        return Location(parts.scheme, parts.netloc, parts.path or "/")

    @property
    def dataset_type(self) -> str:
        """What a BaizeAI Dataset calls this kind of source."""
        return DATASET_TYPES[self.location.scheme]

    @property
    def dataset_options(self) -> dict[str, str]:
        """The options of a BaizeAI Dataset's source: the person's, and which revision."""
        own = self.dataset.options if self.dataset else {}
        wanted = {"revision": self.revision} if self.revision and self.location.scheme == "modelscope" else {}
        return {**wanted, **own}


class Claim(Record):
    """The volume claim, defaults of the cluster filled in."""

    claim: str
    size: str
    storage_class: str
    access_mode: str


class Route(Record):
    """An HTTPRoute and the Gateway that it hangs on."""

    gateway: str
    gateway_namespace: str
    section: str | None
    cors_filter: ControllerFilter | None = None
    authority: str | None = None
    exposure: RouteExposure


class Ingress(Record):
    """An Ingress and the controller that serves it."""

    ingress_class: str
    annotations: dict[str, str]
    tls_secret: str | None
    exposure: IngressExposure


class ExposedService(Record):
    """A Service in front of the published one, all of the cluster's annotations filled in."""

    name: str
    exposure: ServiceExposure
    annotations: dict[str, str]
    load_balancer_class: str | None


class Publication(Record):
    """How clients outside the cluster reach the endpoint."""

    services: list[ExposedService]
    ingress: Ingress | None
    route: Route | None


class Scaling(Record):
    """Autoscaling, and where it gets its metrics."""

    rule: Autoscaling
    prometheus: str | None

    @field_validator("rule", mode="before")
    @classmethod
    def _without_what_rules_had(cls, rule: Any) -> Any:
        """Leave out what an older Slipway's rules had more: such a release can still be gone back to."""
        if not isinstance(rule, dict):
            return rule
        return {name: value for name, value in rule.items() if name in Autoscaling.model_fields}


class Plan(Record):
    """Everything that a deployment needs, fixed before anything changes.

    Attributes:
        adopted: the release's objects were not rendered from this plan, but somebody else's, taken over as they were.
        port_names: what Services call the serving port where it is not `http`; "" for no name (``portnames``).
        sizing: what it needs of a card's or the pod's memory and what there is, in one line for people.
    """

    endpoint: str
    object_name: str
    model: str
    model_object_name: str
    served_name: str
    random_words: bool
    cluster: str
    connection: str
    context: str | None
    namespace: str
    pod_security: PodSecurity
    controller: Controller
    replicas: int
    pods_per_replica: int
    context_length: int
    sizing: str = ""
    image_pull_policy: str
    image_pull_secrets: list[str]
    labels: dict[str, str]
    annotations: dict[str, str]
    server: Server
    weights: Weights
    volume: Claim
    publication: Publication
    scaling: Scaling | None
    disruption_budget: bool
    network_policy: NetworkRule | None
    service_monitor: dict[str, str] | None
    api_key: ApiKey | None
    workload: Workload | None
    rollout: Rollout = Rollout()
    tools_image: str
    code_digest: str
    adopted: bool = False
    port_names: dict[str, str] = Field(default={})

    @property
    def controller_name(self) -> str:
        """The name of the object that keeps the pods. A LeaderWorkerSet makes a Service of its own name."""
        return self.name_in("blue")

    @property
    def metrics_port_name(self) -> str:
        """What the published Service calls the port with the metrics; "" where it has no name."""
        name = self.server.metrics_port
        return self.port_names.get(self.object_name, name) if name == SERVING_PORT else name

    def name_in(self, colour: Colour) -> str:
        """The name of the object that keeps the pods of a colour; all kinds may have a green one at a time."""
        if colour == "green":
            return green_name(self.object_name)
        return f"{self.object_name}-group" if self.controller == "LeaderWorkerSet" else self.object_name

    @property
    def volume_name(self) -> str:
        """The name of a static PersistentVolume, which belongs to no namespace; no other claim has the same."""
        claim = f"{self.namespace}/{self.volume.claim}"
        return f"{object_name(self.volume.claim)}-{hashlib.sha256(claim.encode()).hexdigest()[:12]}"

    @property
    def selector(self) -> dict[str, str]:
        """The labels that every pod that answers requests carries, whatever its release."""
        return {ENDPOINT_LABEL: self.object_name, COMPONENT_LABEL: "server"}

    @property
    def scale_target(self) -> dict[str, str]:
        """What an autoscaler scales."""
        version = "leaderworkerset.x-k8s.io/v1" if self.controller == "LeaderWorkerSet" else "apps/v1"
        return {"apiVersion": version, "kind": self.controller, "name": self.controller_name}

    def house_labels(self, component: str, release: str | None) -> dict[str, str]:
        """The labels of an object of this endpoint."""
        labels = {**self.model_labels(component), ENDPOINT_LABEL: self.object_name}
        return {**labels, RELEASE_LABEL: release} if release else labels

    def model_labels(self, component: str) -> dict[str, str]:
        """The labels of an object that endpoints of one model in a namespace share."""
        return {**shared_labels(component), MODEL_LABEL: self.model_object_name}


def shared_labels(component: str) -> dict[str, str]:
    """The labels of an object that belongs to no endpoint and no model."""
    return {MANAGED_BY_LABEL: "slipway", COMPONENT_LABEL: component}
