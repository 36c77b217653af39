"""The records of the catalog. Each is one YAML file in ``include/catalog/<folder>``, named like the file.

The words are the project's: a model is weights, a runtime is the program that serves them, an accelerator is a
device kind as a cluster offers it, an endpoint joins them in a namespace of a cluster, a workload is a load for
benchmarks. Unknown keys are refused everywhere, so that a typing error is found before anything runs.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?$")]
ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Namespace = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
ServedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]{0,127}$")]
Quantity = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?$")]
ImageReference = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-zA-Z0-9./:_-]*(@sha256:[0-9a-f]{64})?$", max_length=512)
]
Argument = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Revision = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]

SOURCE_SCHEMES = ("modelscope", "s3", "https", "http", "nfs", "pvc")


def _source(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in SOURCE_SCHEMES:
        raise ValueError(f"a source starts with one of {', '.join(f'{s}://' for s in SOURCE_SCHEMES)}")
    if not parts.netloc or ".." in parts.path.split("/") or re.search(r"\s", value):
        raise ValueError("a source looks like s3://bucket/prefix or modelscope://org/name")
    return value


Source = Annotated[str, AfterValidator(_source)]


class Record(BaseModel):
    """The base of all records: unknown keys refused, values fixed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Model(Record):
    """Weights with a name, a size and one or more sources.

    Attributes:
        sources: where the weights are, the preferred one first.
        size: bytes on disk, as a Kubernetes quantity; what a volume must at least hold.
        context_length: the longest context in tokens that the weights were made for.
        served_name: the name that clients put into their requests.
        random_words: the weights are a stand-in whose words mean nothing; people are told so.
    """

    name: Name
    display_name: dict[str, str] = {}
    vendor: dict[str, str] = {}
    sources: list[Source] = Field(min_length=1)
    revision: Revision | None = None
    served_name: ServedName
    size: Quantity
    parameters: Annotated[int, Field(gt=0)]
    context_length: Annotated[int, Field(gt=0)]
    license: str
    random_words: bool = False


class BuiltImage(Record):
    """An image that this project builds (``include/images/<built>``); its tag is the hash of its content."""

    built: Name


class Runtime(Record):
    """The program that serves.

    Attributes:
        task: what the endpoint does; decides which requests prove it.
        image: an image that the project builds, or a reference.
        command, args: templates over MODEL_PATH, MODEL_NAME, MODEL_PORT, CONTEXT_LENGTH and TP_SIZE.
        protected: flags that neither an endpoint nor an override may set, because the rest depends on them.
        startup_seconds: how long the program may take from start to healthy before its pod is restarted.
        shared_memory, scratch: sizes of /dev/shm and /tmp; the first counts against the memory limit.
        read_only_root: whether the program runs on a read-only root file system.
    """

    name: Name
    task: Literal["chat", "completion", "embedding"]
    image: BuiltImage | ImageReference
    command: list[Argument] = []
    args: list[Argument] = []
    protected: list[str] = []
    env: dict[EnvironmentName, str] = {}
    port: Annotated[int, Field(ge=1024, le=65535)] = 8000
    health_path: str = "/health"
    metrics_path: str | None = "/metrics"
    startup_seconds: Annotated[int, Field(gt=0)] = 600
    shared_memory: Quantity = "1Gi"
    scratch: Quantity = "2Gi"
    user: Annotated[int, Field(gt=0)] = 10001
    read_only_root: bool = True


class Accelerator(Record):
    """A device kind as a cluster offers it.

    Attributes:
        resource: the extended resource that counts cards (``nvidia.com/gpu``); None for a CPU.
    """

    name: Name
    resource: str | None = None
    node_selector: dict[str, str] = {}
    tolerations: list[dict[str, str]] = []


class Storage(Record):
    """Where a cluster keeps weights."""

    storage_class: ObjectName
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"] = "ReadWriteMany"


class ObjectStore(Record):
    """The S3 service that a cluster's pods fetch from.

    Attributes:
        endpoint: its URL as pods reach it; None for AWS itself.
        secret: the Secret in the endpoint's namespace with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    """

    endpoint: str | None = None
    region: str = "us-east-1"
    addressing: Literal["path", "virtual"] = "path"
    secret: ObjectName


class Cluster(Record):
    """One Kubernetes API and what it offers.

    Attributes:
        connection: the Airflow connection (type kubernetes) that DAGs use.
        context: the kubeconfig context that the terminal uses; None for the current one.
        registry: the prefix of images that this project builds.
        repositories: the prefixes from which an override may take an image.
        image_pull_policy: Never where images are imported into the node instead of pulled.
    """

    name: Name
    connection: str
    context: str | None = None
    registry: str
    repositories: list[str] = []
    image_pull_policy: Literal["Never", "IfNotPresent", "Always"] = "IfNotPresent"
    image_pull_secrets: list[ObjectName] = []
    storage: Storage
    object_store: ObjectStore | None = None
    accelerators: list[Name] = Field(min_length=1)


class Resources(Record):
    """What one pod asks for: cpu is a request only (a limit would throttle), memory is request and limit."""

    cpu: Quantity
    memory: Quantity


class Volume(Record):
    """The claim that holds an endpoint's weights; endpoints of one model in one namespace may share it."""

    size: Quantity
    claim: ObjectName | None = None
    storage_class: ObjectName | None = None
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"] | None = None


class ApiKey(Record):
    """The Secret whose key clients must present; Slipway passes it by reference and never reads it."""

    secret: ObjectName
    key: str = "api-key"


class Endpoint(Record):
    """A model served by a runtime on an accelerator in a cluster: the unit that is deployed.

    Attributes:
        cards: accelerator cards for each pod; also the tensor parallel size.
        args: flags that are added to the runtime's, or replace the runtime's of the same name.
        workload: the benchmark load of the measure step and of the nightly benchmark.
        nightly: whether the nightly benchmark measures it.
    """

    name: Name
    model: Name
    runtime: Name
    accelerator: Name
    cluster: Name
    namespace: Namespace
    source: Source | None = None
    replicas: Annotated[int, Field(ge=0, le=64)] = 1
    cards: Annotated[int, Field(ge=0, le=16)] = 0
    resources: Resources
    volume: Volume
    context_length: Annotated[int, Field(gt=0)] | None = None
    args: list[Argument] = []
    env: dict[EnvironmentName, str] = {}
    api_key: ApiKey | None = None
    workload: Name | None = None
    nightly: bool = True


class Workload(Record):
    """A benchmark load.

    Attributes:
        data: ``conversations`` (the small ShareGPT-shaped set that the project ships) or ``random``.
        rate: requests a second (Poisson arrivals), or None for all at once.
        concurrency: at most so many requests in flight, or None for no cap.
        warmups: requests before the measured ones.
    """

    name: Name
    data: Literal["conversations", "random"] = "conversations"
    requests: Annotated[int, Field(gt=0, le=100_000)]
    rate: Annotated[float, Field(gt=0)] | None = None
    burstiness: Annotated[float, Field(gt=0)] = 1.0
    concurrency: Annotated[int, Field(gt=0)] | None = None
    warmups: Annotated[int, Field(ge=0)] = 0
    seed: int = 1
    input_tokens: Annotated[int, Field(gt=0)] = 128
    output_tokens: Annotated[int, Field(gt=0)] | None = None
    percentiles: list[int] = [50, 90, 95, 99]
    timeout_seconds: Annotated[int, Field(gt=0)] = 1800

    @model_validator(mode="after")
    def _warmups_fit(self) -> Workload:
        if self.warmups > self.requests:
            raise ValueError("warmups are at most as many as requests")
        return self
