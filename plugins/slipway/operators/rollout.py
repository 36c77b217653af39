"""How a release takes the place of the one that serves: chosen when it is resolved, carried out when it is applied.

| strategy | until the new release is proven |
|---|---|
| recreate | the old pods end first, then the new ones start: an outage, and no card more than before |
| rolling | the controller replaces one replica after another; clients reach both releases |
| blue-green | a second workload comes up; the one that serves is not touched |
| canary | the same, and it gets a growing share of the requests |
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from slipway.catalog.names import ENDPOINT_LABEL, RELEASE_LABEL, green_name
from slipway.errors import ClusterError
from slipway.manifests.colours import in_colour, other
from slipway.manifests.plan import Plan
from slipway.manifests.render import Manifest, Rendered
from slipway.manifests.rollout import Colour, Rollout
from slipway.operators.anew import is_made_anew, not_rolled_where_made_anew, tried_as, wait_for_its_pods
from slipway.operators.autoscaling import choice_of, chosen
from slipway.operators.connections import cluster_of
from slipway.operators.steps import Work

if TYPE_CHECKING:
    from slipway.catalog.records import Strategy
    from slipway.cluster.client import Cluster
    from slipway.cluster.controllers import Standing, Workload
    from slipway.cluster.objects import Inventory, Ref
    from slipway.releases.records import Release

Say = Callable[..., None]


def choose_rollout(plan: Plan, rendered: Rendered, *, last: Release | None, asked: Strategy | None) -> Plan:
    """Return the plan with how it is rolled out: as the run says, else the endpoint's record, else by free room.

    The cluster is asked only where something serves; also where nothing about the pods changes, since a run that is
    before this one in the queue may change them. Where a connection may not see nodes and pods, nobody can say that
    there is room.

    Raises:
        UsageError: a canary is asked for, and the endpoint has no route.
        ClusterError: the cluster could not be asked.
    """
    from slipway.catalog.read import read_catalog
    from slipway.checks.rollouts import choose, refuse_canary_without_route

    record, by = read_catalog().endpoints.get(plan.endpoint), "the run"
    if asked is None and record is not None and record.strategy is not None:
        asked, by = record.strategy, "the endpoint's record"
    refuse_canary_without_route(plan, asked)
    given: dict[str, Any] = {"asked": asked, "by": by, "plan": plan}
    if last is None:
        rollout = Rollout(reason="nothing serves that has to stay up")
    else:
        rollout = _by_room(plan, rendered, last, choose, given)
    return plan.model_copy(
        update={"rollout": rollout.model_copy(update={"canary": record.canary}) if record else rollout}
    )


def _by_room(
    plan: Plan, rendered: Rendered, last: Release, choose: Callable[..., Rollout], given: dict[str, Any]
) -> Rollout:
    from slipway.checks.plan import subject_of
    from slipway.checks.view import View
    from slipway.cluster.faults import ApiError

    cluster = cluster_of(plan.connection)
    serving = standing_of(cluster, plan).serving(last.label)
    try:
        rollout = choose(View(cluster=cluster), subject_of(plan, rendered), serving=serving, **given)
        return not_rolled_where_made_anew(rollout, plan, rendered, serving=serving, asked=given["asked"])
    except ApiError as error:
        if error.status != 403:
            raise
        why = f"the room beside it cannot be seen: {error.why}"
        return Rollout(strategy=given["asked"] or "recreate", reason=why, serving=last.label)


def standing_of(cluster: Cluster, plan: Plan) -> Standing:
    """How the endpoint stands in its cluster."""
    from slipway.cluster.controllers import look

    return look(cluster, namespace=plan.namespace, endpoint=plan.object_name)


def as_it_stands(cluster: Cluster, plan: Plan, rendered: Rendered) -> Rendered:
    """A release's objects as they are applied: in the colour that its workload stands in.

    Raises:
        ClusterError: its workload is not there.
    """
    workload = standing_of(cluster, plan).of(rendered.release, kind=plan.controller)
    if workload is None:
        raise ClusterError(
            "the release's workload is not there",
            about=f"{plan.controller} of {plan.endpoint} in {plan.namespace}",
            why="somebody deleted it",
            remedy="Deploy the endpoint again",
        )
    return placed(cluster, plan, rendered, workload.colour)


def placed(cluster: Cluster, plan: Plan, rendered: Rendered, colour: Colour, **how: Any) -> Rendered:
    """A release's objects as they are applied: in a colour, and autoscaled as somebody chose since.

    Args:
        cluster: where.
        plan: of the release.
        rendered: as stored.
        colour: of its workload.
        how: as ``in_colour`` takes it.
    """
    return in_colour(chosen(rendered, plan, choice_of(cluster, plan)), plan, colour, **how)


def in_both_colours(objects: list[Manifest], *, endpoint: str) -> Inventory:
    """What a release's objects may be in the cluster: its workload has one of two names.

    Args:
        objects: as stored.
        endpoint: the endpoint's object name.
    """
    from slipway.cluster.apply import inventory_of
    from slipway.cluster.controllers import KINDS

    return [
        ref
        for one in inventory_of(objects)
        for ref in ([one, green_one(one, endpoint=endpoint)] if one.kind in KINDS else [one])
    ]


def green_one(workload: Ref, *, endpoint: str) -> Ref:
    """The green workload in the place of a blue one."""
    return workload.model_copy(update={"name": green_name(endpoint)})


def apply_release(work: Work, *, say: Say) -> None:
    """Apply the storage and the workload of a release by its strategy; what clients reach stays as it is.

    Begins with what a run that died may have left: requests go back to the last good release where that still stands,
    and a workload that is neither its nor this release's is deleted. Safe to repeat.

    Raises:
        RejectedError: the cluster refuses an object; nothing was changed.
        ClusterError: an object could not be applied.
    """
    from slipway.cluster.apply import RejectedError, apply, dry_run

    cluster, plan, rollout = work.fenced(), work.plan, work.plan.rollout
    good, standing = work.history.last_good(plan.endpoint), standing_of(cluster, plan)
    serving = standing.serving(good.label if good else None)
    stays = serving if rollout.beside and serving and serving.replicas else None
    colour = colour_for(work.rendered.release, plan, standing=standing, serving=serving)
    replicas = serving.replicas or None if serving else None
    mine = standing.named(plan.controller, plan.name_in(colour))
    live = mine.live if mine else None
    objects = placed(cluster, plan, work.rendered, colour, replicas=replicas, live=live)
    anew = is_made_anew(mine, objects)
    try:
        dry_run(cluster, tried_as(objects, anew=anew))
    except RejectedError as error:
        for problem in error.problems:
            say("%s", problem)
        raise
    say("the API server accepts all %d objects", len(objects.objects()))
    strays = [one for one in standing.workloads if one not in (serving, standing.of(work.rendered.release))]
    elsewhere = strays or standing.published not in (None, good.label if good else None)
    if good and serving and serving.release == good.label and elsewhere:
        say("what clients use leads to %s again, as before a run that died", good.title)
        _publish(cluster, good, colour=serving.colour)
    _make_way(work, standing, stays=stays, keep=None if anew else mine, say=say)
    if anew and mine:
        wait_for_its_pods(cluster, mine, say=say)
    if rollout.strategy == "rolling" and good and serving and serving.release != work.rendered.release:
        for ref in apply(cluster, for_all_releases(Rendered.from_bytes(good.objects))):
            say("%s takes the pods of both releases while they change", ref)
    for ref in apply(cluster, objects.stages["storage"] + objects.stages["workload"]):
        say("applied %s", ref)
    if stays is None and rollout.strategy != "rolling":
        end_old_pods(cluster, plan, release=work.rendered.release, say=say)
    scale_up(cluster, plan, release=work.rendered.release, say=say)


def colour_for(label: str, plan: Plan, *, standing: Standing, serving: Workload | None) -> Colour:
    """The colour that a release is applied in: its own where it stands already, else by its strategy."""
    mine = standing.of(label, kind=plan.controller)
    if mine is not None:
        return mine.colour
    if serving is None:
        return "blue"
    return other(serving.colour) if plan.rollout.beside and serving.replicas else serving.colour


def _make_way(
    work: Work, standing: Standing, *, stays: Workload | None, keep: Workload | None, say: Say
) -> None:
    """Delete every workload but the one that stays and the one that is this release's, or becomes it."""
    from slipway.cluster.controllers import retire

    kept = {one.ref for one in (stays, keep) if one}
    for ref in retire(work.fenced(), standing.workloads, keep=kept):
        say("deleted %s: it is neither %s nor to stay until that is proven", ref, work.release.title)


def for_all_releases(rendered: Rendered) -> list[Manifest]:
    """The Services that clients use, for the pods of any release of the endpoint: as a rolling change needs them."""
    services = [deepcopy(one) for one in rendered.stages["publication"] if one["kind"] == "Service"]
    for service in services:
        service["spec"]["selector"].pop(RELEASE_LABEL, None)
    return services


def end_old_pods(cluster: Cluster, plan: Plan, *, release: str, say: Say) -> None:
    """Delete the pods of other releases that a StatefulSet would otherwise replace one at a time, each after a start.

    With one replica that is what it does by itself.
    """
    from slipway.cluster.objects import labels_of, ref_of

    workload = standing_of(cluster, plan).of(release, kind=plan.controller)
    if workload is None or workload.ref.kind != "StatefulSet" or workload.replicas < 2:
        return
    labels = {ENDPOINT_LABEL: plan.object_name}
    for pod in cluster.list(api_version="v1", kind="Pod", namespace=plan.namespace, labels=labels):
        found = labels_of(pod).get(RELEASE_LABEL)
        if found not in (None, release) and not pod["metadata"].get("deletionTimestamp"):
            cluster.delete(ref_of(pod), uid=pod["metadata"]["uid"])
            say("ended %s of the release before", pod["metadata"]["name"])


def scale_up(cluster: Cluster, plan: Plan, *, release: str, say: Say) -> None:
    """Bring back a workload that is scaled to 0, as a failed first release is: applying leaves replicas alone."""
    workload = standing_of(cluster, plan).of(release, kind=plan.controller)
    if workload and workload.replicas == 0 and plan.replicas > 0:
        cluster.scale(workload.ref, replicas=plan.replicas)
        say("scaled from 0 to %d", plan.replicas)


def _publish(cluster: Cluster, release: Release, *, colour: Colour) -> None:
    from slipway.cluster.apply import apply
    from slipway.operators.steps import plan_of

    rendered = placed(cluster, plan_of(release), Rendered.from_bytes(release.objects), colour)
    apply(cluster, rendered.stages["publication"], force=True)
