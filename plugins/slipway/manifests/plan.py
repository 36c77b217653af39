"""The plan of a deployment: an endpoint's records and a person's overrides, joined and checked.

A plan holds every value that templates use and nothing that changes by itself (no clock, no run id), so that the
same catalog and overrides always give the same plan, the same bytes and the same release label.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import jinja2
from pydantic import Field, ValidationError

from slipway.catalog.images import code_digest, image_tag
from slipway.catalog.names import object_name
from slipway.catalog.read import Catalog, include_directory
from slipway.catalog.records import (
    ApiKey,
    Argument,
    BuiltImage,
    Cluster,
    Endpoint,
    ImageReference,
    Model,
    ObjectStore,
    Record,
    Revision,
    Runtime,
    Source,
    Workload,
)
from slipway.errors import UsageError, bounded

MODEL_PATH = "/data/serving-model"
WEIGHTS_MOUNT = "/weights"


class Overrides(Record):
    """What a run may change about an endpoint; everything else belongs into the catalog.

    Attributes:
        image: another image of the runtime, from a repository that the cluster allows.
        args: flags added to, or replacing, those of runtime and endpoint.
        replicas: pods at creation; a running endpoint keeps what scale or an autoscaler set.
        context_length: the longest context in tokens.
        source, revision: where the weights come from instead, and which version of them.
    """

    image: ImageReference | None = None
    args: list[Argument] = Field(default=[], max_length=64)
    replicas: Annotated[int, Field(ge=0, le=64)] | None = None
    context_length: Annotated[int, Field(gt=0)] | None = None
    source: Source | None = None
    revision: Revision | None = None


class Server(Record):
    """The serving container, all templates of the runtime filled in."""

    task: Literal["chat", "completion", "embedding"]
    image: str
    command: list[str]
    args: list[str]
    env: dict[str, str]
    port: int
    model_path: str
    health_path: str
    metrics_path: str | None
    startup_seconds: int
    shared_memory: str
    scratch: str
    user: int
    read_only_root: bool
    requests: dict[str, str]
    limits: dict[str, str]
    node_selector: dict[str, str]
    tolerations: list[dict[str, str]]


class Weights(Record):
    """Where the weights come from and where in the volume they lie.

    Attributes:
        path: ``<model>/<key>`` in the volume. The key is a hash of source and revision: another version is
            another directory, so weights that a release needs are never written over.
    """

    source: str
    revision: str | None
    path: str
    bytes: int
    object_store: ObjectStore | None


class Claim(Record):
    """The volume claim, defaults of the cluster filled in."""

    claim: str
    size: str
    storage_class: str
    access_mode: str


class Plan(Record):
    """Everything that a deployment needs, fixed before anything changes."""

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
    replicas: int
    context_length: int
    image_pull_policy: str
    image_pull_secrets: list[str]
    server: Server
    weights: Weights
    volume: Claim
    api_key: ApiKey | None
    workload: Workload | None
    tools_image: str
    code_digest: str


def parse_overrides(data: Any) -> Overrides:
    """Read overrides as a form or the REST API gave them.

    Raises:
        UsageError: an unknown key or a value that does not fit; the message names the key.
    """
    try:
        return Overrides.model_validate(data or {})
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, fault["loc"]))
        known = ", ".join(Overrides.model_fields)
        if fault["type"] == "extra_forbidden":
            raise UsageError("no such override", about=key, remedy=f"Overrides are: {known}") from error
        why = fault["msg"].removeprefix("Value error, ")
        raise UsageError("an override cannot be used", about=key or "overrides", why=bounded(why)) from error


def make_plan(
    catalog: Catalog, endpoint_name: str, overrides: Overrides | None = None, *, include: Path | None = None
) -> Plan:
    """Join an endpoint's records with overrides.

    Args:
        catalog: as ``read_catalog`` gives it.
        endpoint_name: the endpoint to deploy.
        overrides: what this run changes.
        include: the include directory whose images and templates are used; the project's own when None.

    Raises:
        UsageError: no such endpoint, or an override that is not allowed here.
        CatalogError: the endpoint's records cannot be used.
    """
    overrides = overrides or Overrides()
    include = include or include_directory()
    package = Path(__file__).resolve().parents[1]
    endpoint = catalog.endpoint(endpoint_name)
    model, runtime = catalog.models[endpoint.model], catalog.runtimes[endpoint.runtime]
    cluster = catalog.clusters[endpoint.cluster]
    context_length = overrides.context_length or endpoint.context_length or model.context_length
    if context_length > model.context_length:
        raise UsageError(
            "the context does not fit the model",
            about=f"context_length={context_length}",
            why=f"{model.name} was made for {model.context_length} tokens at most",
        )
    return Plan(
        endpoint=endpoint.name,
        object_name=object_name(endpoint.name),
        model=model.name,
        model_object_name=object_name(model.name),
        served_name=model.served_name,
        random_words=model.random_words and overrides.source is None,
        cluster=cluster.name,
        connection=cluster.connection,
        context=cluster.context,
        namespace=endpoint.namespace,
        replicas=endpoint.replicas if overrides.replicas is None else overrides.replicas,
        context_length=context_length,
        image_pull_policy=cluster.image_pull_policy,
        image_pull_secrets=list(cluster.image_pull_secrets),
        server=_server(
            endpoint, model, runtime, cluster, catalog, overrides, context_length, include, package
        ),
        weights=_weights(endpoint, model, cluster, overrides),
        volume=Claim(
            claim=endpoint.volume.claim or f"{object_name(model.name)}-weights",
            size=endpoint.volume.size,
            storage_class=endpoint.volume.storage_class or cluster.storage.storage_class,
            access_mode=endpoint.volume.access_mode or cluster.storage.access_mode,
        ),
        api_key=endpoint.api_key,
        workload=catalog.workloads[endpoint.workload] if endpoint.workload else None,
        tools_image=f"{cluster.registry}/tools:{image_tag('tools', include=include, package=package)}",
        code_digest=code_digest(package),
    )


def _server(
    endpoint: Endpoint,
    model: Model,
    runtime: Runtime,
    cluster: Cluster,
    catalog: Catalog,
    overrides: Overrides,
    context_length: int,
    include: Path,
    package: Path,
) -> Server:
    accelerator = catalog.accelerators[endpoint.accelerator]
    variables = {
        "MODEL_PATH": MODEL_PATH,
        "MODEL_NAME": model.served_name,
        "MODEL_PORT": runtime.port,
        "CONTEXT_LENGTH": context_length,
        "TP_SIZE": max(1, endpoint.cards),
    }
    _refuse_protected(overrides.args, runtime=runtime)
    args = merge_arguments(runtime.args, endpoint.args, overrides.args)
    requests = {"cpu": endpoint.resources.cpu, "memory": endpoint.resources.memory}
    limits = {"memory": endpoint.resources.memory}
    if accelerator.resource:
        limits[accelerator.resource] = requests[accelerator.resource] = str(endpoint.cards)
    return Server(
        task=runtime.task,
        image=_image(runtime, cluster=cluster, overrides=overrides, include=include, package=package),
        command=[_fill(part, variables, runtime) for part in runtime.command],
        args=[_fill(part, variables, runtime) for part in args],
        env={**runtime.env, **endpoint.env},
        port=runtime.port,
        model_path=MODEL_PATH,
        health_path=runtime.health_path,
        metrics_path=runtime.metrics_path,
        startup_seconds=runtime.startup_seconds,
        shared_memory=runtime.shared_memory,
        scratch=runtime.scratch,
        user=runtime.user,
        read_only_root=runtime.read_only_root,
        requests=requests,
        limits=limits,
        node_selector=dict(accelerator.node_selector),
        tolerations=[dict(toleration) for toleration in accelerator.tolerations],
    )


def _image(runtime: Runtime, *, cluster: Cluster, overrides: Overrides, include: Path, package: Path) -> str:
    if overrides.image:
        if not any(overrides.image.startswith(prefix) for prefix in cluster.repositories):
            allowed = ", ".join(cluster.repositories) or "none"
            raise UsageError(
                "the image may not be used here",
                about=overrides.image,
                why=f"cluster {cluster.name} allows images from: {allowed}",
                remedy=f"Add its repository to catalog/clusters/{cluster.name}.yaml if it is trusted",
            )
        return overrides.image
    if isinstance(runtime.image, BuiltImage):
        tag = image_tag(runtime.image.built, include=include, package=package)
        return f"{cluster.registry}/{runtime.image.built}:{tag}"
    return runtime.image


def _weights(endpoint: Endpoint, model: Model, cluster: Cluster, overrides: Overrides) -> Weights:
    source = overrides.source or endpoint.source or model.sources[0]
    named = parse_qs(urlsplit(source).query).get("revision", [None])[0]
    revision = overrides.revision or named or (None if overrides.source else model.revision)
    bare = source.split("?", 1)[0]
    if bare.startswith("s3://") and cluster.object_store is None:
        raise UsageError(
            "the source cannot be reached from the cluster",
            about=source,
            why=f"catalog/clusters/{cluster.name}.yaml names no object_store",
            remedy="Name the S3 service and the Secret with its credentials there",
        )
    key = hashlib.sha256(json.dumps([bare, revision]).encode()).hexdigest()[:12]
    return Weights(
        source=bare,
        revision=revision,
        path=f"{object_name(model.name)}/{key}",
        bytes=quantity_bytes(model.size),
        object_store=cluster.object_store if bare.startswith("s3://") else None,
    )


def _refuse_protected(args: list[str], *, runtime: Runtime) -> None:
    for argument in args:
        flag = flag_of(argument)
        if not argument.startswith("--"):
            raise UsageError(
                "an override's argument is not a flag",
                about=argument,
                remedy="Write it as --flag or --flag=value",
            )
        if flag in runtime.protected:
            raise UsageError(
                "an override may not set this flag",
                about=flag,
                why="the release's probes, Services and keys depend on it",
                remedy=f"Change catalog/runtimes/{runtime.name}.yaml instead",
            )


def flag_of(argument: str) -> str:
    """Return the flag of an argument as its program knows it: ``--Max_Model_Len=8`` is ``--max-model-len``.

    Underscores count as dashes, as vLLM's own parser takes them, so that a spelling cannot get around a rule.
    """
    return argument.split("=", 1)[0].replace("_", "-").lower()


def merge_arguments(*layers: list[str]) -> list[str]:
    """Join lists of ``--flag=value``: a later layer's flag takes the place of an earlier one's."""
    merged: dict[str, str] = {}
    for layer in layers:
        for argument in layer:
            merged[flag_of(argument) if argument.startswith("--") else argument] = argument
    return list(merged.values())


def _fill(template: str, variables: dict[str, Any], runtime: Runtime) -> str:
    if "{{" not in template and "{%" not in template:
        return template
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - no HTML
    try:
        return environment.from_string(template).render(variables)
    except jinja2.TemplateError as error:
        raise UsageError(
            "an argument of the runtime cannot be filled in",
            about=f"runtime {runtime.name}: {bounded(template)}",
            why=str(error),
            remedy=f"Variables are: {', '.join(variables)}",
        ) from error


_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_UNITS.update({"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50})


def quantity_bytes(quantity: str) -> int:
    """Return the bytes of a Kubernetes quantity such as ``16Mi`` or ``1.5G``."""
    number = quantity.rstrip("kKMGTPi")
    return int(float(number) * _UNITS[quantity[len(number) :]])
