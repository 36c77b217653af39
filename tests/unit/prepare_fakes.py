"""A cluster of plain objects, and records to prepare it by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway.catalog.read import read_catalog
from slipway.catalog.records import Cluster
from slipway.cluster.faults import UnknownKindError
from slipway.manifests.mirror import merged
from slipway.prepare.target import Target, environment_credentials

CATALOG = read_catalog()
COMPANY = CATALOG.clusters["company"]
MIRROR = "registry.company.com/mirror/docker.io"


class Live:
    """A cluster of plain objects, as far as looking needs one."""

    def __init__(self, *objects: dict[str, Any], unknown: tuple[str, ...] = ()) -> None:
        self.objects, self.unknown, self.applied = list(objects), unknown, list[dict[str, Any]]()

    def path_of(self, ref: Any) -> str:
        if ref.kind in self.unknown:
            raise UnknownKindError("the cluster has no such kind")
        own = ref.kind in ("Node", "Namespace", "CustomResourceDefinition", "ClusterRole")
        return f"/{ref.kind}" if own else f"/namespaces/{ref.namespace}/{ref.kind}"

    def get(self, *, api_version: str, kind: str, name: str, namespace: str | None = None) -> Any:
        if kind in self.unknown:
            raise UnknownKindError("the cluster has no such kind")
        found = (
            one for one in self.list(api_version=api_version, kind=kind) if one["metadata"]["name"] == name
        )
        return next((one for one in found if one["metadata"].get("namespace") == namespace), None)

    def list(self, *, api_version: str, kind: str, **_: Any) -> list[dict[str, Any]]:
        return [one for one in self.objects if one["kind"] == kind]

    def apply(self, obj: dict[str, Any], *, dry_run: bool = False, **_: Any) -> dict[str, Any]:
        if not dry_run:
            self.applied.append(obj)
        live = self.get(
            api_version=obj["apiVersion"],
            kind=obj["kind"],
            name=obj["metadata"]["name"],
            namespace=obj["metadata"].get("namespace"),
        )
        return merged(live or {}, obj)


def target(record: Cluster, live: Live | None = None, **more: Any) -> Target:
    return Target(
        catalog=CATALOG,
        include=Path("include"),
        record=record,
        cluster=live or Live(),  # type: ignore[arg-type]
        credentials=more.pop("credentials", environment_credentials),
        **more,
    )


def with_setup(**setup: Any) -> Cluster:
    sandbox = CATALOG.clusters["sandbox"].model_dump()
    return Cluster.model_validate({**sandbox, "setup": setup, "gateway": None})


FORBIDDEN = (
    'customresourcedefinitions.apiextensions.k8s.io "x" is forbidden: User "slipway" cannot patch resource '
    '"customresourcedefinitions" in API group "apiextensions.k8s.io" at the cluster scope'
)
