"""The objects that a cluster consists of besides endpoints, and the values of its Helm charts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slipway.catalog.names import COMPONENT_LABEL, MANAGED_BY_LABEL
from slipway.catalog.read import Catalog, include_directory
from slipway.catalog.records import Chart, Cluster, Route
from slipway.errors import UsageError
from slipway.manifests.mirror import merged, mirrored_values
from slipway.manifests.render import Manifest, render_one

LABELS = {MANAGED_BY_LABEL: "slipway", COMPONENT_LABEL: "cluster"}


def render_cluster(catalog: Catalog, name: str, *, include: Path | None = None) -> list[Manifest]:
    """Render what a cluster's record sets up: namespaces, storage classes, address pools, Gateway, routes, grants.

    Raises:
        UsageError: no such cluster, or a route of its own without a Gateway to hang on.
    """
    cluster = cluster_record(catalog, name)
    include = include or include_directory()
    return list(_objects(cluster, include))


def chart_values(catalog: Catalog, name: str, chart: str) -> dict[str, Any]:
    """Return the values of one of a cluster's Helm charts, with images from where the cluster pulls them.

    Raises:
        UsageError: no such cluster or chart.
    """
    cluster = cluster_record(catalog, name)
    charts = {one.name: one for one in cluster.setup.charts}
    if chart not in charts:
        known = ", ".join(sorted(charts)) or "none"
        raise UsageError("no such chart", about=f"{name}: {chart}", remedy=f"Its record has: {known}")
    return values_of(charts[chart], cluster)


def values_of(chart: Chart, cluster: Cluster) -> dict[str, Any]:
    """Return the values that a chart of a cluster is installed with, as far as its record says them."""
    return merged(chart.values, mirrored_values(chart.values, cluster))


def cluster_record(catalog: Catalog, name: str) -> Cluster:
    """Return a cluster's record.

    Raises:
        UsageError: no such cluster.
    """
    if name not in catalog.clusters:
        known = ", ".join(sorted(catalog.clusters)) or "none"
        raise UsageError("no such cluster", about=name, remedy=f"The catalog has: {known}")
    return catalog.clusters[name]


def _objects(cluster: Cluster, include: Path) -> Iterator[Manifest]:
    setup, gateway = cluster.setup, cluster.gateway

    def one(template: str, **values: Any) -> Manifest:
        return render_one(f"{template}.yaml.j2", include=include, labels=LABELS, **values)

    for namespace in setup.namespaces:
        yield one("namespace", namespace=namespace)
    for export in setup.nfs:
        yield one("storage-class", export=export)
    for pool in setup.address_pools:
        yield one("ip-address-pool", pool=pool, namespace=setup.address_pool_namespace)
        yield one("l2-advertisement", pool=pool, namespace=setup.address_pool_namespace)
    if gateway and gateway.listeners:
        if gateway.gateway_class is None:
            raise UsageError(
                "a Gateway with listeners needs its gateway_class", about=f"cluster {cluster.name}"
            )
        yield one("gateway", gateway=gateway)
    for route in setup.routes:
        yield one("http-route", route=_route(cluster, route))
    for grant in _grants(cluster):
        yield one("reference-grant", grant=grant)


def _route(cluster: Cluster, route: Route) -> dict[str, Any]:
    if cluster.gateway is None:
        raise UsageError("a route needs the cluster's gateway", about=f"cluster {cluster.name}: {route.name}")
    return {
        **route.model_dump(),
        "labels": LABELS,
        "gateway": cluster.gateway.name,
        "gateway_namespace": cluster.gateway.namespace,
        "section": cluster.gateway.section,
        "cors_filter": cluster.gateway.cors_filter,
    }


def _grants(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """A grant for everything that one namespace's object refers to in another; a Gateway refuses it otherwise."""
    gateway = cluster.gateway
    for listener in gateway.listeners if gateway else []:
        if (
            gateway
            and listener.certificate
            and listener.certificate_namespace not in (None, gateway.namespace)
        ):
            yield {
                "name": f"{gateway.name}-{listener.certificate}"[:253],
                "namespace": listener.certificate_namespace,
                "labels": LABELS,
                "from_kind": "Gateway",
                "from_namespace": gateway.namespace,
                "to_kind": "Secret",
                "to_name": listener.certificate,
            }
    for route in cluster.setup.routes:
        if route.service_namespace not in (None, route.namespace):
            yield {
                "name": f"{route.name}-{route.service}"[:253],
                "namespace": route.service_namespace,
                "labels": LABELS,
                "from_kind": "HTTPRoute",
                "from_namespace": route.namespace,
                "to_kind": "Service",
                "to_name": route.service,
            }
