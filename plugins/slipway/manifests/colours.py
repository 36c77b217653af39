"""A release's objects as they are applied: as the blue or the green workload, and rolled out by a strategy.

A release stores its objects as ``render`` gave them, which says what is served. Under which of the two names its
workload stands, and how the one before makes room, is decided when it is applied, by what serves then; so the stored
bytes and the release label are the same in either colour, and any release can be gone back to beside the one that
serves. Blue is what ``render`` gives. Green has a name of its own and one label more on its pods, by which its
controller, and an autoscaler that asks it for its pods, tells them from the other's.
"""

from __future__ import annotations

from copy import deepcopy
from typing import get_args

from slipway.catalog.names import COLOUR_LABEL
from slipway.manifests.plan import Controller, Plan
from slipway.manifests.render import Manifest, Rendered
from slipway.manifests.rollout import Colour, Rollout

_AUTOSCALERS = ("HorizontalPodAutoscaler", "ScaledObject")


def other(colour: Colour) -> Colour:
    """The other colour."""
    return "green" if colour == "blue" else "blue"


def in_colour(
    rendered: Rendered,
    plan: Plan,
    colour: Colour,
    *,
    rollout: Rollout | None = None,
    replicas: int | None = None,
    live: Manifest | None = None,
) -> Rendered:
    """Return a release's objects as they are applied. Pure.

    Args:
        rendered: as stored.
        plan: of the release.
        colour: of its workload.
        rollout: how the controller replaces pods that it has; the release's own when None.
        replicas: how many a workload that is made now begins with; the plan's when None.
        live: the controller that stands in that colour.
    """
    rollout = rollout or plan.rollout
    name = plan.name_in(colour)
    stages = {stage: deepcopy(objects) for stage, objects in rendered.stages.items()}
    for obj in stages["workload"]:
        if obj["kind"] in get_args(Controller):
            obj["metadata"]["name"] = name
            if replicas is not None:
                obj["spec"]["replicas"] = replicas
            _roll(obj, rollout, live=live or {})
            if colour == "green":
                _mark(obj)
    for obj in stages["publication"]:
        if obj["kind"] in _AUTOSCALERS:
            obj["spec"]["scaleTargetRef"]["name"] = name
    return Rendered(release=rendered.release, stages=stages)


def _roll(controller: Manifest, rollout: Rollout, *, live: Manifest) -> None:
    """Say how the controller replaces its pods when their template changes; a StatefulSet replaces one at a time.

    A Deployment that has rolled once keeps that type: from structured-merge-diff 6.4 on an apply that gives up the
    numbers leaves an empty ``rollingUpdate`` behind, which is refused beside the type Recreate.
    """
    spec, rolling = controller["spec"], rollout.strategy == "rolling"
    has_rolled = live.get("spec", {}).get("strategy", {}).get("type") == "RollingUpdate"
    if controller["kind"] == "Deployment" and (rolling or has_rolled):
        surge, unavailable = (rollout.surge, rollout.unavailable) if rolling else (0, "100%")
        numbers = {"maxSurge": surge, "maxUnavailable": unavailable}
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": numbers}
    if controller["kind"] == "LeaderWorkerSet":
        # At least one, as the API wants it beside a surge of 0, also for a set that is scaled to 0.
        all_groups = max(1, spec.get("replicas", 1))
        surge, unavailable = (rollout.surge, rollout.unavailable) if rolling else (0, all_groups)
        spec["rolloutStrategy"] = {
            "type": "RollingUpdate",
            "rollingUpdateConfiguration": {"maxUnavailable": unavailable, "maxSurge": surge},
        }


def _mark(controller: Manifest) -> None:
    """Give the controller and its pods the colour, also in the selector, which blue, being older, does not have."""
    spec = controller["spec"]
    group = spec.get("leaderWorkerTemplate")
    templates = [group["leaderTemplate"], group["workerTemplate"]] if group else [spec["template"]]
    marked = [controller["metadata"]["labels"], *(one["metadata"]["labels"] for one in templates)]
    if "selector" in spec:
        marked.append(spec["selector"]["matchLabels"])
    for labels in marked:
        labels[COLOUR_LABEL] = "green"
