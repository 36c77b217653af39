"""A release as a ConfigMap in the namespace it serves in: what the cluster itself knows of it.

The SQL history can be lost or be another machine's; the cluster then still says what was deployed there, what
belongs to it, and which release was good. `slipway history --rebuild` reads these objects back.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from typing import Any

from pydantic import ValidationError

from slipway.catalog.names import object_name
from slipway.cluster.apply import inventory_of
from slipway.cluster.objects import (
    ENDPOINT_LABEL,
    MANAGED_BY_LABEL,
    MANAGER,
    RELEASE_LABEL,
    Inventory,
    Object,
    Ref,
)
from slipway.errors import ReleaseError
from slipway.manifests.render import Rendered
from slipway.releases.records import Release

NUMBER_LABEL = "slipway.io/release-number"
MANIFESTS, RELEASE, INVENTORY = "manifests.json.gz", "release.json", "inventory.json"

LARGEST_CONFIG_MAP = 1024 * 1024
"""What the API server allows: the bytes of all values, those of binaryData after decoding (MaxSecretSize)."""
LARGEST_MANIFESTS = 64 * 1024 * 1024
"""The most that is unpacked from a ConfigMap, which anybody with rights in the namespace may have written."""


def inventory_name(release: Release) -> str:
    """Return the name of a release's ConfigMap."""
    return f"slipway-release-{object_name(release.endpoint)}-{release.number}"


def inventory_object(release: Release, *, inventory: Inventory | None = None) -> Object:
    """Make the ConfigMap of a release as it is now. Pure: the same release gives the same object.

    Args:
        release: the release.
        inventory: what belongs to it where its workload stands under another name than it was rendered with.

    Raises:
        ReleaseError: it would be larger than a ConfigMap may be.
    """
    manifests = gzip.compress(release.objects, mtime=0)
    record = release.model_dump(mode="json", exclude={"id", "objects"})
    if inventory is None:
        inventory = inventory_of(Rendered.from_bytes(release.objects).objects())
    data = {
        RELEASE: _json(record),
        INVENTORY: _json([ref.model_dump(mode="json") for ref in inventory]),
    }
    size = len(manifests) + sum(len(value.encode()) for value in data.values())
    if size > LARGEST_CONFIG_MAP:
        raise ReleaseError(
            "the release does not fit into a ConfigMap",
            about=f"{release.title} of {release.endpoint}",
            why=f"{size} bytes compressed, and Kubernetes allows {LARGEST_CONFIG_MAP}",
            remedy="Make the endpoint's objects smaller: large files belong into an image or a volume",
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": inventory_name(release),
            "namespace": release.namespace,
            "labels": {
                MANAGED_BY_LABEL: MANAGER,
                ENDPOINT_LABEL: object_name(release.endpoint),
                RELEASE_LABEL: release.label,
                NUMBER_LABEL: str(release.number),
            },
        },
        "data": data,
        "binaryData": {MANIFESTS: base64.b64encode(manifests).decode()},
    }


def read_inventory(obj: Object) -> tuple[Release, Inventory]:
    """Read a release and what belongs to it back from its ConfigMap.

    The release's ``id`` is 0: ids are a history's own, and ``History.restore`` gives it one.

    Raises:
        ReleaseError: the object is not one that ``inventory_object`` made, or its content was changed.
    """
    name = obj.get("metadata", {}).get("name", "")
    try:
        packed = base64.b64decode(obj["binaryData"][MANIFESTS], validate=True)
        release = Release(id=0, objects=_unpack(packed), **json.loads(obj["data"][RELEASE]))
        refs = [Ref.model_validate(ref) for ref in json.loads(obj["data"][INVENTORY])]
    except (KeyError, TypeError, ValueError, binascii.Error, EOFError, zlib.error, ValidationError) as error:
        raise _unreadable(name, f"{type(error).__name__} while reading it") from error
    if not release.has_its_objects() or name != inventory_name(release):
        raise _unreadable(name, "its content is not what was stored")
    return release, refs


def _unpack(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    content = unpacker.decompress(packed, LARGEST_MANIFESTS)
    if not unpacker.eof:
        raise ValueError("too large, or cut off")
    return content


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _unreadable(name: str, why: str) -> ReleaseError:
    return ReleaseError("the release cannot be read from its ConfigMap", about=name, why=why)
