"""The way back to the last good release, in steps that can each be repeated: choose, apply, tidy up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipway.catalog.names import RELEASE_LABEL
from slipway.errors import SlipwayError
from slipway.manifests.plan import Plan
from slipway.manifests.render import Rendered
from slipway.operators.steps import Work, plan_of

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster
    from slipway.cluster.objects import Object
    from slipway.releases.records import Release

Say = Callable[[str], None]


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
    """Apply the last good release again, or stop what has none to go back to.

    The history is told first, so that a repeated step knows that it was touched.

    Raises:
        SlipwayError: it could not be applied.
    """
    cluster, good = work.fenced(), work.history.last_good(work.plan.endpoint)
    if good is None:
        return Way(_stop(cluster, work.plan))
    live = _controller(cluster, plan_of(good))
    label = _label(live)
    if label == good.label != work.rendered.release and work.release.returning_to is None:
        state = "serves" if live and live["spec"]["replicas"] else "is scaled to 0"
        return Way(f"{good.title} was not touched and {state}")
    work.history.set_returning(work.release.id, good.number)
    _apply(cluster, good, say=say)
    return Way(f"{good.title} serves again", good=good)


def _stop(cluster: Cluster, plan: Plan) -> str:
    from slipway.cluster.objects import ref_of

    live = _controller(cluster, plan)
    if live is None or _label(live) is None:
        return "nothing of it runs"
    cluster.scale(ref_of(live), replicas=0)
    return "there is no good release to return to, the workload is scaled to 0 and kept for a look"


def _apply(cluster: Cluster, good: Release, *, say: Say) -> None:
    from slipway.cluster.apply import apply
    from slipway.cluster.controllers import retire_others

    plan, rendered = plan_of(good), Rendered.from_bytes(good.objects)
    place = {"namespace": plan.namespace, "endpoint": plan.object_name}
    for ref in retire_others(cluster, **place, keep=plan.controller):
        say(f"deleted {ref}: {good.title} is a {plan.controller}")
    for ref in apply(cluster, rendered.stages["workload"] + rendered.stages["publication"], force=True):
        say(f"applied {ref} of {good.title}")
    scale_up(cluster, plan, say=say)


def scale_up(cluster: Cluster, plan: Plan, *, say: Say) -> None:
    """Bring back a workload that is scaled to 0, as a failed first release is: applying leaves replicas alone."""
    from slipway.cluster.objects import ref_of

    live = _controller(cluster, plan)
    if live and live["spec"]["replicas"] == 0 and plan.replicas > 0:
        cluster.scale(ref_of(live), replicas=plan.replicas)
        say(f"scaled from 0 to {plan.replicas}")


def tidy_up(work: Work, good: Release, *, say: Say) -> None:
    """Delete what the failed release had and the good one has not."""
    from slipway.cluster.apply import inventory_of, prune

    kept = inventory_of(Rendered.from_bytes(good.objects).objects())
    for ref in prune(work.fenced(), old=inventory_of(work.rendered.objects()), new=kept):
        say(f"pruned {ref}")


def _controller(cluster: Cluster, plan: Plan) -> Object | None:
    from slipway.cluster.controllers import find_controller

    return find_controller(cluster, kind=plan.controller, namespace=plan.namespace, name=plan.controller_name)


def _label(live: Object | None) -> str | None:
    from slipway.cluster.objects import labels_of

    return labels_of(live).get(RELEASE_LABEL) if live else None
