"""Where a cluster pulls images from that others publish: its registry's mirror of them, in plans and chart values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.catalog.records import Cluster

# How charts name a registry that is put before the names of their images.
_REGISTRY_KEYS = frozenset({"imageRegistry", "baseRepo"})
_DEFAULT_REGISTRY = "docker.io"


def mirrored(image: str, cluster: Cluster) -> str:
    """Return an image's name as the cluster pulls it; the longest matching prefix of its record counts.

    A name without a registry is Docker Hub's, as container runtimes read it.
    """
    for name in dict.fromkeys((image, full_name(image))):
        matching = [prefix for prefix in cluster.registry_rewrite if name.startswith(prefix)]
        if matching:
            longest = max(matching, key=len)
            return cluster.registry_rewrite[longest] + name.removeprefix(longest)
    return image


def full_name(image: str) -> str:
    """Return an image's name with its registry."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"{_DEFAULT_REGISTRY}/{image}" if slash else f"{_DEFAULT_REGISTRY}/library/{image}"


def mirrored_reference(chart: str, cluster: Cluster) -> str:
    """Return a chart's reference as the cluster's people reach it; only OCI references have a registry."""
    scheme = "oci://"
    return scheme + mirrored(chart.removeprefix(scheme), cluster) if chart.startswith(scheme) else chart


def mirrored_values(values: Mapping[str, Any], cluster: Cluster) -> dict[str, Any]:
    """Return what has to be different in a chart's values for its images to come from the mirror, and nothing else.

    Charts have no common way to name images. These are known: a mapping with ``repository`` and perhaps ``registry``,
    a text under a key that ends with ``image``, and a text under ``imageRegistry`` or ``baseRepo``. What a chart keeps
    elsewhere (an argument, a template) is not seen here; ``slipway prepare CLUSTER --images`` shows what comes out.
    """
    changed: dict[str, Any] = _image_of(values, cluster)
    for key, value in values.items():
        if isinstance(value, Mapping):
            if inner := mirrored_values(value, cluster):
                changed[key] = inner
        elif isinstance(value, list):
            # Helm replaces lists whole.
            items = [_mirrored_item(item, cluster) for item in value]
            if items != value:
                changed[key] = items
        elif isinstance(value, str) and value:
            new = _mirrored_text(key, value, cluster)
            if new != value:
                changed[key] = new
    return changed


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with changes put over them, mappings joined and all else replaced, as Helm does it."""
    joined = dict(values)
    for key, change in changes.items():
        old = joined.get(key)
        both = isinstance(old, Mapping) and isinstance(change, Mapping)
        joined[key] = merged(old, change) if both else change  # type: ignore[arg-type]
    return joined


def _image_of(values: Mapping[str, Any], cluster: Cluster) -> dict[str, Any]:
    repository, registry = values.get("repository"), values.get("registry")
    if not isinstance(repository, str) or not repository or repository.startswith("/"):
        return {}
    name = f"{registry}/{repository}" if isinstance(registry, str) and registry else repository
    new = mirrored(name, cluster)
    if new == name:
        return {}
    if not isinstance(registry, str):
        return {"repository": new}
    host, _, rest = new.partition("/")
    return {"registry": host, "repository": rest}


def _mirrored_item(item: Any, cluster: Cluster) -> Any:
    return merged(item, mirrored_values(item, cluster)) if isinstance(item, Mapping) else item


def _mirrored_text(key: str, value: str, cluster: Cluster) -> str:
    if key in _REGISTRY_KEYS:
        return cluster.registry_rewrite.get(f"{value.rstrip('/')}/", value).rstrip("/")
    if key.lower().endswith("image") and " " not in value:
        return mirrored(value, cluster)
    return value
