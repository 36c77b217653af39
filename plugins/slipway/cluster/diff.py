"""What an apply would change on the cluster: the server's own dry run held against what is there now.

The server fills in defaults and lets webhooks change an object in a dry run as in a real one, so what differs is what
a deployment would really change, and nothing else. For an object that is not there yet, the object itself is shown: a
dry run would make up addresses and ids.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from slipway.cluster.adopting import beside, fixed_differences
from slipway.cluster.apply import conflict
from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError, UnreachableError
from slipway.cluster.objects import (
    ENDPOINT_LABEL,
    MANAGED_BY_LABEL,
    MANAGER,
    PROTECTED_KINDS,
    Inventory,
    Object,
    Ref,
    in_order,
    labels_of,
    ref_of,
)
from slipway.cluster.shapes import pod_templates
from slipway.errors import ClusterError

# What the server keeps for itself and changes without anybody's doing.
_METADATA = frozenset(
    {"managedFields", "resourceVersion", "generation", "uid", "selfLink", "creationTimestamp"}
    | {"deletionTimestamp", "deletionGracePeriodSeconds"}
)
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_HIDDEN = "***"
# The definitions of the Gateway API are megabytes, which the dumper in Python takes seconds for.
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True)
class Difference:
    """What an apply would do to one object.

    Attributes:
        text: a unified diff of its YAML; "" when nothing would change.
        note: what a reader must know besides: why it could not be tried, that it is deleted and made anew, or "".
        refusal: why the server would refuse it, or "".
        new: whether it is not there yet.
    """

    ref: Ref
    text: str
    note: str = ""
    refusal: str = ""
    new: bool = False


def differences(cluster: Cluster, objects: Iterable[Object], *, force: bool = False) -> Iterator[Difference]:
    """Compare objects with the live ones, in the order in which they would be applied; changes nothing.

    Replicas of a workload that is there are left as they are, as an apply leaves them.

    Args:
        cluster: where.
        objects: what would be applied.
        force: as the apply would be.

    Raises:
        ClusterError: the server could not be asked.
    """
    namespaces: dict[str, bool] = {}
    for obj in in_order(objects):
        ref = ref_of(obj)
        if missing := _missing(cluster, ref, namespaces):
            yield Difference(ref, unified(ref, None, obj), note=missing, new=True)
            continue
        live = cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
        anew = fixed_differences(live, obj) if live else []
        try:
            tried = cluster.apply(
                beside(_with_live_replicas(obj, live), anew=bool(anew)), dry_run=True, force=force
            )
        except ApiError as error:
            if error.status not in (400, 403, 409, 413, 422, 500):
                raise
            refused = conflict(error, about=str(ref)) if error.status == 409 else error
            text = unified(ref, live, obj) if live is None else ""
            yield Difference(ref, text, refusal=refused.why, new=live is None)
            continue
        tried["metadata"]["name"] = ref.name
        note = f"made anew, since Kubernetes never changes its {' and '.join(anew)}" if anew else ""
        yield Difference(ref, unified(ref, live, obj if live is None else tried), note=note, new=live is None)


def prunable(cluster: Cluster, *, old: Inventory, new: Inventory) -> Inventory:
    """Return what a prune would delete: what is in the old inventory alone and still carries our labels."""
    kept = set(new)
    gone = [ref for ref in reversed(old) if ref not in kept and ref.kind not in PROTECTED_KINDS]
    return [ref for ref in dict.fromkeys(gone) if not _missing(cluster, ref, {}) and _is_ours(cluster, ref)]


def _is_ours(cluster: Cluster, ref: Ref) -> bool:
    live = cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
    labels = labels_of(live or {})
    return labels.get(MANAGED_BY_LABEL) == MANAGER and ENDPOINT_LABEL in labels


def _missing(cluster: Cluster, ref: Ref, namespaces: dict[str, bool]) -> str:
    """Say what has to be there before the object can be tried."""
    try:
        cluster.path_of(ref)
    except (ApiError, UnreachableError):
        raise
    except ClusterError:
        return f"the cluster does not know {ref.kind} in {ref.apiVersion}"
    if ref.namespace and ref.namespace not in namespaces:
        found = cluster.get(api_version="v1", kind="Namespace", name=ref.namespace)
        namespaces[ref.namespace] = found is not None
    if ref.namespace and not namespaces[ref.namespace]:
        return f"namespace {ref.namespace} is not there yet"
    return ""


def _with_live_replicas(obj: Object, live: Object | None) -> Object:
    if live is None or not pod_templates(obj) or "replicas" not in live.get("spec", {}):
        return obj
    return {**obj, "spec": {**obj["spec"], "replicas": live["spec"]["replicas"]}}


def unified(ref: Ref, live: Object | None, wanted: Object | None, *, becomes: str = "deployment") -> str:
    """Return a unified diff of an object's YAML from how it is to how it would be; None where it is not, or would not.

    What Secrets hold is hidden.

    Args:
        ref: the object.
        live: as it is.
        wanted: as it would be.
        becomes: what would make it so.
    """
    before, after = (_comparable(one) if one else None for one in (live, wanted))
    if ref.kind == "Secret":
        before, after = _without_secrets(before, after)
    if before == after:
        return ""
    lines = difflib.unified_diff(
        _yaml(before), _yaml(after), fromfile=f"cluster: {ref}", tofile=f"{becomes}: {ref}", lineterm=""
    )
    return "".join(f"{line}\n" for line in lines)


def _comparable(obj: Object) -> Object:
    kept = {key: value for key, value in obj.items() if key not in ("status", "metadata")}
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _METADATA}
    annotations = {
        key: value for key, value in (metadata.pop("annotations", None) or {}).items() if key != _LAST_APPLIED
    }
    return {"metadata": {**metadata, **({"annotations": annotations} if annotations else {})}, **kept}


def _without_secrets(before: Any, after: Any) -> tuple[Any, Any]:
    """Replace what Secrets hold; that a value changes stays visible, the value does not."""
    for field in ("data", "stringData"):
        old, new = ((one or {}).get(field) or {} for one in (before, after))
        same = {key for key in old if key in new and old[key] == new[key]}
        for one, values, side in ((before, old, "before"), (after, new, "after")):
            if values:
                one[field] = {
                    key: _HIDDEN if key in same or not (key in old and key in new) else f"{_HIDDEN} ({side})"
                    for key in values
                }
    return before, after


def _yaml(obj: Object | None) -> list[str]:
    if not obj:
        return []
    return yaml.dump(obj, Dumper=_Dumper, sort_keys=True, allow_unicode=True, width=110).splitlines()
