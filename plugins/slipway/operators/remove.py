"""Removing an endpoint: everything that its releases left in the cluster, by their inventories."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slipway.catalog.names import ENDPOINT_LABEL, RELEASE_LABEL, object_name
from slipway.errors import SlipwayError, UsageError
from slipway.manifests.render import Rendered, Stage
from slipway.operators.autoscaling import our_autoscalers
from slipway.operators.changes import BeginChangeOperator, FinishChangeOperator, nothing_there
from slipway.operators.draining import GONE_MARGIN_SECONDS, PodsGoneTrigger
from slipway.operators.rollout import in_both_colours
from slipway.operators.steps import Step, Work, lock_holder
from slipway.releases.records import ChangeRecord, Release

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.cluster.objects import Inventory, Object, Ref
    from slipway.manifests.plan import Plan
    from slipway.releases.store import History

MOST_RELEASES = 10_000


class BeginRemoveOperator(BeginChangeOperator):
    """Write that the endpoint is to be removed, when the person has typed its name.

    Args:
        confirm: must be the endpoint's name.
        weights: also delete the volume with its weights.
    """

    template_fields = (*BeginChangeOperator.template_fields, "confirm", "weights")
    kind = "remove"

    def __init__(self, *, confirm: str, weights: Any = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.confirm, self.weights = confirm, weights

    def release_of(self, history: History) -> Release:
        """The newest release, whatever became of it: a first one that failed is removed too."""
        found = history.list(endpoint=self.endpoint, limit=1)
        if not found:
            raise nothing_there(self.endpoint)
        return history.last_good(self.endpoint) or found[0]

    def detail(self, release: Release) -> dict[str, Any]:
        """Whether the weights go too."""
        if self.confirm != self.endpoint:
            raise UsageError(
                "the removal is not confirmed",
                about=self.endpoint,
                why=f"the confirmation says {self.confirm or 'nothing'}",
                remedy="Type the endpoint's name",
            )
        return {"weights": str(self.weights).lower() == "true"}


class RemoveOperator(Step):
    """Delete what the endpoint's releases consist of, publication first, and wait until its pods are gone.

    The weights' claim stays unless it was asked for, and never goes while another endpoint uses it. Namespaces, Secrets
    and definitions are never deleted. The Lease stays: it is how runs that still wait for the endpoint find each other.
    """

    def work(self, work: Work, context: Context) -> Any:
        """Delete, then wait for the pods without a worker."""
        change = work.history.change_by_run(work.plan.endpoint, lock_holder(context))
        assert change is not None  # the step before wrote it
        plan, homeless = work.plan, work.fencing is None
        cluster = work.cluster() if homeless else work.fenced()
        with_weights = bool(change.detail["weights"])
        if with_weights:
            refuse_shared_claim(cluster, work.history, plan)
        self._delete_objects(work, cluster)
        for ref in own_claims(cluster, plan, with_weights=with_weights):
            if cluster.delete(ref):
                self.log.info("deleted %s", ref)
        if homeless:
            self.log.info("namespace %s is gone, and all that was in it", plan.namespace)
            return
        seconds = plan.server.drain_seconds + GONE_MARGIN_SECONDS
        trigger = PodsGoneTrigger(
            connection=plan.connection,
            namespace=plan.namespace,
            endpoint_object=plan.object_name,
            seconds=seconds,
        )
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=seconds + 120))

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Say whether the pods are gone; the step after this one decides by what is there."""
        self.log.info("pods that are left: %s", ", ".join(event["left"]) or "none")

    def _delete_objects(self, work: Work, cluster: Cluster) -> None:
        from slipway.cluster.apply import prune
        from slipway.cluster.objects import ref_of

        releases = work.history.list(endpoint=work.plan.endpoint, limit=MOST_RELEASES)
        owned = inventory_of_all(releases)
        owned += [ref_of(one) for one in our_autoscalers(cluster, work.plan)]  # that no release asked for
        for ref in prune(cluster, old=owned, new=[], endpoint=work.plan.object_name):
            self.log.info("deleted %s", ref)
        for ref in [*release_records(cluster, work.plan), *step_pods(cluster, work.plan)]:
            cluster.delete(ref)
            self.log.info("deleted %s", ref)


class FinishRemoveOperator(FinishChangeOperator):
    """A removal is done when nothing of the endpoint's inventory is there any more."""

    def missing(self, work: Work, change: ChangeRecord) -> str | None:
        """What was left behind."""
        from slipway.cluster.objects import ref_of

        cluster, plan = work.cluster(), work.plan
        releases = work.history.list(endpoint=plan.endpoint, limit=MOST_RELEASES)
        left: list[Ref] = [ref for ref in inventory_of_all(releases) if _is_left(cluster, ref, plan)]
        left += [ref for one in our_autoscalers(cluster, plan) if (ref := ref_of(one)) not in left]
        left += [*release_records(cluster, plan), *step_pods(cluster, plan)]
        left += own_claims(cluster, plan, with_weights=bool(change.detail["weights"]))
        names = [str(ref) for ref in left] + [f"Pod {name}" for name in serving_pods(cluster, plan)]
        return f"left behind: {', '.join(names)}" if names else None

    def after(self, work: Work) -> None:
        """No release of it serves any more."""
        work.history.retire(work.plan.endpoint)


def inventory_of_all(releases: Iterable[Release]) -> Inventory:
    """Everything that some release of an endpoint consists of; what clients use last, since a prune goes backwards."""
    found = [(object_name(one.endpoint), Rendered.from_bytes(one.objects)) for one in releases]
    stages: tuple[Stage, ...] = ("storage", "workload", "publication")
    refs = [
        ref
        for stage in stages
        for endpoint, one in found
        for ref in in_both_colours(one.stages[stage], endpoint=endpoint)
    ]
    return list(dict.fromkeys(refs))


def release_records(cluster: Cluster, plan: Plan) -> Inventory:
    """The ConfigMaps in which the cluster keeps an endpoint's releases."""
    from slipway.cluster.objects import ref_of
    from slipway.releases.inventory import NUMBER_LABEL

    labels = {ENDPOINT_LABEL: plan.object_name}
    found = cluster.list(api_version="v1", kind="ConfigMap", namespace=plan.namespace, labels=labels)
    return [ref_of(one) for one in found if NUMBER_LABEL in one["metadata"]["labels"]]


def own_claims(cluster: Cluster, plan: Plan, *, with_weights: bool) -> Inventory:
    """The claims that are the endpoint's own: its compiled kernels, and its weights where they are asked for."""
    from slipway.cluster.objects import Ref

    names = [plan.server.compile_cache.claim] if plan.server.compile_cache else []
    names += [plan.volume.claim] if with_weights else []
    refs = [
        Ref(apiVersion="v1", kind="PersistentVolumeClaim", namespace=plan.namespace, name=name)
        for name in names
    ]
    return [ref for ref in refs if _is_there(cluster, ref)]


def serving_pods(cluster: Cluster, plan: Plan) -> list[str]:
    """The endpoint's pods of any release."""
    labels = {ENDPOINT_LABEL: plan.object_name}
    pods = cluster.list(api_version="v1", kind="Pod", namespace=plan.namespace, labels=labels)
    return [pod["metadata"]["name"] for pod in pods if RELEASE_LABEL in pod["metadata"]["labels"]]


def step_pods(cluster: Cluster, plan: Plan) -> Inventory:
    """Pods of steps whose runs are gone, as no other run works on an endpoint whose lock this one has."""
    from slipway.cluster.objects import ref_of

    labels = {ENDPOINT_LABEL: plan.object_name}
    pods = cluster.list(api_version="v1", kind="Pod", namespace=plan.namespace, labels=labels)
    found = [pod for pod in pods if RELEASE_LABEL not in pod["metadata"]["labels"]]
    return [ref_of(pod) for pod in found if not pod["metadata"].get("deletionTimestamp")]


def refuse_shared_claim(cluster: Cluster, history: History, plan: Plan) -> None:
    """Refuse to delete weights that another endpoint needs; nothing was deleted yet.

    Raises:
        UsageError: names the others.
    """
    others = sorted({*_mounting(cluster, plan), *_planned_on(history, plan)})
    if others:
        raise UsageError(
            "the weights are another endpoint's too",
            about=f"PersistentVolumeClaim {plan.namespace}/{plan.volume.claim}",
            why=f"used by {', '.join(others)}",
            remedy="Remove the endpoint without its weights",
        )


def _mounting(cluster: Cluster, plan: Plan) -> list[str]:
    """Workloads, also those that are scaled to 0, and pods that mount the claim and are not this endpoint's."""
    from slipway.cluster.controllers import KINDS
    from slipway.cluster.faults import UnknownKindError
    from slipway.cluster.objects import labels_of, workload_api
    from slipway.cluster.pods import claim_names
    from slipway.cluster.shapes import pod_templates

    found: list[Object] = cluster.list(api_version="v1", kind="Pod", namespace=plan.namespace)
    templates = [(obj, obj) for obj in found]
    for kind in KINDS:
        try:
            workloads = cluster.list(api_version=workload_api(kind)[0], kind=kind, namespace=plan.namespace)
        except UnknownKindError:  # most clusters have no LeaderWorkerSets
            continue
        templates += [(obj, one) for obj in workloads for one in pod_templates(obj).values()]
    return [
        f"{obj['kind']} {obj['metadata']['name']}"
        for obj, pod in templates
        if plan.volume.claim in claim_names(pod) and labels_of(obj).get(ENDPOINT_LABEL) != plan.object_name
    ]


def _planned_on(history: History, plan: Plan) -> list[str]:
    """Endpoints whose release serves, or is on its way, from the claim."""
    return [
        release.endpoint
        for release in [*history.good_ones(), *history.pending()]
        if release.endpoint != plan.endpoint
        and (release.cluster, release.namespace) == (plan.cluster, plan.namespace)
        and (release.plan.get("volume") or {}).get("claim") == plan.volume.claim
    ]


def _is_left(cluster: Cluster, ref: Ref, plan: Plan) -> bool:
    from slipway.cluster.objects import PROTECTED_KINDS, labels_of

    if ref.kind in PROTECTED_KINDS:
        return False
    try:
        live = cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
    except SlipwayError as error:
        if getattr(error, "is_transient", False):
            raise
        return False
    return live is not None and labels_of(live).get(ENDPOINT_LABEL) == plan.object_name


def _is_there(cluster: Cluster, ref: Ref) -> bool:
    return (
        cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)
        is not None
    )
