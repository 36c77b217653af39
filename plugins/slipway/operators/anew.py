"""A workload that Kubernetes cannot change into the wanted one: it is deleted, and made anew under the same name.

A controller's selector, and more of a StatefulSet, never changes. Of what Slipway renders nothing of that differs
between releases; what somebody else applied and Slipway adopted has a selector of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

from slipway.catalog.names import ENDPOINT_LABEL, RELEASE_LABEL
from slipway.cluster.adopting import beside, fixed_differences
from slipway.cluster.objects import labels_of
from slipway.errors import ClusterError, UsageError
from slipway.manifests.colours import in_colour
from slipway.manifests.plan import Controller, Plan
from slipway.manifests.render import Manifest, Rendered
from slipway.manifests.rollout import Rollout
from slipway.operators.draining import GONE_MARGIN_SECONDS

if TYPE_CHECKING:
    from slipway.catalog.records import Strategy
    from slipway.cluster.client import Cluster
    from slipway.cluster.controllers import Workload

Say = Callable[..., None]


def controller_of(rendered: Rendered) -> Manifest:
    """The object of a release that keeps its pods."""
    return next(one for one in rendered.stages["workload"] if one["kind"] in get_args(Controller))


def is_made_anew(stands: Workload | None, objects: Rendered) -> bool:
    """Whether what stands under a controller's name has to be deleted before that can be made."""
    return stands is not None and bool(fixed_differences(stands.live, controller_of(objects)))


def tried_as(objects: Rendered, *, anew: bool) -> list[Manifest]:
    """Objects as a dry run can try them: a controller that is made anew under another name."""
    controller = controller_of(objects)
    return [beside(one, anew=anew) if one is controller else one for one in objects.objects()]


def wait_for_its_pods(cluster: Cluster, gone: Workload, *, say: Say) -> None:
    """Wait until the pods of a controller that was deleted are gone: the next ones need their names, or cards."""
    labels = {key: labels_of(gone.live)[key] for key in (ENDPOINT_LABEL, RELEASE_LABEL)}
    grace = gone.live["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
    deadline = time.monotonic() + grace + GONE_MARGIN_SECONDS
    while left := cluster.list(api_version="v1", kind="Pod", namespace=gone.ref.namespace, labels=labels):
        if time.monotonic() > deadline:
            raise ClusterError(
                "the pods of before do not end",
                about=", ".join(pod["metadata"]["name"] for pod in left),
                remedy="Look at their nodes: kubectl get nodes",
            )
        time.sleep(1)
    say("the pods of %s are gone", gone.ref)


def not_rolled_where_made_anew(
    chosen: Rollout, plan: Plan, rendered: Rendered, *, serving: Workload | None, asked: Strategy | None
) -> Rollout:
    """A controller that has to be made anew cannot replace its replicas one after another.

    Raises:
        UsageError: somebody asked for just that.
    """
    fixed = _fixed(serving, plan, rendered) if serving else []
    if chosen.strategy != "rolling" or serving is None or serving.ref.kind != plan.controller or not fixed:
        return chosen
    why = f"Kubernetes never changes the {' and '.join(fixed)} of {serving.ref}"
    if asked:
        raise UsageError(
            "the replicas cannot be changed one after another",
            about=plan.endpoint,
            why=why,
            remedy="Use the strategy blue-green, or recreate",
        )
    return chosen.model_copy(update={"strategy": "recreate", "reason": f"{chosen.reason}; {why}"})


def _fixed(serving: Workload, plan: Plan, rendered: Rendered) -> list[str]:
    # In the colour that serves: the other one's selector is another.
    return fixed_differences(serving.live, controller_of(in_colour(rendered, plan, serving.colour)))
