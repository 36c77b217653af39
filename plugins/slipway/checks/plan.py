"""From the catalog to what its checks look for: one plan, or a cluster with all its endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import SecretStr

from slipway.catalog.names import ENDPOINT_LABEL
from slipway.catalog.read import Catalog
from slipway.catalog.records import Cluster, Model
from slipway.checks.subject import (
    Credentials,
    HydraAccess,
    KindNeed,
    ModelNeed,
    RouteNeed,
    SecretNeed,
    Site,
    SourceNeed,
    Storage,
    Subject,
)
from slipway.cluster.objects import Object
from slipway.errors import SlipwayError, UsageError
from slipway.manifests.cluster_objects import render_cluster
from slipway.manifests.devices import device_of
from slipway.manifests.overrides import Overrides
from slipway.manifests.plan import Plan
from slipway.manifests.planning import make_plan
from slipway.manifests.render import Rendered, render
from slipway.weights.sources.credentials import SOURCES_SECRET

OSS_KEYS = {"akId": "AWS_ACCESS_KEY_ID", "akSecret": "AWS_SECRET_ACCESS_KEY"}
_DATASETS = ("Dataset", "JindoRuntime", "DataLoad")


def site_of(
    catalog: Catalog,
    name: str,
    *,
    include: Path,
    node_pods: str | None = None,
    credentials: Credentials | None = None,
) -> Site:
    """Describe a cluster with all endpoints that the catalog has for it.

    An endpoint that cannot be planned is named with its reason and hides nothing.

    Args:
        catalog: the records.
        name: of the cluster.
        include: where the templates are.
        node_pods: where pods may be made that read their node's files.
        credentials: gives what a connection holds; None where nothing is asked that takes one.

    Raises:
        UsageError: the catalog has no such cluster.
    """
    record = _cluster(catalog, name)
    subjects, unplanned = [], {}
    known = {**catalog.complete, **catalog.endpoints}
    here = sorted((one for one in known.values() if one.cluster == name), key=lambda one: one.name)
    for endpoint in (one.name for one in here):
        try:
            plan = make_plan(catalog, endpoint, Overrides(), include=include)
            subjects.append(subject_of(plan, render(plan, include=include)))
        except SlipwayError as error:
            unplanned[endpoint] = str(error)
    devices = [device_of(catalog.accelerators[key], change) for key, change in record.accelerators.items()]
    own = render_cluster(catalog, name, include=include)
    return Site(
        record=record,
        devices=tuple(devices),
        endpoints=tuple(subjects),
        unplanned=unplanned,
        routes=_routes(own),
        node_pods=node_pods,
        models=tuple(
            _model(catalog.models[key])
            for key in sorted({one.model for one in here})
            if key in catalog.models
        ),
        hydra=_hydra(record, credentials),
    )


def _model(record: Model) -> ModelNeed:
    last = [source.rstrip("/").rpartition("/")[2].partition("?")[0] for source in record.sources]
    hub = record.id or ""
    names = (record.name, hub, hub.rpartition("/")[2], record.served_name, *last)
    return ModelNeed(
        name=record.name,
        names=tuple(dict.fromkeys(one for one in names if one)),
        vendor=tuple(dict.fromkeys(record.vendor.values())),
    )


def _hydra(record: Cluster, credentials: Credentials | None) -> HydraAccess | None:
    wanted = record.setup.hydra
    if wanted is None:
        return None
    try:
        token = credentials(wanted.connection).get("password") if credentials else None
    except SlipwayError as error:
        return HydraAccess(url=wanted.url, why=str(error))
    why = "" if token else f"connection {wanted.connection} has no password, which is to be an access key"
    return HydraAccess(url=wanted.url, token=SecretStr(token) if token else None, why=why)


def _cluster(catalog: Catalog, name: str) -> Cluster:
    if name not in catalog.clusters:
        known = ", ".join(sorted(catalog.clusters)) or "none"
        raise UsageError("no such cluster", about=name, remedy=f"The catalog has: {known}")
    return catalog.clusters[name]


def subject_of(plan: Plan, rendered: Rendered) -> Subject:
    """Say what a deployment of this plan needs from its cluster.

    The serving pods that are there now make room first, unless the new ones come up beside them. A claim that a data
    set operator makes, or that comes with its volume, is not looked for in advance.
    """
    objects = rendered.objects()
    unchanged = plan.rollout.serving == rendered.release
    return Subject.model_validate(
        {
            "endpoint": plan.endpoint,
            "namespace": plan.namespace,
            "storage": _storage(plan),
            "images": (plan.server.image, plan.tools_image),
            "tools_image": plan.tools_image,
            "pull_policy": plan.image_pull_policy,
            "pull_secrets": tuple(plan.image_pull_secrets),
            "requests": plan.server.requests,
            "replicas": plan.replicas,
            "pods_per_replica": plan.pods_per_replica,
            "node_name": plan.server.placement.node_name,
            "node_selector": plan.server.node_selector,
            "node_affinity": plan.server.node_affinity,
            "tolerations": tuple(one.model_dump(exclude_none=True) for one in plan.server.tolerations),
            "pod_labels": plan.server.labels,
            "pod_security": plan.pod_security,
            "sizing": plan.sizing,
            "kinds": tuple(sorted({manifest["kind"] for manifest in objects})),
            "apis": _apis(objects),
            "secrets": _secrets(plan),
            "routes": _routes(objects),
            "balancers": tuple(
                one["metadata"]["name"]
                for one in objects
                if one["kind"] == "Service" and one["spec"].get("type") == "LoadBalancer"
            ),
            "node_ports": tuple(
                {"name": one["metadata"]["name"], "node_port": one["spec"]["ports"][0].get("nodePort")}
                for one in objects
                if one["kind"] == "Service" and one["spec"].get("type") == "NodePort"
            ),
            "source": _source(plan),
            "datasets": tuple(
                (one["kind"], one["metadata"]["namespace"], one["metadata"]["name"])
                for one in objects
                if one["kind"] in _DATASETS
            ),
            # Workers of a group hold cards as their leader does.
            "replaced": {ENDPOINT_LABEL: plan.object_name},
            "kept": plan.rollout.serving if plan.rollout.beside and not unchanged else None,
        }
    )


def _secrets(plan: Plan) -> tuple[SecretNeed, ...]:
    needs: dict[str, tuple[str, ...]] = {}
    weights = plan.weights
    if plan.api_key is not None:
        accepted = (plan.api_key.accepted,) if plan.api_key.accepted else ()
        needs[plan.api_key.secret] = (plan.api_key.key, *accepted)
    if weights.object_store is not None:
        needs[weights.object_store.secret] = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    if weights.oss is not None:
        needs[weights.oss.secret] = tuple(OSS_KEYS)
    if weights.dataset is not None and weights.dataset.secret:
        # Which keys an operator reads depends on the source (token, access-key, username, …).
        needs.setdefault(weights.dataset.secret, ())
    for name in plan.image_pull_secrets:
        needs.setdefault(name, ())
    return tuple(SecretNeed(name=name, keys=keys) for name, keys in needs.items())


def _apis(objects: Iterable[Object]) -> tuple[KindNeed, ...]:
    found = sorted({(one["apiVersion"], one["kind"]) for one in objects})
    return tuple(KindNeed(api_version=version, kind=kind) for version, kind in found)


def _routes(objects: Iterable[Object]) -> tuple[RouteNeed, ...]:
    return tuple(_route(one) for one in objects if one["kind"] == "HTTPRoute")


def _route(route: Object) -> RouteNeed:
    namespace, spec = route["metadata"]["namespace"], route["spec"]
    parent = spec["parentRefs"][0]
    backends = (one for rule in spec["rules"] for one in rule.get("backendRefs") or ())
    return RouteNeed(
        namespace=namespace,
        name=route["metadata"]["name"],
        gateway_namespace=parent.get("namespace", namespace),
        gateway=parent["name"],
        section=parent.get("sectionName"),
        hosts=tuple(spec.get("hostnames") or ()),
        backends=tuple((one.get("namespace", namespace), one["name"], one["port"]) for one in backends),
    )


def _source(plan: Plan) -> SourceNeed:
    weights = plan.weights
    if weights.oss is not None:
        # OSS speaks S3's protocol, with the bucket in the host's name.
        return SourceNeed(
            locations=(weights.source,),
            endpoint_url=f"https://{weights.oss.endpoint}",
            addressing="virtual",
            credentials={weights.oss.secret: OSS_KEYS},
            by="operator",
        )
    if weights.provider != "download":
        return SourceNeed(locations=(weights.source,), by="operator")
    store = weights.object_store
    if store is None:
        return SourceNeed(locations=tuple(weights.fetch), credentials={SOURCES_SECRET: {}})
    return SourceNeed(
        locations=tuple(weights.fetch),
        endpoint_url=store.endpoint,
        region=store.region,
        addressing=store.addressing,
        credentials={store.secret: {}, SOURCES_SECRET: {}},
    )


def _storage(plan: Plan) -> Storage | None:
    if plan.weights.provider != "download":
        return None
    return Storage(
        claim=plan.volume.claim,
        storage_class=plan.volume.storage_class,
        access_mode=plan.volume.access_mode,
        size=plan.volume.size,
    )
