"""From an endpoint's records and a run's overrides to a plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slipway.catalog.faults import Fault
from slipway.catalog.names import object_name
from slipway.catalog.read import Catalog, include_directory
from slipway.catalog.records import Endpoint
from slipway.errors import CatalogError, UsageError
from slipway.manifests.arguments import argument_faults, keys_faults, refuse_protected, version_faults
from slipway.manifests.devices import device_faults
from slipway.manifests.overrides import Overrides
from slipway.manifests.plan import Controller, Plan
from slipway.manifests.publication import publication_faults, publication_of, scaling_of
from slipway.manifests.records import Images, Records, records_of
from slipway.manifests.serving import processes_for, server_for
from slipway.manifests.sizing import size, sizing_faults
from slipway.manifests.weights import claim_for, weights_faults, weights_for


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
    if endpoint.api_key and endpoint.api_key.accepted:
        yield from keys_faults(runtime, records.program)
    yield from argument_faults(endpoint.args, runtime=runtime, program=records.program)
    yield from device_faults(endpoint, records.device, cluster=records.cluster, runtime=runtime)
    yield from sizing_faults(
        endpoint, model=model, device=records.device, runtime=runtime, context_length=context_length
    )
    yield from publication_faults(endpoint, runtime=runtime, cluster=records.cluster)
    yield from weights_faults(records, overrides)
    try:
        filled = processes_for(records, overrides, context_length=context_length)
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
        server=server_for(records, overrides, images, context_length=context_length),
        weights=weights_for(records, overrides),
        volume=claim_for(records),
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


def _controller(endpoint: Endpoint) -> Controller:
    return "LeaderWorkerSet" if endpoint.parallel.pods > 1 else endpoint.controller


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
