"""Volumes of Hydra's templates beside those that every serving pod of Slipway has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slipway.errors import bounded
from slipway.hydra.document import Entry

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where Linux has shared memory, no file of ours
DEFAULT_SIZE = "1Gi"
# What include/templates/serving-pod.j2 names and mounts itself; the catalog says how large each is.
HOUSE_VOLUMES = ("weights", "scratch", "shared-memory", "compile-cache")
HOUSE_PATHS = {"/data/serving-model": "the weights", "/tmp": "scratch"}  # noqa: S108 - a path in the pod


def split_volumes(parts: Mapping[str, Entry], record: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The fields of a runtime for its volumes and mounts: memory at /dev/shm is ``shared_memory`` in the catalog.

    Raises:
        HydraError: a volume or a mount that Slipway's own pods have already.
    """
    volumes, mounts = list(record.get("volumes", [])), list(record.get("volume_mounts", []))
    made: dict[str, Any] = {"volumes": volumes, "volume_mounts": mounts}
    notes: list[str] = []
    for mount in [one for one in mounts if _path(one) == SHARED_MEMORY]:
        of = [one for one in volumes if one.get("name") == mount.get("name")]
        memory = of[0].get("emptyDir") if len(of) == 1 else None
        uses = sum(one.get("name") == mount.get("name") for one in (*mounts, *_mounts_of(record)))
        if not isinstance(memory, dict) or memory.get("medium") != "Memory" or uses != 1:
            parts["volumeMounts"].refuse(
                f"a mount at {SHARED_MEMORY} that is not memory of its own",
                why="every serving pod of Slipway has memory there",
                remedy="Take it out, and set shared_memory in the catalog",
            )
        volumes.remove(of[0])
        mounts.remove(mount)
        made["shared_memory"] = memory.get("sizeLimit", DEFAULT_SIZE)
        notes.append(f"The volume at {SHARED_MEMORY} is shared_memory {bounded(str(made['shared_memory']))}.")
    _refuse_taken(parts, volumes, mounts)
    return made, notes


def shared_memory(size: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The volume and the mount that give a pod of Hydra its shared memory; none for what is the default here."""
    if size == DEFAULT_SIZE:
        return [], []
    name = "shared-memory"
    volume = {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": size}}
    return [volume], [{"name": name, "mountPath": SHARED_MEMORY}]


def _path(mount: Mapping[str, Any]) -> str:
    path = str(mount.get("mountPath", ""))
    return path.rstrip("/") or path


def _mounts_of(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The mounts of the init containers."""
    for container in record.get("init_containers", []):
        listed = container.get("volumeMounts")
        yield from (one for one in listed if isinstance(one, dict)) if isinstance(listed, list) else ()


def _refuse_taken(parts: Mapping[str, Entry], volumes: list[Any], mounts: list[Any]) -> None:
    for volume in volumes:
        if volume.get("name") in HOUSE_VOLUMES:
            parts["volumes"].refuse(
                f"a volume named {volume['name']}",
                why="every serving pod of Slipway has one of that name",
                remedy="Give it another name",
            )
    for mount in mounts:
        if _path(mount) in HOUSE_PATHS:
            parts["volumeMounts"].refuse(
                f"a mount at {_path(mount)}",
                why=f"every serving pod of Slipway has {HOUSE_PATHS[_path(mount)]} there",
                remedy="Take it out",
            )
