"""What is left to do when a release is proven: keep it in its cluster, and delete what those before it left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway.manifests.render import Rendered
from slipway.operators.remove import step_pods
from slipway.operators.rollout import Say, as_it_stands, in_both_colours
from slipway.operators.steps import Work

if TYPE_CHECKING:
    from slipway.releases.records import Release

MOST_RELEASES = 1000


def settle(work: Work, *, say: Say) -> bool:
    """Keep the release in its cluster, and delete what the releases before it left. Safe to repeat.

    Returns:
        Whether a workload that stood beside it was deleted: the run ends when its pods have drained and are gone.

    Raises:
        SlipwayError: something could not be kept or deleted.
    """
    from slipway.cluster.apply import inventory_of, prune
    from slipway.cluster.controllers import KINDS
    from slipway.releases.inventory import inventory_object
    from slipway.releases.records import GOOD

    cluster, plan = work.fenced(), work.plan
    own = inventory_of(as_it_stands(cluster, plan, work.rendered).objects())
    kept = work.release.model_copy(update={"status": GOOD, "failure": None})
    cluster.apply(inventory_object(kept, inventory=own))
    old = [
        ref
        for one in (*since_last_good(work), work.release)
        for ref in in_both_colours(Rendered.from_bytes(one.objects).objects(), endpoint=plan.object_name)
    ]
    pruned = prune(cluster, old=list(dict.fromkeys(old)), new=own)
    for ref in pruned:
        say("pruned %s", ref)
    return any(ref.kind in KINDS for ref in pruned)


def end_step_pods(work: Work, *, say: Say) -> None:
    """Delete the pods of the endpoint's steps: a step whose worker was killed deletes its own no more.

    Only under the endpoint's lock, which all who make such pods hold.

    Raises:
        SlipwayError: the cluster could not be asked.
    """
    cluster = work.fenced()
    for ref in step_pods(cluster, work.plan):
        if cluster.delete(ref, grace_seconds=0):
            say("deleted %s, which a step left", ref)


def since_last_good(work: Work) -> list[Release]:
    """The good release before this one and those that failed after it: together all that may have left objects."""
    former = work.history.last_good(work.plan.endpoint, before=work.release.number)
    first = former.number if former else 1
    releases = work.history.list(endpoint=work.plan.endpoint, limit=MOST_RELEASES)
    return [release for release in releases if first <= release.number < work.release.number]
