"""Runtimes: the programs that serve, and what is known about their arguments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slipway.catalog.records.fields import (
    AbsolutePath,
    AcceleratorKind,
    Argument,
    EnvironmentName,
    Flag,
    HttpPath,
    ImageReference,
    KubernetesObject,
    Name,
    Names,
    PortName,
    Quantity,
    Record,
    Task,
    Text,
    Version,
)

ServingPort = Annotated[int, Field(ge=1024, le=65535)]
POD_FIELDS = Literal["metadata.name", "metadata.namespace", "spec.nodeName", "status.podIP", "status.hostIP"]


class BuiltImage(Record):
    """An image that this project builds (``include/images/<built>``); its tag is the hash of its content."""

    built: Name


class ArgumentRule(Record):
    """From which version to which a program knows a flag.

    Attributes:
        since: the first version that knows it; None when it always did.
        until: the first version that does not know it any more; None while it does.
        instead: what a person writes today, or why nothing is needed.
    """

    flag: Flag
    since: Version | None = None
    until: Version | None = None
    instead: Text = ""


class Program(Record):
    """A serving program and what changed in its arguments over its versions.

    Attributes:
        parsed_version: the version whose own parser the sandbox has: arguments of runtimes of this version are
            parsed by it in tests; arguments for other versions are held against ``arguments`` alone, and are
            marked "not run".
        cross_origin: the argument, with ``{origin}`` in it, that makes it answer browsers' preflights for an origin;
            None where it answers all of them, or none.
        keys_file: the flag by which it reads, from a YAML file, the API keys that it accepts, and since which version
            it reads several; None where it takes one key at a time.
        protected: flags that neither an endpoint nor an override may set, with any of the program's runtimes.
    """

    name: Name
    parsed_version: Version | None = None
    cross_origin: Argument | None = None
    keys_file: ArgumentRule | None = None
    arguments: list[ArgumentRule] = []
    protected: list[Flag] = []


class Runtime(Record):
    """The program that serves.

    ``command`` and ``args`` are Jinja templates over RUN_TIME, MODEL_NAME, MODEL_ID, MODEL_PATH, CLUSTER,
    NAMESPACE, IS_DISTRIBUTED, IS_LEADER, TP_SIZE, PP_SIZE, MODEL_HOST, MODEL_PORT, RAY_PORT, CUSTOM_ARGS,
    CONTEXT_LENGTH, NODES, MEMORY_UTILIZATION, TOOL_CALL_PARSER and REASONING_PARSER. An argument that renders to
    nothing is left out. With a command that ends in ``-c`` the arguments are one shell string: what is put out
    into it is quoted, and it says itself where CUSTOM_ARGS go. Otherwise these are appended.

    Attributes:
        program, version: which of ``catalog/programs`` and which version of it; None where nothing is known.
        task: what the endpoint does; decides which requests prove it.
        images: for each kind of accelerator, an image that the project builds, or a reference.
        distributed: whether the templates can serve from several pods (a leader and its workers).
        protected: as its program's, besides those.
        pod_env: environment variables that take a field of the pod.
        api_key_env: the variable that the program reads its API key from; None when it takes none.
        port, ports: where it serves, and further ports by name.
        health_port, metrics_port: a name of ``ports``; None for the serving port.
        startup_seconds: how long the program takes from start to healthy besides reading the weights.
        shared_memory, scratch: sizes of /dev/shm and /tmp; the first counts against the memory limit.
        compile_cache: where the program keeps compiled kernels, worth a volume of their own; None if nowhere.
        drain_seconds: how long a pod that is asked to end may go on with the requests that it has.
        running_metric: the gauge of its metrics that counts those; None: it gets no time but what it takes itself.
        user: the uid it runs as; 0 costs Pod Security "restricted".
        read_only_root: whether the program runs on a read-only root file system.
        init_containers, volumes, volume_mounts, pod_security_context, security_context: Kubernetes' own, as they
            are; the last two take the place of the house's.
    """

    name: Name
    display_name: Names = {}
    program: Name | None = None
    version: Version | None = None
    task: Task
    images: dict[AcceleratorKind, BuiltImage | ImageReference] = Field(min_length=1)
    command: list[Argument] = []
    args: list[Argument] = []
    distributed: bool = False
    protected: list[Flag] = []
    env: dict[EnvironmentName, Text] = {}
    pod_env: dict[EnvironmentName, POD_FIELDS] = {}
    api_key_env: EnvironmentName | None = None
    port: ServingPort = 8000
    ports: dict[PortName, ServingPort] = {}
    health_path: HttpPath = "/health"
    health_port: PortName | None = None
    metrics_path: HttpPath | None = "/metrics"
    metrics_port: PortName | None = None
    startup_seconds: Annotated[int, Field(gt=0, le=86_400)] = 600
    shared_memory: Quantity = "1Gi"
    scratch: Quantity = "2Gi"
    compile_cache: AbsolutePath | None = None
    drain_seconds: Annotated[int, Field(ge=0, le=3600)] = 60
    running_metric: Annotated[str, Field(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]{0,127}$")] | None = None
    user: Annotated[int, Field(ge=0)] = 10001
    read_only_root: bool = True
    init_containers: list[KubernetesObject] = []
    volumes: list[KubernetesObject] = []
    volume_mounts: list[KubernetesObject] = []
    pod_security_context: KubernetesObject | None = None
    security_context: KubernetesObject | None = None

    @property
    def in_shell(self) -> bool:
        """Whether the arguments are one string that a shell reads."""
        return bool(self.command) and self.command[-1] == "-c"

    @model_validator(mode="after")
    def _consistent(self) -> Runtime:
        if self.in_shell and len(self.args) != 1:
            raise ValueError("with a command that ends in -c, args is one string for the shell")
        if self.in_shell and "CUSTOM_ARGS" not in self.args[0]:
            raise ValueError(
                "the shell string does not mention CUSTOM_ARGS, so an endpoint's args would be lost"
            )
        if self.version and not self.program:
            raise ValueError("a version without a program says nothing")
        for port in (self.health_port, self.metrics_port):
            if port and port not in self.ports:
                raise ValueError(f"{port!r} is not one of ports")
        return self
