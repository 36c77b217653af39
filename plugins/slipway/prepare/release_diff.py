"""What Helm would change in the cluster: its rendered objects against the live ones, in our own diff."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from slipway.cluster.client import Cluster
from slipway.cluster.diff import unified
from slipway.cluster.faults import ApiError, UnknownKindError
from slipway.cluster.objects import Object, Ref, ref_of
from slipway.cluster.redact import redact

_KEPT = ("helm.sh/resource-policy", "keep")
_HELM = "helm"


def difference(
    cluster: Cluster, *, old: Iterable[Object], new: Iterable[Object], namespace: str
) -> tuple[str, list[str]]:
    """Return a unified diff of all objects, and why the cluster would refuse some.

    As Helm does it: what a new manifest says is put over the live object, what only the old manifest said is taken
    away, and all else is left.

    Args:
        cluster: where.
        old: objects of the release as it is.
        new: objects of the release as it would be.
        namespace: of the release, for objects that name none.
    """
    before = {_key(one, namespace): one for one in old}
    texts, refusals, seen = [], [], set()
    for one in new:
        seen.add(_key(one, namespace))
        obj = _placed(cluster, one, namespace)
        ref, live = ref_of(obj), _live(cluster, obj)
        if live is None:
            texts.append(unified(ref, None, obj))
            continue
        try:
            tried = cluster.apply(obj, dry_run=True, force=True, manager=_HELM)
        except ApiError as error:
            if error.status == 403:
                refusals.append(f"{ref}: {error.why}")
            # Our apply is stricter than Helm's (no unknown field, nothing twice): what it refuses may well pass.
            texts.append(f"# not tried: {error.why}\n{unified(ref, before.get(_key(one, namespace)), obj)}")
            continue
        texts.append(unified(ref, live, _without(tried, before.get(_key(one, namespace), {}), one)))
    dropped = [one for key, one in before.items() if key not in seen]
    return "".join(texts) + removal(cluster, dropped, namespace=namespace), refusals


def removal(cluster: Cluster, objects: Iterable[Object], *, namespace: str) -> str:
    """Return a unified diff of objects that would be deleted; those that are to be kept are not among them."""
    texts = []
    for one in objects:
        annotations = one["metadata"].get("annotations") or {}
        obj = _placed(cluster, one, namespace)
        live = _live(cluster, obj)
        if live is not None and annotations.get(_KEPT[0]) != _KEPT[1]:
            texts.append(unified(ref_of(obj), live, None))
    return "".join(texts)


def missing(cluster: Cluster, objects: Iterable[Object], *, namespace: str) -> list[Ref]:
    """Return the objects that are not in the cluster."""
    placed = [_placed(cluster, one, namespace) for one in objects]
    return [ref_of(obj) for obj in placed if _live(cluster, obj) is None]


def of_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return a unified diff of a release's values; somebody may have given a password as one, so they are redacted."""
    before, after = (yaml.safe_dump(dict(one), sort_keys=True, width=110).splitlines() for one in (old, new))
    lines = difflib.unified_diff(
        before, after, fromfile="values: as installed", tofile="values: as wanted", lineterm=""
    )
    return redact("".join(f"{line}\n" for line in lines))


def _key(obj: Object, namespace: str) -> tuple[str, str, str, str]:
    metadata = obj["metadata"]
    group = obj["apiVersion"].rpartition("/")[0]
    return group, obj["kind"], metadata.get("namespace") or namespace, metadata["name"]


def _placed(cluster: Cluster, obj: Object, namespace: str) -> Object:
    """Return an object with its namespace, without one where its kind has none."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "namespace"}
    place = obj["metadata"].get("namespace") or namespace
    ref = Ref(apiVersion=obj["apiVersion"], kind=obj["kind"], namespace=place, name=metadata["name"])
    try:
        has_one = "/namespaces/" in cluster.path_of(ref) or obj["kind"] == "Namespace"
    except UnknownKindError:
        has_one = bool(obj["metadata"].get("namespace"))
    if has_one and obj["kind"] != "Namespace":
        metadata["namespace"] = place
    return {**obj, "metadata": metadata}


def _live(cluster: Cluster, obj: Object) -> Object | None:
    ref = ref_of(obj)
    try:
        return cluster.get(api_version=ref.apiVersion, kind=ref.kind, name=ref.name, namespace=ref.namespace)
    except UnknownKindError:
        return None


def _without(tried: Any, old: Any, new: Any) -> Any:
    """Take away from an object what its old manifest said and its new one does not; of lists nothing."""
    if not all(isinstance(one, Mapping) for one in (tried, old, new)):
        return tried
    return {
        key: _without(value, old.get(key), new.get(key)) if key in new else value
        for key, value in tried.items()
        if key in new or key not in old
    }
