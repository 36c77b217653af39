"""Where an endpoint's weights come from, which claim they lie in, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from slipway.catalog.faults import Fault
from slipway.catalog.names import object_name
from slipway.catalog.quantities import quantity_bytes
from slipway.catalog.records import Cluster, Model
from slipway.manifests.overrides import Overrides
from slipway.manifests.plan import DATASET_TYPES, Claim, Weights
from slipway.manifests.records import Records
from slipway.manifests.sources import as_ordered, directory_of, in_claim, revision_of, sources_of


def claim_for(records: Records) -> Claim:
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


def weights_faults(records: Records, overrides: Overrides) -> Iterator[Fault]:
    """Hold an endpoint's source against what its cluster can fetch, and its volume against the model's size."""
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


def weights_for(records: Records, overrides: Overrides) -> Weights:
    """Make a plan's weights: brought by us, by a data set operator, or there already in a static volume."""
    volume = records.endpoint.volume
    brought = (
        "fluid" if volume.fluid else "dataset" if volume.dataset else "static" if volume.static else None
    )
    weights = weights_of(
        records.model,
        records.cluster,
        _sources(records, overrides),
        claim=claim_for(records).claim,
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


def _source(records: Records, overrides: Overrides) -> str:
    """The first source: the only one where a data set operator or a static volume brings the weights."""
    return _sources(records, overrides)[0]


def _sources(records: Records, overrides: Overrides) -> list[str]:
    volume, own = records.endpoint.volume, records.endpoint.source
    if volume.static or volume.fluid or volume.dataset:
        static = volume.static.source if volume.static else None
        return [overrides.source or static or own or records.model.sources[0]]
    return sources_of(records.model, records.cluster, own=own, asked=overrides.source)
