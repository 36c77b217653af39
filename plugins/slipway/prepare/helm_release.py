"""Helm's releases, read from where Helm 3 and 4 keep them: a Secret for each revision.

So a plan that finds all as it should be needs no helm, and no access to any chart.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, labels_of
from slipway.errors import ClusterError

PREPARED_LABEL = "slipway.io/prepared"
PENDING = frozenset({"pending-install", "pending-upgrade", "pending-rollback", "uninstalling"})
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class Release:
    """A revision of a release.

    Attributes:
        status: Helm's word: deployed, failed, superseded, pending-install, …
        ours: whether Slipway installed it.
        values: what is different from the chart's own values.
        description: what Helm, or whoever ran it, noted.
    """

    revision: int
    status: str
    ours: bool
    chart: str
    version: str
    values: dict[str, Any]
    objects: tuple[Object, ...]
    description: str
    updated: str


def releases(cluster: Cluster, *, namespace: str, name: str) -> list[Release]:
    """Return the revisions of a release that Helm keeps, the newest first; none where it was never installed.

    Raises:
        ClusterError: they cannot be read.
    """
    found = cluster.list(
        api_version="v1", kind="Secret", namespace=namespace, labels={"owner": "helm", "name": name}
    )
    read = [_release_of(one) for one in found if one.get("type") == "helm.sh/release.v1"]
    return sorted(read, key=lambda one: one.revision, reverse=True)


def _release_of(secret: Object) -> Release:
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        content = json.loads(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)
        metadata = content["chart"]["metadata"]
        info = content["info"]
        return Release(
            revision=int(content["version"]),
            status=info["status"],
            ours=labels_of(secret).get(PREPARED_LABEL) == "true",
            chart=metadata["name"],
            version=metadata["version"],
            values=content.get("config") or {},
            objects=tuple(objects_in(content.get("manifest") or "")),
            description=info.get("description") or "",
            updated=info.get("last_deployed") or "",
        )
    except (
        KeyError,
        TypeError,
        ValueError,
        OSError,
        EOFError,
        zlib.error,
        binascii.Error,
        yaml.YAMLError,
    ) as error:
        metadata = secret["metadata"]
        raise ClusterError(
            "a Helm release cannot be read",
            about=f"Secret {metadata.get('namespace')}/{metadata['name']}",
            why=f"{type(error).__name__}: it is not what Helm 3 writes",
            remedy="Look with: helm history NAME -n NAMESPACE",
        ) from error


def objects_in(manifest: str) -> Iterator[Object]:
    """Return the objects of a manifest; those of a List each by itself."""
    for document in yaml.load_all(manifest, Loader=_Loader):
        if not isinstance(document, dict) or "kind" not in document:
            continue
        if document["kind"] == "List":
            yield from document.get("items") or []
        else:
            yield document
