"""What a wait asks about a namespace, apart from who answers: the server itself, or what its watches have told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from slipway.cluster.objects import ENDPOINT_LABEL, Object, object_path, selector
from slipway.cluster.transport import Answer, Request

PAGE = 500


@dataclass(frozen=True)
class Collection:
    """All objects of a kind in a namespace."""

    api_version: str
    plural: str
    namespace: str

    @property
    def path(self) -> str:
        """Where the API server has it."""
        return object_path(api_version=self.api_version, plural=self.plural, namespace=self.namespace)


@dataclass(frozen=True)
class Key:
    """Which of them.

    Attributes:
        by: ``name`` the object itself, ``endpoint`` the label, ``about`` the object that an event is about, by name.
        value: its value.
    """

    by: Literal["name", "endpoint", "about"]
    value: str


@dataclass(frozen=True, kw_only=True)
class Read:
    """Some objects of a collection.

    Attributes:
        fresh: from the server itself, not from what it has told before.
    """

    collection: Collection
    key: Key
    fresh: bool

    def request(self) -> Request:
        """The same as a request."""
        place, by, value = self.collection, self.key.by, self.key.value
        if by == "name":
            path = object_path(
                api_version=place.api_version, plural=place.plural, namespace=place.namespace, name=value
            )
            about = f"{place.namespace}/{value}"
            what = f"read one of the {place.plural}"
            return Request(method="GET", path=path, what=what, about=about, accept=frozenset({404}))
        query = {
            "endpoint": {"labelSelector": selector({ENDPOINT_LABEL: value})},
            "about": {"fieldSelector": selector({"involvedObject.name": value})},
        }[by]
        return Request(
            method="GET",
            path=place.path,
            what=f"list {place.plural}",
            about=f"namespace {place.namespace}",
            query={**query, "limit": PAGE},
        )


@dataclass(frozen=True)
class Found:
    """What was read.

    Attributes:
        now: the server's time.
        fresh: the server itself answered.
    """

    objects: list[Object]
    now: datetime
    fresh: bool = True


def found_in(answer: Answer) -> Found:
    """Take the objects out of the answer to a read's request."""
    if answer.status == 404:
        return Found([], answer.date)
    content = answer.json()
    return Found(list(content["items"] or []) if "items" in content else [content], answer.date)


def keys_of(obj: Object) -> list[Key]:
    """The keys by which an object is found."""
    metadata = obj["metadata"]
    keys = [Key("name", metadata["name"])]
    endpoint = (metadata.get("labels") or {}).get(ENDPOINT_LABEL)
    if endpoint:
        keys.append(Key("endpoint", endpoint))
    if "involvedObject" in obj:
        keys.append(Key("about", (obj["involvedObject"] or {}).get("name", "")))
    return keys


# What no judgement reads and what makes most of an object: kept for a thousand pods it would be most of the memory.
_UNREAD_OF_CONTAINERS = frozenset({"env", "envFrom", "command", "args", "volumeMounts", "securityContext"})
_UNREAD_OF_EVENTS = frozenset({"managedFields", "labels", "annotations"})


def trimmed(obj: Object) -> Object:
    """An object without what no judgement reads (`cluster.workload.judge`)."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "annotations"}
    if "involvedObject" in obj:
        return {**obj, "metadata": {k: v for k, v in metadata.items() if k not in _UNREAD_OF_EVENTS}}
    metadata["managedFields"] = [_entry(one) for one in metadata.get("managedFields") or []]
    spec = obj.get("spec")
    return {**obj, "metadata": metadata, **({"spec": _spec(spec)} if isinstance(spec, dict) else {})}


def _entry(entry: Object) -> Object:
    """Who changed an object when, and whether that was its replicas."""
    kept: Object = {key: entry[key] for key in ("manager", "operation", "time") if key in entry}
    replicas = (entry.get("fieldsV1") or {}).get("f:spec", {}).get("f:replicas")
    return kept if replicas is None else {**kept, "fieldsV1": {"f:spec": {"f:replicas": replicas}}}


def _spec(spec: Object) -> Object:
    kept = dict(spec)
    for containers in ("containers", "initContainers"):
        if kept.get(containers):
            kept[containers] = [
                {key: value for key, value in one.items() if key not in _UNREAD_OF_CONTAINERS}
                for one in kept[containers]
            ]
    if isinstance(kept.get("template"), dict) and isinstance(kept["template"].get("spec"), dict):
        kept["template"] = {**kept["template"], "spec": _spec(kept["template"]["spec"])}
    return kept
