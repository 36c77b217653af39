"""Scaling an endpoint by hand: through the scale subresource, so that no later apply takes it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import DownstreamTasksSkipped

from slipway.errors import ClusterError, UsageError
from slipway.operators.changes import BeginChangeOperator, FinishChangeOperator
from slipway.operators.steps import Step, Work, lock_holder
from slipway.releases.records import ChangeRecord

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.cluster.objects import Object
    from slipway.manifests.plan import Plan

_AUTOSCALERS = frozenset({"kube-controller-manager", "keda-operator"})


class BeginScaleOperator(BeginChangeOperator):
    """Write that the endpoint is to be scaled.

    Args:
        replicas: how many; a text from the form is read as a number.
    """

    template_fields = (*BeginChangeOperator.template_fields, "replicas")
    kind = "scale"

    def __init__(self, *, replicas: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.replicas = replicas

    def detail(self) -> dict[str, Any]:
        """How many replicas."""
        return {"to": int(self.replicas)}


class ScaleOperator(Step):
    """Set the replicas; with 0 the steps after it, which wait for pods and ask them, have nothing to do."""

    def work(self, work: Work, context: Context) -> None:
        """Scale, unless an autoscaler does."""
        from slipway.cluster.controllers import find_workload
        from slipway.cluster.objects import ref_of

        change = work.history.change_by_run(work.plan.endpoint, lock_holder(context))
        assert change is not None  # the step before wrote it
        plan, cluster, wanted = work.plan, work.fenced(), int(change.detail["to"])
        live = find_workload(cluster, **work.workload)
        if live is None:
            raise ClusterError(
                "there is nothing to scale",
                about=f"{plan.controller} {plan.namespace}/{plan.controller_name}",
                why="somebody deleted it",
                remedy="Deploy the endpoint again",
            )
        owner = autoscaler_of(cluster, plan, live)
        if owner:
            raise UsageError(
                "an autoscaler sets the replicas of the endpoint",
                about=plan.endpoint,
                why=owner,
                remedy="Change its limits in the endpoint's record, or take it out, and deploy again",
            )
        cluster.scale(ref_of(live), replicas=wanted)
        self.log.info("scaled from %s to %d", live["spec"].get("replicas"), wanted)
        if wanted == 0:
            raise DownstreamTasksSkipped(tasks=["wait", "probe_published"])


class FinishScaleOperator(FinishChangeOperator):
    """A scale is done when the workload wants that many replicas and, unless that is none, the endpoint answered."""

    def missing(self, work: Work, change: ChangeRecord) -> str | None:
        """What is not as it was asked."""
        from slipway.cluster.controllers import find_workload

        wanted = int(change.detail["to"])
        live = find_workload(work.cluster(), **work.workload)
        replicas = live["spec"].get("replicas") if live else None
        if replicas != wanted:
            return f"it has {replicas} replicas, not {wanted}"
        if wanted and not any(
            probe.through == "published" and probe.created_at >= change.created_at
            for probe in work.history.probes(work.release.id)
        ):
            return "the run ended before the endpoint was probed"
        return None


def autoscaler_of(cluster: Cluster, plan: Plan, live: Object) -> str | None:
    """Say which autoscaler owns a workload's replicas, or None.

    The plan's own counts; so does a HorizontalPodAutoscaler that somebody else made (KEDA works through one too), and
    whoever wrote the replicas through the scale subresource as the controller manager does. Where Slipway may not
    list HorizontalPodAutoscalers, only the latter two tell.
    """
    from slipway.cluster.faults import ApiError

    if plan.scaling is not None:
        return f"its record has autoscaling by {plan.scaling.rule.by}"
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("subresource") == "scale" and entry.get("manager") in _AUTOSCALERS:
            return f"{entry['manager']} wrote them"
    try:
        found = cluster.list(
            api_version="autoscaling/v2", kind="HorizontalPodAutoscaler", namespace=plan.namespace
        )
    except ApiError as error:
        if error.status != 403:
            raise
        return None
    wanted = (plan.controller, live["metadata"]["name"])
    for one in found:
        target = one["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == wanted:
            return f"HorizontalPodAutoscaler {plan.namespace}/{one['metadata']['name']} does"
    return None
