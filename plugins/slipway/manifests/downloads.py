"""The plan of a download without a deployment: where a model's weights go when nobody serves them yet."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from slipway.catalog.names import COMPONENT_LABEL, MANAGED_BY_LABEL, MODEL_LABEL, object_name
from slipway.catalog.quantities import quantity_bytes
from slipway.catalog.read import Catalog, include_directory
from slipway.catalog.records import Cluster, Endpoint, Model, Record
from slipway.errors import UsageError
from slipway.manifests.plan import Claim, Weights
from slipway.manifests.records import Images
from slipway.manifests.sources import FETCHED, sources_of
from slipway.manifests.weights import weights_of

_USER = 10001
_GIBIBYTE = 2**30
_SPARE = 1.25


class Reader(Record):
    """What a step pod takes from the pods that serve: the user that reads the weights."""

    user: int


class Download(Record):
    """What a download pod and its claim need; templates read it as they read a deployment's plan.

    Attributes:
        endpoint: the endpoint whose volume it is; None when the catalog has none for this model here.
    """

    endpoint: str | None
    model: str
    model_object_name: str
    cluster: str
    connection: str
    namespace: str
    image_pull_policy: Literal["Never", "IfNotPresent", "Always"]
    image_pull_secrets: list[str]
    server: Reader
    weights: Weights
    volume: Claim
    tools_image: str
    code_digest: str
    labels: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it

    @property
    def object_name(self) -> str:
        """What names of pods begin with."""
        return self.model_object_name

    def house_labels(self, component: str, release: str | None) -> dict[str, str]:
        """The labels of a pod: it belongs to a model and to no endpoint, so ``release`` says nothing."""
        return self.model_labels(component)

    def model_labels(self, component: str) -> dict[str, str]:
        """The labels of an object that endpoints of one model in a namespace share."""
        return {
            MANAGED_BY_LABEL: "slipway",
            COMPONENT_LABEL: component,
            MODEL_LABEL: self.model_object_name,
        }


def plan_download(
    catalog: Catalog,
    *,
    model: str,
    cluster: str,
    namespace: str | None = None,
    source: str | None = None,
    revision: str | None = None,
    include: Path | None = None,
) -> Download:
    """Say where a model's weights come from and where they go.

    The volume is that of an endpoint of the model in this cluster and namespace, so that its deployment finds the
    weights; else the claim that such an endpoint would have, with a quarter more room than the model takes.

    Args:
        catalog: as ``read_catalog`` gives it.
        model: a model of the catalog.
        cluster: a cluster of the catalog.
        namespace: where; that of an endpoint of the model in the cluster when None.
        source: the only source to use, instead of the model's own ones.
        revision: which version.
        include: the include directory whose images are used; the project's own when None.

    Raises:
        UsageError: no such model or cluster, no namespace, or a volume that somebody else fills.
    """
    if model not in catalog.models:
        raise UsageError(
            "no such model", about=model, remedy=f"Models are: {', '.join(sorted(catalog.models))}"
        )
    if cluster not in catalog.clusters:
        raise UsageError(
            "no such cluster", about=cluster, remedy=f"Clusters are: {', '.join(sorted(catalog.clusters))}"
        )
    record, place = catalog.models[model], catalog.clusters[cluster]
    endpoint = _endpoint_of(catalog, model=model, cluster=cluster, namespace=namespace)
    where = namespace or (endpoint.namespace if endpoint else None)
    if where is None:
        raise UsageError(
            "the download has no namespace",
            about=f"{model} in {cluster}",
            why="the catalog has no endpoint of this model there that would say it",
            remedy="name the namespace",
        )
    claim = _claim(endpoint, record, place)
    own = endpoint.source if endpoint else None
    sources = sources_of(record, place, own=own, asked=source)
    if sources[0].split("://", 1)[0] not in FETCHED:
        raise UsageError(
            "the source is not one that a download reads",
            about=sources[0],
            remedy=f"Name one that begins with {', '.join(f'{kind}://' for kind in FETCHED)}",
        )
    images = Images(include or include_directory(), Path(__file__).resolve().parents[1])
    return Download(
        endpoint=endpoint.name if endpoint else None,
        model=model,
        model_object_name=object_name(model),
        cluster=cluster,
        connection=place.connection,
        namespace=where,
        image_pull_policy=place.image_pull_policy,
        image_pull_secrets=list(place.image_pull_secrets),
        server=Reader(user=catalog.runtimes[endpoint.runtime].user if endpoint else _USER),
        weights=weights_of(
            record, place, sources, claim=claim.claim, own=own, asked=source, revision=revision
        ),
        volume=claim,
        tools_image=images.reference("tools", cluster=place),
        code_digest=images.code,
    )


def _endpoint_of(catalog: Catalog, *, model: str, cluster: str, namespace: str | None) -> Endpoint | None:
    """The first endpoint, by name, of a model here whose weights we download."""
    return next(
        (
            endpoint
            for _, endpoint in sorted(catalog.endpoints.items())
            if (endpoint.model, endpoint.cluster) == (model, cluster)
            and namespace in (None, endpoint.namespace)
            and not (endpoint.volume.dataset or endpoint.volume.fluid or endpoint.volume.static)
        ),
        None,
    )


def _claim(endpoint: Endpoint | None, model: Model, cluster: Cluster) -> Claim:
    storage, volume = cluster.storage, endpoint.volume if endpoint else None
    room = -(-int(quantity_bytes(model.size) * _SPARE) // _GIBIBYTE)
    return Claim(
        claim=(volume and volume.claim) or f"{object_name(model.name)}-weights",
        size=volume.size if volume else f"{room}Gi",
        storage_class=(volume and volume.storage_class) or storage.storage_class,
        access_mode=(volume and volume.access_mode) or storage.access_mode,
    )
