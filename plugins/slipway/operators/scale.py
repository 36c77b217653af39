"""Scaling an endpoint by hand: a number through the scale subresource, or an autoscaler that is turned on or off.

No later apply takes either back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import DownstreamTasksSkipped

from slipway.errors import ClusterError, UsageError
from slipway.manifests.plan import Plan, Scaling
from slipway.operators.autoscaling import (
    autoscaler_of_somebody,
    choice_of,
    keep_choice,
    our_autoscalers,
    ref_of_autoscaler,
    rule_to_turn_on,
    take_out,
)
from slipway.operators.changes import BeginChangeOperator, FinishChangeOperator
from slipway.operators.rollout import as_it_stands
from slipway.operators.steps import Step, Work, lock_holder, plan_of
from slipway.releases.records import ChangeRecord, Release

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.fencing import FencedCluster
    from slipway.cluster.objects import Object


class BeginScaleOperator(BeginChangeOperator):
    """Write how the endpoint is to be scaled. Texts from the form are read as what they mean; "" is not given.

    Args:
        replicas: a fixed number; not together with an autoscaler that stays or is turned on.
        autoscaling: ``on`` (by the rule of the endpoint's record), ``off``, or "" to leave it.
        minimum: with ``on``: the fewest replicas, in the place of the record's.
        maximum: with ``on``: the most.
    """

    template_fields = (*BeginChangeOperator.template_fields, "replicas", "autoscaling", "minimum", "maximum")
    kind = "scale"

    def __init__(
        self,
        *,
        replicas: Any = "",
        autoscaling: Any = "",
        minimum: Any = "",
        maximum: Any = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.replicas, self.autoscaling = replicas, autoscaling
        self.minimum, self.maximum = minimum, maximum

    def detail(self, release: Release) -> dict[str, Any]:
        """What is asked: ``to`` a number, and ``autoscaling`` with its ``rule``."""
        replicas, minimum, maximum = map(_number, (self.replicas, self.minimum, self.maximum))
        self._refuse_contradictions(replicas, limited=minimum is not None or maximum is not None)
        detail: dict[str, Any] = {} if replicas is None else {"to": replicas}
        if self.autoscaling:
            detail["autoscaling"] = self.autoscaling
        if self.autoscaling == "on":
            scaling = rule_to_turn_on(plan_of(release), minimum=minimum, maximum=maximum)
            detail["scaling"] = scaling.model_dump(mode="json")
        return detail

    def _refuse_contradictions(self, replicas: int | None, *, limited: bool) -> None:
        on = self.autoscaling == "on"
        if replicas is None and not self.autoscaling:
            what, remedy = "the run does not say how to scale", "Give replicas, or autoscaling"
        elif replicas is not None and on:
            what = "a fixed number and an autoscaler cannot both set the replicas"
            remedy = "Give minimum and maximum with autoscaling on, or replicas with it off"
        elif limited and not on:
            what, remedy = "limits are an autoscaler's", "Give them with autoscaling on, or give replicas"
        else:
            return
        raise UsageError(what, about=self.endpoint, remedy=remedy)


class ScaleOperator(Step):
    """Set the replicas, or who does; with 0 the steps after it, which wait for pods and ask, have nothing to do."""

    def work(self, work: Work, context: Context) -> None:
        """Scale. Everything that could contradict is looked at before anything changes."""
        from slipway.cluster.controllers import find_workload
        from slipway.cluster.objects import ref_of

        change = work.history.change_by_run(work.plan.endpoint, lock_holder(context))
        assert change is not None  # the step before wrote it
        plan, cluster, detail = work.plan, work.fenced(), change.detail
        live = find_workload(cluster, **work.workload)
        if live is None:
            raise ClusterError(
                "there is nothing to scale",
                about=f"{plan.controller} {plan.namespace}/{plan.controller_name}",
                why="somebody deleted it",
                remedy="Deploy the endpoint again",
            )
        _refuse_autoscaled(cluster, plan, live, choosing=bool(detail.get("autoscaling")))
        replicas = live["spec"].get("replicas", 1)
        wanted = detail.get("to", replicas)
        if detail.get("autoscaling") == "off":
            self._turn_off(cluster, plan)
        if detail.get("autoscaling") == "on":
            scaling = Scaling.model_validate(detail["scaling"])
            wanted = min(max(replicas, scaling.rule.minimum), scaling.rule.maximum)
        if wanted != replicas:
            cluster.scale(ref_of(live), replicas=wanted)
            self.log.info("scaled from %d to %d", replicas, wanted)
        if detail.get("autoscaling") == "on":
            self._turn_on(cluster, work, scaling)
        if wanted == 0:
            raise DownstreamTasksSkipped(tasks=["wait", "probe_published"])

    def _turn_off(self, cluster: FencedCluster, plan: Plan) -> None:
        """Delete the endpoint's own autoscaler; it leaves the replicas as they are."""
        keep_choice(cluster, plan, "off")
        take_out(cluster, our_autoscalers(cluster, plan), say=self.log.info)

    def _turn_on(self, cluster: FencedCluster, work: Work, scaling: Scaling) -> None:
        from slipway.cluster.apply import apply
        from slipway.cluster.objects import ref_of

        wanted = ref_of_autoscaler(work.plan, scaling)
        keep_choice(cluster, work.plan, scaling)
        placed = as_it_stands(cluster, work.plan, work.rendered)
        others = [one for one in our_autoscalers(cluster, work.plan) if ref_of(one) != wanted]
        take_out(cluster, others, say=self.log.info)
        apply(cluster, [obj for obj in placed.stages["publication"] if ref_of(obj) == wanted])
        rule = scaling.rule
        self.log.info("%s sets the replicas now: %d to %d", wanted, rule.minimum, rule.maximum)


class FinishScaleOperator(FinishChangeOperator):
    """A scale is done when the replicas are as asked, and who sets them, and the endpoint answered if it has any."""

    def missing(self, work: Work, change: ChangeRecord) -> str | None:
        """What is not as it was asked."""
        from slipway.cluster.controllers import find_workload
        from slipway.cluster.objects import ref_of

        cluster, detail = work.cluster(), change.detail
        live = find_workload(cluster, **work.workload)
        replicas = live["spec"].get("replicas", 1) if live else None
        if live is None or ("to" in detail and replicas != detail["to"]):
            return f"it has {replicas or 'no'} replicas, not {detail.get('to', 'some')}"
        if "autoscaling" in detail:
            there = {ref_of(one) for one in our_autoscalers(cluster, work.plan)}
            on = detail["autoscaling"] == "on"
            wanted = (
                {ref_of_autoscaler(work.plan, Scaling.model_validate(detail["scaling"]))} if on else set()
            )
            if there != wanted:
                return f"its autoscaler is {', '.join(map(str, there)) or 'not there'}"
        if replicas and not any(
            probe.through == "published" and probe.created_at >= change.created_at
            for probe in work.history.probes(work.release.id)
        ):
            return "the run ended before the endpoint was probed"
        return None


def _refuse_autoscaled(cluster: FencedCluster, plan: Plan, live: Object, *, choosing: bool) -> None:
    """Refuse to set what an autoscaler would set back.

    Args:
        cluster: where.
        plan: of the release that serves.
        live: its workload.
        choosing: whether this run turns the endpoint's own autoscaler on or off.

    Raises:
        UsageError: names it.
    """
    from slipway.cluster.objects import ref_of

    choice_of(cluster, plan)  # what cannot be read is said before anything changes
    other = autoscaler_of_somebody(cluster, plan, live)
    if other:
        remedy = "It is not Slipway's: whoever made it takes it out, or changes its limits"
    elif choosing:
        return
    else:
        other = next((f"{ref_of(one)} does" for one in our_autoscalers(cluster, plan)), None)
        remedy = "Turn it off in the same run (autoscaling: off), or give it other limits (autoscaling: on)"
    if other:
        raise UsageError(
            "an autoscaler sets the replicas of the endpoint", about=plan.endpoint, why=other, remedy=remedy
        )


def _number(given: Any) -> int | None:
    return None if given in (None, "") else int(given)
