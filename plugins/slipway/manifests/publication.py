"""How an endpoint is reached from outside its cluster, and how it scales."""

from __future__ import annotations

from collections.abc import Iterator

from slipway.catalog.faults import Fault
from slipway.catalog.names import object_name
from slipway.catalog.records import Cluster, Endpoint, Runtime
from slipway.manifests.plan import ExposedService, Ingress, Publication, Route, Scaling

_SUFFIXES = {"NodePort": "nodes"}


def publication_faults(endpoint: Endpoint, *, runtime: Runtime, cluster: Cluster) -> Iterator[Fault]:
    """Say what the endpoint wants that its cluster does not have."""
    where = f"catalog/clusters/{cluster.name}.yaml"
    exposure, monitoring = endpoint.exposure, cluster.monitoring
    if exposure.route and cluster.gateway is None:
        yield Fault("exposure.route", f"{where} names no gateway")
    if endpoint.strategy == "canary" and exposure.route is None:
        yield Fault("strategy", "a canary shares requests out by a route, and exposure.route names none")
    if exposure.ingress and cluster.ingress is None:
        yield Fault("exposure.ingress", f"{where} names no ingress controller")
    for number, service in enumerate(exposure.services):
        if service.type == "LoadBalancer" and cluster.load_balancers is None:
            yield Fault(f"exposure.services.{number}", f"{where} says nothing of load_balancers")
    names = [service.name for service in publication_of(endpoint, cluster=cluster).services]
    if len(set(names)) < len(names):
        yield Fault("exposure.services", f"two Services would have the name {max(names, key=names.count)!r}")
    if endpoint.service_monitor and monitoring is None:
        yield Fault("service_monitor", f"{where} says nothing of monitoring")
    if endpoint.service_monitor and runtime.metrics_path is None:
        yield Fault("service_monitor", f"runtime {runtime.name!r} has no metrics")
    yield from scaling_faults(endpoint, runtime=runtime, cluster=cluster)


def scaling_faults(endpoint: Endpoint, *, runtime: Runtime, cluster: Cluster) -> Iterator[Fault]:
    """Say what keeps the endpoint's autoscaling from working in its cluster."""
    scaling, monitoring = endpoint.autoscaling, cluster.monitoring
    where = f"catalog/clusters/{cluster.name}.yaml"
    if scaling is None:
        return
    if runtime.program != "vllm":
        yield Fault("autoscaling", f"it goes by vLLM's metrics, and runtime {runtime.name!r} is not vLLM")
    if scaling.by == "keda" and not (monitoring and monitoring.prometheus):
        yield Fault("autoscaling.by", f"keda asks Prometheus, and {where} names none")
    if scaling.by == "hpa" and not (monitoring and monitoring.metrics_adapter):
        yield Fault("autoscaling.by", f"hpa needs prometheus-adapter, and {where} has no metrics_adapter")
    if not scaling.minimum <= endpoint.replicas <= scaling.maximum:
        yield Fault("replicas", f"{endpoint.replicas} is not between autoscaling's minimum and maximum")


def publication_of(endpoint: Endpoint, *, cluster: Cluster) -> Publication:
    """Join an endpoint's exposure with its cluster's gateway, ingress controller and load balancers."""
    exposure, gateway, ingress = endpoint.exposure, cluster.gateway, cluster.ingress
    name, balancers = object_name(endpoint.name), cluster.load_balancers
    services = []
    for wanted in exposure.services:
        suffix = _SUFFIXES.get(wanted.type, "public" if wanted.public else "private")
        annotations = dict(wanted.annotations)
        if wanted.type == "LoadBalancer" and balancers:
            side = balancers.public_annotations if wanted.public else balancers.private_annotations
            annotations = {**balancers.annotations, **side, **annotations}
        services.append(
            ExposedService(
                name=wanted.name or f"{name}-{suffix}",
                exposure=wanted,
                annotations=annotations,
                load_balancer_class=(
                    balancers.load_balancer_class if balancers and wanted.type == "LoadBalancer" else None
                ),
            )
        )
    return Publication(
        services=services,
        ingress=(
            Ingress(
                ingress_class=ingress.ingress_class,
                annotations={**ingress.annotations, **exposure.ingress.annotations},
                tls_secret=exposure.ingress.tls_secret or ingress.tls_secret,
                exposure=exposure.ingress,
            )
            if exposure.ingress and ingress
            else None
        ),
        route=(
            Route(
                gateway=gateway.name,
                gateway_namespace=gateway.namespace,
                section=gateway.section,
                cors_filter=gateway.cors_filter,
                authority=gateway.authority,
                exposure=exposure.route,
            )
            if exposure.route and gateway
            else None
        ),
    )


def scaling_of(endpoint: Endpoint, *, cluster: Cluster) -> Scaling | None:
    """Join an endpoint's autoscaling with where its cluster keeps metrics."""
    if endpoint.autoscaling is None:
        return None
    prometheus = cluster.monitoring.prometheus if cluster.monitoring else None
    return Scaling(rule=endpoint.autoscaling, prometheus=prometheus)
