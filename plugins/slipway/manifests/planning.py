"""From an endpoint's records and a run's overrides to a plan."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slipway.catalog.faults import Fault
from slipway.catalog.images import known_code_digest, known_image_tag
from slipway.catalog.names import object_name
from slipway.catalog.quantities import quantity_bytes
from slipway.catalog.read import Catalog, include_directory
from slipway.catalog.records import Accelerator, BuiltImage, Cluster, Endpoint, Model, Program, Runtime
from slipway.errors import CatalogError, UsageError
from slipway.manifests.arguments import (
    Filled,
    argument_faults,
    fill,
    merge_arguments,
    refuse_protected,
    version_faults,
)
from slipway.manifests.devices import PodDevices, device_faults, device_of, devices_for
from slipway.manifests.overrides import Overrides
from slipway.manifests.plan import (
    DATASET_TYPES,
    MODEL_PATH,
    Claim,
    CompileCache,
    Controller,
    Plan,
    Process,
    Server,
    Weights,
)
from slipway.manifests.publication import publication_faults, publication_of, scaling_of
from slipway.manifests.sizing import size, sizing_faults, startup_budget_seconds
from slipway.manifests.sources import as_ordered, directory_of, in_claim, revision_of, sources_of

RAY_PORT = 6379


@dataclass(frozen=True)
class Images:
    """What is known of the images that the project builds; the same for every plan of a process."""

    include: Path
    package: Path

    @property
    def code(self) -> str:
        """The digest of the code that runs in pods."""
        return known_code_digest(self.package)

    def reference(self, name: str, *, cluster: Cluster) -> str:
        """An image that the project builds, as a cluster pulls it."""
        return (
            f"{cluster.registry}/{name}:{known_image_tag(name, include=self.include, package=self.package)}"
        )


@dataclass(frozen=True)
class Records:
    """An endpoint and all records that it refers to, the accelerator as its cluster has it."""

    endpoint: Endpoint
    model: Model
    runtime: Runtime
    program: Program | None
    device: Accelerator
    cluster: Cluster

    @property
    def context_length(self) -> int:
        """The longest context unless a run overrides it."""
        return self.endpoint.context_length or self.model.context_length

    @property
    def served_name(self) -> str:
        """The name that clients put into their requests."""
        return self.endpoint.served_name or self.model.served_name


def records_of(catalog: Catalog, name: str) -> Records:
    """Look up an endpoint and what it refers to.

    Raises:
        UsageError: no such endpoint.
        CatalogError: its records cannot be used.
    """
    endpoint = catalog.endpoint(name)
    runtime, cluster = catalog.runtimes[endpoint.runtime], catalog.clusters[endpoint.cluster]
    device = device_of(catalog.accelerators[endpoint.accelerator], cluster.accelerators[endpoint.accelerator])
    return Records(
        endpoint=endpoint,
        model=catalog.models[endpoint.model],
        runtime=runtime,
        program=catalog.programs[runtime.program] if runtime.program else None,
        device=device,
        cluster=cluster,
    )


def faults_of(records: Records, overrides: Overrides | None = None) -> Iterator[Fault]:
    """Hold an endpoint's records against each other: all that would be wrong with a deployment, before it is one."""
    overrides = overrides or Overrides()
    endpoint, model, runtime = records.endpoint, records.model, records.runtime
    context_length = overrides.context_length or records.context_length
    if runtime.images.get(records.device.kind) is None and overrides.image is None:
        there = ", ".join(runtime.images)
        yield Fault("runtime", f"{runtime.name!r} has no image for {records.device.kind}; it has: {there}")
    if endpoint.parallel.pods > 1 and not runtime.distributed:
        yield Fault("parallel.pods", f"runtime {runtime.name!r} does not serve from several pods")
    if endpoint.api_key and not runtime.api_key_env:
        yield Fault("api_key", f"runtime {runtime.name!r} takes no API key")
    yield from argument_faults(endpoint.args, runtime=runtime, program=records.program)
    yield from device_faults(endpoint, records.device, cluster=records.cluster, runtime=runtime)
    yield from sizing_faults(
        endpoint, model=model, device=records.device, runtime=runtime, context_length=context_length
    )
    yield from publication_faults(endpoint, runtime=runtime, cluster=records.cluster)
    yield from _weights_faults(records, overrides)
    try:
        filled = _processes(records, overrides, context_length=context_length)
    except CatalogError as error:
        yield Fault("runtime", str(error))
        return
    yield from version_faults(
        [argument for process in filled for argument in process.args],
        runtime=runtime,
        program=records.program,
    )


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
        CatalogError: the endpoint's records do not fit each other.
    """
    overrides = overrides or Overrides()
    images = Images(include or include_directory(), Path(__file__).resolve().parents[1])
    records = records_of(catalog, endpoint_name)
    _refuse(records, overrides)
    faults = list(faults_of(records, overrides))
    if faults:
        more = f" (and {len(faults) - 1} more: slipway validate lists them)" if faults[1:] else ""
        raise CatalogError(
            f"the endpoint cannot be deployed as its records say{more}",
            about=f"{endpoint_name}: {faults[0].field}",
            why=faults[0].message,
        )
    return _plan(records, overrides, images, catalog)


def _plan(records: Records, overrides: Overrides, images: Images, catalog: Catalog) -> Plan:
    endpoint, model, cluster = records.endpoint, records.model, records.cluster
    context_length = overrides.context_length or records.context_length
    return Plan(
        endpoint=endpoint.name,
        object_name=object_name(endpoint.name),
        model=model.name,
        model_object_name=object_name(model.name),
        served_name=records.served_name,
        random_words=model.random_words and overrides.source is None,
        cluster=cluster.name,
        connection=cluster.connection,
        context=cluster.context,
        namespace=endpoint.namespace,
        pod_security=cluster.level_of(endpoint.namespace),
        controller=_controller(endpoint),
        replicas=endpoint.replicas if overrides.replicas is None else overrides.replicas,
        pods_per_replica=endpoint.parallel.pods,
        context_length=context_length,
        sizing=size(
            endpoint,
            model=model,
            device=records.device,
            runtime=records.runtime,
            context_length=context_length,
        ).text,
        image_pull_policy=cluster.image_pull_policy,
        image_pull_secrets=list(cluster.image_pull_secrets),
        labels=dict(endpoint.labels),
        annotations=dict(endpoint.annotations),
        server=_server(records, overrides, images, context_length=context_length),
        weights=_weights(records, overrides),
        volume=_claim(records),
        publication=publication_of(endpoint, cluster=cluster),
        scaling=scaling_of(endpoint, cluster=cluster),
        disruption_budget=endpoint.disruption_budget,
        network_policy=endpoint.network_policy,
        service_monitor=(
            dict(cluster.monitoring.service_monitor_labels)
            if endpoint.service_monitor and cluster.monitoring
            else None
        ),
        api_key=endpoint.api_key,
        workload=catalog.workloads[endpoint.workload] if endpoint.workload else None,
        tools_image=images.reference("tools", cluster=cluster),
        code_digest=images.code,
    )


def _claim(records: Records) -> Claim:
    """The claim's name is the model's: endpoints of one model in a namespace share it.

    A data set operator names the claim like its data set, and other people's tools look for that by the model's
    name. A static volume has no class: with one, the class's provisioner would make another volume.
    """
    volume, storage, model = records.endpoint.volume, records.cluster.storage, records.model
    name = model.name if volume.dataset else f"{object_name(model.name)}-weights"
    return Claim(
        claim=volume.claim or name,
        size=volume.size,
        storage_class="" if volume.static else volume.storage_class or storage.storage_class,
        access_mode=volume.access_mode or ("ReadOnlyMany" if volume.static else storage.access_mode),
    )


def _controller(endpoint: Endpoint) -> Controller:
    return "LeaderWorkerSet" if endpoint.parallel.pods > 1 else endpoint.controller


def _server(records: Records, overrides: Overrides, images: Images, *, context_length: int) -> Server:
    endpoint, runtime, cluster = records.endpoint, records.runtime, records.cluster
    devices = devices_for(endpoint, records.device, program=runtime.program)
    image = _image(records, overrides, images)
    leader, *workers = _processes(records, overrides, context_length=context_length)
    return Server(
        task=runtime.task,
        image=image,
        command=leader.command,
        args=leader.args,
        worker=Process(command=workers[0].command, args=workers[0].args) if workers else None,
        env={**runtime.env, **devices.env, **endpoint.env},
        pod_env=dict(runtime.pod_env),
        api_key_env=runtime.api_key_env,
        port=runtime.port,
        ports=dict(runtime.ports),
        model_path=MODEL_PATH,
        health_path=runtime.health_path,
        health_port=runtime.health_port or "http",
        metrics_path=runtime.metrics_path,
        metrics_port=runtime.metrics_port or "http",
        running_metric=runtime.running_metric if runtime.metrics_path else None,
        startup_seconds=startup_budget_seconds(model=records.model, runtime=runtime, storage=cluster.storage),
        drain_seconds=runtime.drain_seconds,
        shared_memory=endpoint.shared_memory or runtime.shared_memory,
        scratch=runtime.scratch,
        compile_cache=_compile_cache(records, image),
        user=runtime.user,
        read_only_root=runtime.read_only_root,
        requests=devices.requests,
        limits=devices.limits,
        labels={**cluster.pod_labels, **devices.labels},
        annotations={**cluster.pod_annotations, **devices.annotations},
        node_selector={**devices.node_selector, **endpoint.placement.node_selector},
        node_affinity={**devices.node_affinity, **endpoint.placement.node_affinity},
        tolerations=[*devices.tolerations, *endpoint.placement.tolerations],
        runtime_class=devices.runtime_class,
        placement=endpoint.placement,
        init_containers=list(runtime.init_containers),
        volumes=[*runtime.volumes, *devices.volumes],
        volume_mounts=[*runtime.volume_mounts, *devices.volume_mounts],
        pod_security_context=runtime.pod_security_context,
        security_context=runtime.security_context,
    )


def _processes(records: Records, overrides: Overrides, *, context_length: int) -> list[Filled]:
    """What the serving pod runs; for several pods a replica what the leader runs and what its workers do."""
    endpoint, runtime = records.endpoint, records.runtime
    devices: PodDevices = devices_for(endpoint, records.device, program=runtime.program)
    custom = merge_arguments(devices.args, endpoint.args, overrides.args)
    distributed = endpoint.parallel.pods > 1
    variables = _variables(records, context_length=context_length)
    return [
        fill(
            runtime,
            {**variables, "IS_DISTRIBUTED": distributed, "IS_LEADER": leader},
            custom_args=custom,
        )
        for leader in ([True, False] if distributed else [True])
    ]


def _variables(records: Records, *, context_length: int) -> dict[str, Any]:
    endpoint, model, runtime = records.endpoint, records.model, records.runtime
    cards = max(1, endpoint.cards) * endpoint.parallel.pods
    return {
        "RUN_TIME": runtime.name,
        "MODEL_NAME": records.served_name,
        "MODEL_ID": model.id or model.name,
        "MODEL_PATH": MODEL_PATH,
        "CLUSTER": endpoint.cluster,
        "NAMESPACE": endpoint.namespace,
        "TP_SIZE": endpoint.parallel.tensor or max(1, cards // endpoint.parallel.pipeline),
        "PP_SIZE": endpoint.parallel.pipeline,
        "MODEL_HOST": "0.0.0.0",  # noqa: S104 - inside a pod, which has one address
        "MODEL_PORT": runtime.port,
        "RAY_PORT": RAY_PORT,
        "CONTEXT_LENGTH": context_length,
        "NODES": endpoint.parallel.pods,
        "MEMORY_UTILIZATION": f"{endpoint.memory_utilization:g}",
        "TOOL_CALL_PARSER": model.tool_call_parser,
        "REASONING_PARSER": model.reasoning_parser,
    }


def _image(records: Records, overrides: Overrides, images: Images) -> str:
    cluster = records.cluster
    if overrides.image:
        return overrides.image
    image = records.runtime.images[records.device.kind]
    if isinstance(image, BuiltImage):
        return images.reference(image.built, cluster=cluster)
    matching = [prefix for prefix in cluster.registry_rewrite if image.startswith(prefix)]
    if not matching:
        return image
    longest = max(matching, key=len)
    return cluster.registry_rewrite[longest] + image.removeprefix(longest)


def _compile_cache(records: Records, image: str) -> CompileCache | None:
    endpoint, runtime = records.endpoint, records.runtime
    if endpoint.compile_cache is None or runtime.compile_cache is None:
        return None
    depends_on = [records.model.name, image, records.device.name, endpoint.parallel.model_dump(mode="json")]
    key = hashlib.sha256(json.dumps([*depends_on, endpoint.cards], sort_keys=True).encode()).hexdigest()[:12]
    return CompileCache(
        claim=f"{object_name(endpoint.name)}-compile-cache",
        size=endpoint.compile_cache,
        storage_class=records.cluster.storage.storage_class,
        access_mode=records.cluster.storage.access_mode,
        mount=runtime.compile_cache,
        path=key,
    )


def _refuse(records: Records, overrides: Overrides) -> None:
    """Refuse overrides that this endpoint or its cluster does not allow."""
    refuse_protected(overrides.args, runtime=records.runtime, program=records.program)
    context_length, model = overrides.context_length, records.model
    if context_length and context_length > model.context_length:
        raise UsageError(
            "the context does not fit the model",
            about=f"context_length={context_length}",
            why=f"{model.name} was made for {model.context_length} tokens at most",
        )
    cluster = records.cluster
    if overrides.image and not any(overrides.image.startswith(prefix) for prefix in cluster.repositories):
        allowed = ", ".join(cluster.repositories) or "none"
        raise UsageError(
            "the image may not be used here",
            about=overrides.image,
            why=f"cluster {cluster.name} allows images from: {allowed}",
            remedy=f"Add its repository to catalog/clusters/{cluster.name}.yaml if it is trusted",
        )


def _source(records: Records, overrides: Overrides) -> str:
    """The first source: the only one where a data set operator or a static volume brings the weights."""
    return _sources(records, overrides)[0]


def _sources(records: Records, overrides: Overrides) -> list[str]:
    volume, own = records.endpoint.volume, records.endpoint.source
    if volume.static or volume.fluid or volume.dataset:
        static = volume.static.source if volume.static else None
        return [overrides.source or static or own or records.model.sources[0]]
    return sources_of(records.model, records.cluster, own=own, asked=overrides.source)


def _weights_faults(records: Records, overrides: Overrides) -> Iterator[Fault]:
    source, cluster, volume = _source(records, overrides), records.cluster, records.endpoint.volume
    scheme = urlsplit(source).scheme
    where = f"catalog/clusters/{cluster.name}.yaml"
    if scheme == "s3" and cluster.object_store is None and volume.dataset is None:
        yield Fault("source", f"{source}: {where} names no object_store that serves it")
    if scheme == "oss" and cluster.oss is None:
        yield Fault("source", f"{source}: {where} names no oss that serves it")
    if scheme == "oss" and not (volume.fluid or volume.static):
        yield Fault("source", f"{source}: oss:// needs volume.fluid or volume.static")
    if volume.fluid and scheme != "oss":
        yield Fault("volume.fluid", f"a Fluid data set reads oss://, not {source}")
    if volume.dataset and scheme not in DATASET_TYPES:
        yield Fault("volume.dataset", f"a BaizeAI Dataset does not read {source}")
    if volume.static and scheme not in ("oss", "nfs"):
        yield Fault("volume.static.source", f"a static volume is oss:// or nfs://, not {source}")
    if (volume.static or volume.fluid) and volume.path is None:
        yield Fault("volume.path", "say where in the volume the weights lie")
    if quantity_bytes(volume.size) < quantity_bytes(records.model.size):
        yield Fault("volume.size", f"{volume.size} does not hold {records.model.name}: {records.model.size}")


def _weights(records: Records, overrides: Overrides) -> Weights:
    volume = records.endpoint.volume
    brought = (
        "fluid" if volume.fluid else "dataset" if volume.dataset else "static" if volume.static else None
    )
    weights = weights_of(
        records.model,
        records.cluster,
        _sources(records, overrides),
        claim=_claim(records).claim,
        own=records.endpoint.source,
        asked=overrides.source,
        revision=overrides.revision,
    )
    if brought is None:
        return weights
    changes = {"provider": brought, "path": volume.path or "", "fetch": []}
    return weights.model_copy(update={**changes, "fluid": volume.fluid, "dataset": volume.dataset})


def weights_of(
    model: Model,
    cluster: Cluster,
    sources: Sequence[str],
    *,
    claim: str,
    own: str | None,
    asked: str | None,
    revision: str | None,
) -> Weights:
    """Where weights that we download come from and where they go.

    Args:
        model: whose weights.
        cluster: where they are fetched.
        sources: in the order in which they are tried.
        claim: the volume; a source that is a directory of it is served from where it is.
        own: the endpoint's own source.
        asked: the source that a run asked for.
        revision: the revision that a run asked for.
    """
    version = revision_of(model, sources, asked=revision, own_source=asked is not None)
    bare, there = sources[0].split("?", 1)[0], in_claim(sources[0], claim)
    return Weights(
        source=bare,
        revision=version,
        provider="download",
        path=there or directory_of(model, own=own, asked=asked, revision=version),
        fetch=as_ordered(sources[:1] if there else sources, asked=revision, revision=version),
        bytes=quantity_bytes(model.size),
        object_store=cluster.object_store if any(one.startswith("s3://") for one in sources) else None,
        oss=cluster.oss if bare.startswith("oss://") else None,
    )
