"""Objects to the cluster: tried first, then applied in order, and pruned by what the release itself lists."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from copy import deepcopy

from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError
from slipway.cluster.objects import (
    ENDPOINT_LABEL,
    MANAGED_BY_LABEL,
    MANAGER,
    PROTECTED_KINDS,
    Inventory,
    Object,
    in_order,
    labels_of,
    ref_of,
)
from slipway.cluster.shapes import claim_templates, pod_templates
from slipway.errors import ClusterError

# Kinds whose replicas belong to `scale` or to an autoscaler once they exist.
_SCALED_KINDS = frozenset({"StatefulSet", "Deployment", "LeaderWorkerSet"})
_REPLICAS_MANAGER = f"{MANAGER}-replicas"
logger = logging.getLogger(__name__)


class RejectedError(ClusterError):
    """Objects that the server refuses; nothing was changed. Its line is about the first of them.

    Attributes:
        problems: one line each.
    """

    def __init__(self, problems: list[ClusterError]) -> None:
        first, *others = problems
        more = f" (and {len(others)} more, which the step's log lists)" if others else ""
        super().__init__(
            f"the cluster refuses an object{more}", about=first.about, why=first.why, remedy=first.remedy
        )
        self.problems = [_line(problem) for problem in problems]


def dry_run(cluster: Cluster, objects: Iterable[Object], *, force: bool = False) -> Inventory:
    """Let the server check all objects without keeping them.

    Pod Security, quotas and webhooks for pods see a workload's pods only when a controller makes them, too
    late for a clear answer; so each pod template is also tried as a Pod. It is tried as Slipway's user, not
    as the controller's: a webhook that looks at the user may answer otherwise.

    Args:
        cluster: where.
        objects: what would be applied.
        force: as the apply would be.

    Returns:
        What could not be tried yet, because its namespace or its kind comes with the same objects.

    Raises:
        RejectedError: with every problem of every object.
        ClusterError: the server could not be asked.
    """
    ordered = in_order(objects)
    missing_namespaces = _missing_namespaces(cluster, ordered)
    coming_kinds = {
        (obj["spec"]["group"], obj["spec"]["names"]["kind"])
        for obj in ordered
        if obj["kind"] == "CustomResourceDefinition"
    }
    left: Inventory = []
    problems: list[ClusterError] = []
    for obj in ordered:
        ref = ref_of(obj)
        if (
            ref.namespace in missing_namespaces
            or (obj["apiVersion"].split("/")[0], obj["kind"]) in coming_kinds
        ):
            left.append(ref)
            continue
        problems += _problems(cluster, obj, force=force)
    if problems:
        raise RejectedError(problems)
    return left


def apply(cluster: Cluster, objects: Iterable[Object], *, force: bool = False) -> Inventory:
    """Apply objects in the order of their dependencies. Safe to repeat; an unchanged object is not touched.

    ``spec.replicas`` is written only when the workload is made. Later it is left out, so whatever `scale` or
    an autoscaler set stays, also 0: who redeploys a workload that is scaled to 0 has to scale it up.

    Args:
        cluster: where.
        objects: what.
        force: take over fields that others hold with another value.

    Returns:
        The inventory, in the order applied.

    Raises:
        ClusterError: the first object that could not be applied; those before it are.
    """
    inventory: Inventory = []
    for obj in in_order(objects):
        try:
            cluster.apply(_without_replicas(cluster, obj), force=force)
        except ApiError as error:
            if error.status == 409:
                raise conflict(error, about=str(ref_of(obj))) from error
            raise
        inventory.append(ref_of(obj))
    return inventory


def prune(cluster: Cluster, *, old: Inventory, new: Inventory, endpoint: str | None = None) -> Inventory:
    """Delete what the old release had and the new one has not.

    Never claims, namespaces, Secrets or definitions, and only objects that carry Slipway's labels now: one
    that a person took over by removing a label stays. The deletion names the incarnation that was looked at,
    so an object made anew in between stays too.

    Args:
        cluster: where.
        old: inventory of the release before.
        new: inventory of the release now.
        endpoint: where given, only objects whose endpoint label says so.

    Returns:
        What was deleted.
    """
    kept = set(new)
    deleted: Inventory = []
    for ref in reversed(old):
        if ref in kept or ref.kind in PROTECTED_KINDS:
            continue
        live = cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
        if live is None or not _is_ours(live, endpoint=endpoint):
            continue
        try:
            if cluster.delete(ref, uid=live["metadata"]["uid"]):
                deleted.append(ref)
        except ApiError as error:
            if error.status != 409:
                raise
            logger.info("%s was made anew while it was to be pruned; it stays", ref)
    return deleted


def conflict(error: ApiError, *, about: str) -> ClusterError:
    """Turn a server's conflict into one that names fields and who holds them."""
    fields = [
        f"{cause['field'].lstrip('.')} is held by {cause['message'].removeprefix('conflict with ')}"
        for cause in error.causes
        if cause["reason"] == "FieldManagerConflict"
    ]
    if not fields:
        return error
    return ClusterError(
        "somebody else manages fields of the object",
        about=about,
        why="; ".join(fields),
        remedy="Let the other manager give them up, or apply with force to take them over",
    )


def _missing_namespaces(cluster: Cluster, objects: list[Object]) -> set[str]:
    coming = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "Namespace"}
    return {name for name in coming if cluster.get(api_version="v1", kind="Namespace", name=name) is None}


def _problems(cluster: Cluster, obj: Object, *, force: bool) -> list[ClusterError]:
    about = str(ref_of(obj))
    problems: list[ClusterError] = []
    exists = False
    try:
        answered = cluster.apply(_without_replicas(cluster, obj, change=False), dry_run=True, force=force)
        exists = bool(answered.get("status", {}).get("replicas"))
    except ApiError as error:
        refused = conflict(error, about=about) if error.status == 409 else error
        problems.append(_refusal(about, refused))
    for pods, template in pod_templates(obj).items():
        try:
            cluster.create(_as_pod(obj, template), dry_run=True)
        except ApiError as error:
            # Pods that the workload has already hold the quota that their successors get.
            if not (exists and "exceeded quota" in error.why):
                problems.append(_refusal(f"{pods} of {about}", error))
    return problems


def _refusal(about: str, error: ClusterError) -> ClusterError:
    return ClusterError(error.what, about=about, why=error.why, remedy=error.remedy)


def _line(problem: ClusterError) -> str:
    return f"{problem.about}: {problem.why}" + (f". {problem.remedy}" if problem.remedy else "")


def _as_pod(workload: Object, template: Object) -> Object:
    """Return a workload's pod as it would be made, with an empty volume in place of each claim template."""
    spec = deepcopy(template["spec"])
    claims = [{"name": claim["metadata"]["name"], "emptyDir": {}} for claim in claim_templates(workload)]
    if claims:
        spec["volumes"] = [*(spec.get("volumes") or []), *claims]
    metadata = {key: value for key, value in (template.get("metadata") or {}).items() if key != "name"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "generateName": "slipway-dry-run-",
            "namespace": workload["metadata"].get("namespace"),
        },
        "spec": spec,
    }


def _without_replicas(cluster: Cluster, obj: Object, *, change: bool = True) -> Object:
    """Return what to apply: without replicas where the workload exists.

    Leaving out a field that only this manager holds would set it back to its default, 1. So while `slipway`
    still holds the replicas of the creation, they are first handed to a manager of their own at their present
    value. Somebody who scales in between makes that a conflict, and then the handing over is done already.
    """
    if obj["kind"] not in _SCALED_KINDS or "replicas" not in obj.get("spec", {}):
        return obj
    ref = ref_of(obj)
    live = cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
    if live is None:
        return obj
    if change and _holds_replicas(live):
        try:
            cluster.apply(_only_replicas(live), manager=_REPLICAS_MANAGER)
        except ApiError as error:
            if error.status != 409:
                raise
    spec = {key: value for key, value in obj["spec"].items() if key != "replicas"}
    return {**obj, "spec": spec}


def _holds_replicas(live: Object) -> bool:
    holders = {
        entry.get("manager")
        for entry in live["metadata"].get("managedFields") or []
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    }
    return holders == {MANAGER}


def _only_replicas(live: Object) -> Object:
    metadata = {key: live["metadata"][key] for key in ("name", "namespace")}
    return {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "metadata": metadata,
        "spec": {"replicas": live["spec"]["replicas"]},
    }


def _is_ours(live: Object, *, endpoint: str | None) -> bool:
    labels = labels_of(live)
    ours = labels.get(MANAGED_BY_LABEL) == MANAGER and ENDPOINT_LABEL in labels
    return ours and (endpoint is None or labels[ENDPOINT_LABEL] == endpoint)


def inventory_of(objects: Iterable[Object]) -> Inventory:
    """Return the inventory that applying these objects gives, without applying them."""
    return [ref_of(obj) for obj in in_order(objects)]
