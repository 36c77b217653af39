"""Who manages an object's fields: what people applied with kubectl becomes Slipway's.

The API server keeps, for each manager, the set of fields that it has set (``metadata.managedFields``). A server-side
apply removes a field that it no longer names only where nobody else holds it. So an object that ``kubectl apply`` made
would keep every argument that was ever in it, and each changed one would be a conflict, until kubectl's fields are
Slipway's: the same move that ``kubectl apply --server-side`` makes for its own.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError
from slipway.cluster.objects import MANAGER, Object, Ref

# Of which nothing is taken: they go on doing what they do, whoever manages the rest.
_CONTROLLERS = frozenset({"kube-controller-manager", "keda-operator", "kubelet"})
_ATTEMPTS = 5


def is_persons(manager: str) -> bool:
    """Whether a manager is a person with kubectl, whichever of its commands it was."""
    return manager.startswith("kubectl") or manager == "before-first-apply"


def foreign_managers(live: Object) -> list[str]:
    """The managers of an object that are neither kubectl, nor Slipway, nor one of Kubernetes' controllers.

    They would set the object back: a chart's next upgrade, a GitOps controller's next look.
    """
    found = {
        entry.get("manager", "")
        for entry in live["metadata"].get("managedFields") or []
        if not entry.get("subresource")
    }
    ours = {name for name in found if name == MANAGER or name.startswith(f"{MANAGER}-")}
    return sorted(name for name in found - ours - _CONTROLLERS if name and not is_persons(name))


def take_fields(cluster: Cluster, ref: Ref, *, also: Collection[str] = ()) -> bool:
    """Make the fields that people set with kubectl Slipway's own, as if Slipway had applied them.

    Nothing but the object's ``managedFields`` changes. Fields of another version of the object's API are given up by
    their manager and are nobody's then.

    Args:
        cluster: where.
        ref: the object.
        also: further managers whose fields are taken.

    Returns:
        Whether anything was to be taken.

    Raises:
        ApiError: somebody else wrote the object each time in between.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        live = cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
        entries = taken(live, also=also) if live else None
        if live is None or entries is None:
            return False
        version = live["metadata"]["resourceVersion"]
        try:
            cluster.patch(ref, {"metadata": {"managedFields": entries, "resourceVersion": version}})
        except ApiError as error:
            if error.status != 409 or attempt == _ATTEMPTS:
                raise
        else:
            return True
    raise AssertionError("unreachable")


def taken(live: Object, *, also: Collection[str] = ()) -> list[Object] | None:
    """Return an object's ``managedFields`` with kubectl's fields among those that Slipway applied.

    What Slipway wrote by patches is joined to them too. Subresources (status, scale) stay with who wrote them.

    Returns:
        None where nothing is to be taken.
    """
    entries: list[Object] = live["metadata"].get("managedFields") or []
    mine = [entry for entry in entries if _is_taken(entry, also)]
    if not mine:
        return None
    applied = [entry for entry in entries if _is_applied_by_us(entry)]
    fields: Object = {}
    for entry in (*applied, *mine):
        if entry.get("apiVersion") == live["apiVersion"]:
            fields = _union(fields, entry.get("fieldsV1") or {})
    times = [entry["time"] for entry in (*applied, *mine) if entry.get("time")]
    joined: Object = {
        "manager": MANAGER,
        "operation": "Apply",
        "apiVersion": live["apiVersion"],
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
        **({"time": max(times)} if times else {}),
    }
    return [joined, *(entry for entry in entries if entry not in mine and entry not in applied)]


def _is_applied_by_us(entry: Object) -> bool:
    return bool(
        entry.get("manager") == MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource")
    )


def _is_taken(entry: Object, also: Collection[str]) -> bool:
    if entry.get("subresource") or _is_applied_by_us(entry):
        return False
    manager = entry.get("manager", "")
    return is_persons(manager) or manager == MANAGER or manager in also


def _union(one: Any, other: Any) -> Any:
    """Join two sets of fields, which are trees whose leaves are empty."""
    return {key: _union(one.get(key, {}), other.get(key, {})) for key in {**one, **other}}
