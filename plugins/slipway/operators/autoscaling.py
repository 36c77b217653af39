"""Autoscaling as somebody chose it after the release was made: turned off, or turned on with other limits.

Like the replicas themselves it belongs to ``scale_endpoint``: deployments, rollbacks and returns keep it. The cluster
remembers it, in an annotation of the Service that clients use, which stands as long as the endpoint does; no run that
is killed and no history that is lost makes it wrong.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from slipway.catalog.names import ENDPOINT_LABEL
from slipway.catalog.read import read_catalog
from slipway.catalog.records import Autoscaling
from slipway.errors import ClusterError, UsageError
from slipway.manifests.plan import Plan, Scaling
from slipway.manifests.publication import scaling_faults, scaling_of
from slipway.manifests.render import Manifest, Rendered, autoscaler
from slipway.pods import describe_invalid

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster
    from slipway.cluster.fencing import FencedCluster
    from slipway.cluster.objects import Object, Ref

CHOICE_ANNOTATION = "slipway.io/autoscaling"
Choice = Scaling | Literal["off"] | None
"""None leaves it to the release."""

KINDS = {"HorizontalPodAutoscaler": "autoscaling/v2", "ScaledObject": "keda.sh/v1alpha1"}
GONE_SECONDS = 30
"""A ScaledObject stays until KEDA has let go of it, which takes KEDA a second."""
_BY_MANAGERS = frozenset({"kube-controller-manager", "keda-operator"})


def choice_of(cluster: Cluster, plan: Plan) -> Choice:
    """What was chosen since.

    Raises:
        ClusterError: somebody wrote into the annotation what nobody could choose.
    """
    service = cluster.get(**_published(plan))
    written = ((service or {}).get("metadata", {}).get("annotations") or {}).get(CHOICE_ANNOTATION)
    return read_choice(written, plan)


def read_choice(written: str | None, plan: Plan) -> Choice:
    """What the annotation says.

    Raises:
        ClusterError: it cannot be meant.
    """
    if written in (None, "off"):
        return written  # type: ignore[return-value]  # the two texts that it may be
    try:
        return Scaling.model_validate_json(str(written))
    except ValidationError as error:
        raise ClusterError(
            f"the annotation {CHOICE_ANNOTATION} cannot be read",
            about=f"Service {plan.namespace}/{plan.object_name}",
            why=describe_invalid(error),
            remedy="Remove it, and choose again with scale_endpoint",
        ) from error


def keep_choice(cluster: Cluster, plan: Plan, choice: Choice) -> None:
    """Write a choice into the cluster, or take it out where it is what the release says anyway.

    Raises:
        ClusterError: the Service is gone.
    """
    from slipway.cluster.objects import MANAGER, Ref

    as_released = choice == plan.scaling or (choice == "off" and plan.scaling is None)
    text = None if as_released or choice is None else choice if choice == "off" else as_json(choice)
    place = _published(plan)
    ref = Ref(apiVersion="v1", kind="Service", namespace=place["namespace"], name=place["name"])
    if cluster.get(**place) is None:
        raise ClusterError(
            "the endpoint is not published", about=str(ref), remedy="Deploy the endpoint again"
        )
    change = {"metadata": {"annotations": {CHOICE_ANNOTATION: text}}}
    cluster.patch(ref, change, manager=f"{MANAGER}-scale")


def as_json(scaling: Scaling) -> str:
    """A rule as the annotation has it."""
    return json.dumps(scaling.model_dump(mode="json"), sort_keys=True)


def scaling_now(plan: Plan, choice: Choice) -> Scaling | None:
    """How an endpoint is autoscaled: as was chosen, else as its release says; None when it is not."""
    if choice == "off":
        return None
    return choice or plan.scaling


def chosen(rendered: Rendered, plan: Plan, choice: Choice) -> Rendered:
    """A release's objects with the autoscaler that was chosen in the place of its own. Pure."""
    if choice is None:
        return rendered
    scaling = scaling_now(plan, choice)
    own = [obj for obj in rendered.stages["publication"] if obj["kind"] not in KINDS]
    objects: list[Manifest] = [*own, autoscaler(plan, scaling)] if scaling else own
    return Rendered(release=rendered.release, stages={**rendered.stages, "publication": objects})


def rule_to_turn_on(plan: Plan, *, minimum: int | None, maximum: int | None) -> Scaling:
    """The rule that an endpoint is autoscaled by from now on: its record's of today, with other limits where given.

    Args:
        plan: of the release that serves; its rule counts where the catalog has no such endpoint any more.
        minimum: the fewest replicas.
        maximum: the most.

    Raises:
        UsageError: nothing says by which metric, the cluster does not collect it, or the limits cannot be meant.
    """
    found = _rule_of_record(plan) or plan.scaling
    if found is None:
        raise UsageError(
            "there is no autoscaling to turn on",
            about=plan.endpoint,
            why="its record does not say by which metric",
            remedy=f"Write autoscaling into catalog/endpoints/{plan.endpoint}.yaml",
        )
    limits = {"minimum": minimum, "maximum": maximum}
    values = {**found.rule.model_dump(), **{key: one for key, one in limits.items() if one is not None}}
    try:
        return found.model_copy(update={"rule": Autoscaling.model_validate(values)})
    except ValidationError as error:
        raise UsageError(
            "these limits cannot be meant", about=plan.endpoint, why=describe_invalid(error)
        ) from error


def _rule_of_record(plan: Plan) -> Scaling | None:
    catalog = read_catalog()
    record = catalog.endpoints.get(plan.endpoint)
    if record is None or record.autoscaling is None:
        return None
    cluster = catalog.clusters[record.cluster]
    for fault in scaling_faults(record, runtime=catalog.runtimes[record.runtime], cluster=cluster):
        raise UsageError(
            "its autoscaling cannot be turned on",
            about=plan.endpoint,
            why=fault.message,
            remedy=f"Mend {fault.field} in catalog/endpoints/{plan.endpoint}.yaml or the cluster's record",
        )
    return scaling_of(record, cluster=cluster)


def our_autoscalers(cluster: Cluster, plan: Plan) -> list[Object]:
    """The endpoint's own autoscalers that are there; where their kind is unknown or may not be read, there are none."""
    from slipway.cluster.faults import ApiError, UnknownKindError
    from slipway.cluster.objects import labels_of

    found = []
    for kind, api_version in KINDS.items():
        try:
            live = cluster.get(
                api_version=api_version, kind=kind, namespace=plan.namespace, name=plan.object_name
            )
        except UnknownKindError:
            continue
        except ApiError as error:
            if error.status != 403:
                raise
            continue
        if live is not None and labels_of(live).get(ENDPOINT_LABEL) == plan.object_name:
            found.append({**live, "apiVersion": api_version, "kind": kind})
    return found


def take_out(cluster: FencedCluster, autoscalers: Collection[Object], *, say: Callable[..., None]) -> None:
    """Delete autoscalers and wait until they are gone, so that nothing sets back what is set after this.

    Raises:
        ClusterError: one stays, because what has its finalizer on it does not run.
    """
    from slipway.cluster.objects import ref_of

    for one in autoscalers:
        cluster.delete(ref_of(one), uid=one["metadata"]["uid"])
    deadline = time.monotonic() + GONE_SECONDS
    while left := _still_there(cluster, autoscalers):
        if time.monotonic() > deadline:
            finalizers = ", ".join(left[0]["metadata"].get("finalizers") or ["none"])
            raise ClusterError(
                "the autoscaler does not go",
                about=str(ref_of(left[0])),
                why=f"it was deleted {GONE_SECONDS} seconds ago, and its finalizers are still on it: {finalizers}",
                remedy="Look whether its controller runs (KEDA's is keda-operator), then start this run again",
            )
        time.sleep(0.5)
    for one in autoscalers:
        say("%s is gone", ref_of(one))


def _still_there(cluster: FencedCluster, autoscalers: Collection[Object]) -> list[Object]:
    """Which of them are left, or have left a HorizontalPodAutoscaler of their making."""
    from slipway.cluster.faults import ApiError
    from slipway.cluster.objects import ref_of

    left = []
    for one in autoscalers:
        ref = ref_of(one)
        live = cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
        if live is not None and live["metadata"]["uid"] == one["metadata"]["uid"]:
            left.append({**live, "apiVersion": one["apiVersion"], "kind": one["kind"]})
    uids = {one["metadata"]["uid"] for one in autoscalers}
    for namespace in {one["metadata"]["namespace"] for one in autoscalers}:
        try:
            made = cluster.list(
                api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", namespace=namespace
            )
        except ApiError as error:
            if error.status != 403:
                raise
            continue
        for one in made:
            owners = {owner["uid"] for owner in one["metadata"].get("ownerReferences") or []}
            if owners & uids:
                left.append({**one, "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"})
    return left


def autoscaler_of_somebody(cluster: Cluster, plan: Plan, live: Object) -> str | None:
    """Say which autoscaler that is not the endpoint's own sets a workload's replicas, or None.

    KEDA works through a HorizontalPodAutoscaler too. Where Slipway may not list those, it goes by who last wrote the
    replicas through the scale subresource.
    """
    from slipway.cluster.faults import ApiError
    from slipway.cluster.objects import labels_of

    try:
        found = cluster.list(
            api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", namespace=plan.namespace
        )
    except ApiError as error:
        if error.status != 403:
            raise
        return _last_writer(live)
    wanted = (live["kind"], live["metadata"]["name"])
    for one in found:
        target, metadata = one["spec"]["scaleTargetRef"], one["metadata"]
        makers = {(owner["kind"], owner["name"]) for owner in metadata.get("ownerReferences") or []}
        own = labels_of(one).get(ENDPOINT_LABEL) == plan.object_name
        if (
            (target["kind"], target["name"]) == wanted
            and not own
            and makers != {("ScaledObject", plan.object_name)}
        ):
            return f"HorizontalPodAutoscaler {plan.namespace}/{metadata['name']} does"
    return None


def _last_writer(live: Object) -> str | None:
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("subresource") == "scale" and entry.get("manager") in _BY_MANAGERS:
            return f"{entry['manager']} wrote them last"
    return None


def ref_of_autoscaler(plan: Plan, scaling: Scaling) -> Ref:
    """The object that scales by a rule."""
    from slipway.cluster.objects import Ref

    kind = "HorizontalPodAutoscaler" if scaling.rule.by == "hpa" else "ScaledObject"
    return Ref(apiVersion=KINDS[kind], kind=kind, namespace=plan.namespace, name=plan.object_name)


def _published(plan: Plan) -> dict[str, Any]:
    return {"api_version": "v1", "kind": "Service", "namespace": plan.namespace, "name": plan.object_name}
