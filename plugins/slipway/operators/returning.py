"""The way back to the last good release, in steps that can each be repeated: choose, apply, tidy up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.errors import SlipwayError
from slipway.manifests.render import Rendered
from slipway.operators.anew import is_made_anew, wait_for_its_pods
from slipway.operators.connections import cluster_of
from slipway.operators.rollout import (
    as_it_stands,
    end_old_pods,
    in_both_colours,
    placed,
    scale_up,
    standing_of,
)
from slipway.operators.steps import Work, plan_of

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster
    from slipway.cluster.controllers import Standing
    from slipway.releases.records import Release

Say = Callable[..., None]


@dataclass(frozen=True)
class Way:
    """What is to be done about a failed release.

    Attributes:
        outcome: what became of the endpoint, in a few words; for ``good``, when it serves again.
        good: the release that was applied again and must now be waited for and probed; None when nothing is.
    """

    outcome: str
    good: Release | None = None


def keep_evidence(work: Work, *, say: Say) -> None:
    """Store what the failed release looked like, once: a second look would find what the return made of it."""
    from slipway.cluster.evidence import as_text, collect
    from slipway.releases.artifacts import Artifacts

    if work.release.evidence:
        return
    place = {"namespace": work.plan.namespace, "endpoint": work.plan.object_name}
    try:
        evidence = collect(work.cluster(), **place, release=work.rendered.release, kind=work.plan.controller)
        say(as_text(evidence))
        name = f"evidence/{work.plan.object_name}/{work.release.number}.json"
        kept = Artifacts.open().put(name, json.dumps(evidence, indent=1, ensure_ascii=False).encode())
        work.history.set_evidence(work.release.id, kept)
        say(f"evidence is kept in {kept}")
    except SlipwayError as error:
        say(f"the evidence could not be kept: {error}")


def begin_return(work: Work, *, say: Say) -> Way:
    """Give the endpoint back to the last good release, or stop what has none to go back to.

    Where its workload still stands as it was, beside the failed one or because nothing was applied yet, it is not
    touched: only requests that had moved go back to it. Else its objects are applied again, in the place of the failed
    one's. The history is told first, so that a repeated step knows that something was.

    Raises:
        SlipwayError: it could not be applied.
    """
    cluster, good = work.fenced(), _good_one(work)
    standing = standing_of(cluster, work.plan)
    if good is None and work.plan.adopted:
        return Way("nothing was adopted, and what serves is left as it is")
    if good is None:
        return Way(_stop(cluster, standing))
    plan = plan_of(good)
    stands = standing.of(good.label, kind=plan.controller)
    beside = stands is not None and good.label != work.rendered.release
    moved = standing.published != good.label or work.plan.rollout.strategy == "canary"
    if stands and beside and not moved and work.release.returning_to is None:
        tidy_up(work, good, say=say)
        state = "serves" if stands.replicas else "is scaled to 0"
        return Way(f"{good.title} was not touched and {state}")
    work.history.set_returning(work.release.id, good.number)
    _apply(work, good, standing=standing, say=say)
    return Way(f"{good.title} serves again", good=good)


def ended_as(work: Work) -> str:
    """What became of the endpoint, in a few words, by what the history has of a release that was ended."""
    if work.release.status == "broken":
        return "the return failed too"
    good = _good_one(work)
    if good is None:
        return "there is no good release to return to"
    again = " again" if work.release.returning_to == good.number else ""
    return f"{good.title} serves{again}"


def _good_one(work: Work) -> Release | None:
    """The release to go back to: the last good one, unless it went with its namespace."""
    good = work.history.last_good(work.plan.endpoint)
    if good is None or good.namespace == work.plan.namespace:
        return good
    there = cluster_of(plan_of(good).connection).get(api_version="v1", kind="Namespace", name=good.namespace)
    return good if there else None


def _stop(cluster: Cluster, standing: Standing) -> str:
    ours = [one for one in standing.workloads if one.release is not None]
    for one in ours:
        cluster.scale(one.ref, replicas=0)
    if not ours:
        return "nothing of it runs"
    return "there is no good release to return to, the workload is scaled to 0 and kept for a look"


def _apply(work: Work, good: Release, *, standing: Standing, say: Say) -> None:
    from slipway.cluster.apply import apply
    from slipway.cluster.controllers import retire

    cluster, plan = work.fenced(), plan_of(good)
    stands = standing.of(good.label, kind=plan.controller)
    failed = standing.of(work.rendered.release)
    place = stands or failed or standing.serving(None)
    colour = place.colour if place else "blue"
    replicas = place.replicas or None if place else None
    there = standing.named(plan.controller, plan.name_in(colour))
    rendered = placed(
        cluster,
        plan,
        Rendered.from_bytes(good.objects),
        colour,
        rollout=work.plan.rollout,
        replicas=replicas,
        live=there.live if there else None,
    )
    anew = is_made_anew(there, rendered)
    if stands is None or anew:
        for ref in retire(cluster, standing.workloads, keep=[there.ref] if there and not anew else []):
            say("deleted %s: %s takes its place", ref, good.title)
    if anew and there:
        wait_for_its_pods(cluster, there, say=say)
    for ref in apply(cluster, rendered.stages["workload"] + rendered.stages["publication"], force=True):
        say("applied %s of %s", ref, good.title)
    if stands is None and work.plan.rollout.strategy != "rolling":
        end_old_pods(cluster, plan, release=good.label, say=say)
    scale_up(cluster, plan, release=good.label, say=say)


def tidy_up(work: Work, good: Release, *, say: Say) -> None:
    """Delete what the failed release had and the good one has not, its workload too where it came up beside."""
    from slipway.cluster.apply import inventory_of, prune

    plan, rendered, cluster = plan_of(good), Rendered.from_bytes(good.objects), work.fenced()
    kept = inventory_of(as_it_stands(cluster, plan, rendered).objects())
    old = in_both_colours(work.rendered.objects(), endpoint=work.plan.object_name)
    for ref in prune(cluster, old=old, new=kept):
        say("pruned %s", ref)
