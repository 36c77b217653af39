"""A canary: the new release gets a growing share of the requests, and each step is watched before the next.

The shares are weights in the endpoint's HTTPRoute: between the published Service, which goes on to lead to the release
that serves, and the new release's own. Clients inside the cluster that use the published Service reach the new release
when it is published, after the last step.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slipway.catalog.names import COMPONENT_LABEL, ENDPOINT_LABEL, RELEASE_LABEL
from slipway.errors import ClusterError, ProbeError, ReleaseError
from slipway.manifests.plan import Plan
from slipway.manifests.render import Manifest, Rendered, service_name
from slipway.operators.pods import StepPod
from slipway.operators.prober import (
    PROBE_POD_SECONDS,
    PodEndTrigger,
    asking_pod,
    probe_order,
    start_pod,
    take_result,
)
from slipway.operators.steps import Work

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster
    from slipway.probes.canary import CanaryResult
    from slipway.releases.records import Release


def weighted_route(good: Release, work: Work, *, weight: int) -> Manifest:
    """The endpoint's route with a share for the new release; all else in it is as it serves now.

    Raises:
        ReleaseError: neither release has a route.
    """
    for rendered in (Rendered.from_bytes(good.objects), work.rendered):
        for one in rendered.stages["publication"]:
            if one["kind"] == "HTTPRoute":
                return _with_weight(deepcopy(one), work, weight=weight)
    raise ReleaseError("a canary needs a route", about=work.release.title)


def _with_weight(route: Manifest, work: Work, *, weight: int) -> Manifest:
    for rule in route["spec"]["rules"]:
        [backend] = rule["backendRefs"]
        new = {**backend, "name": service_name(work.plan, release=work.rendered.release)}
        rule["backendRefs"] = [{**backend, "weight": 100 - weight}, {**new, "weight": weight}]
    return route


def start_watch(cluster: Cluster, work: Work, *, step: int) -> PodEndTrigger:
    """Start the pod that probes the new release and counts failures; returns what waits for it."""
    plan, label = work.plan, work.rendered.release
    seconds = plan.rollout.canary.seconds
    name = f"{plan.object_name}-canary-{work.release.number}-{step}"
    start_pod(
        cluster,
        plan,
        step=_watch_pod(cluster, plan, label),
        name=name,
        seconds=seconds + PROBE_POD_SECONDS,
    )
    return PodEndTrigger(
        connection=plan.connection,
        namespace=plan.namespace,
        name=name,
        seconds=seconds + PROBE_POD_SECONDS + 60,
    )


def watch_timeout(trigger: PodEndTrigger) -> timedelta:
    """Longer than the trigger itself waits."""
    return timedelta(seconds=trigger.seconds + 120)


def _watch_pod(cluster: Cluster, plan: Plan, label: str) -> StepPod:
    order: dict[str, Any] = {
        **probe_order(plan, release=label),
        "seconds": plan.rollout.canary.seconds,
        "counters": _counters(cluster, plan, label),
    }
    return asking_pod(plan, name="canary", module="slipway.probes.canary", order=order)


def _counters(cluster: Cluster, plan: Plan, label: str) -> list[str]:
    """The addresses of the metrics of each pod that serves the release: a Service would lead to any one of them."""
    if plan.server.metrics_path is None:
        return []
    labels = {ENDPOINT_LABEL: plan.object_name, COMPONENT_LABEL: "server", RELEASE_LABEL: label}
    pods = cluster.list(api_version="v1", kind="Pod", namespace=plan.namespace, labels=labels)
    found = [pod.get("status", {}).get("podIP") for pod in pods]
    hosts = [f"[{address}]" if ":" in address else address for address in found if address]
    return [f"http://{host}:{plan.server.metrics_number}{plan.server.metrics_path}" for host in hosts]


def take_watch(cluster: Cluster, plan: Plan, *, name: str, weight: int) -> CanaryResult:
    """Read what was seen at a step of the canary, and delete the pod that looked.

    Raises:
        SlipwayError: the probe of the new release failed, which is said with the weight; or the pod itself did.
    """
    from slipway.probes.canary import CanaryResult

    try:
        return take_result(cluster, plan, CanaryResult, name=name)
    except ProbeError as error:
        raise ProbeError(
            f"at {weight} % of the requests {error.what}",
            about=error.about,
            why=error.why,
            remedy=error.remedy,
        ) from error


def judge(seen: CanaryResult, plan: Plan, *, weight: int) -> str:
    """Say what was seen at a step of the canary.

    Raises:
        ClusterError: more requests failed than the endpoint's record allows.
    """
    what = (
        f"{seen.failures} of {seen.requests} requests of our own failed ({seen.own_percent:.1f} %), "
        f"{seen.errors} of {seen.served} that its pods counted ({seen.counted_percent:.1f} %)"
    )
    most = plan.rollout.canary.errors_percent
    if seen.errors_percent <= most:
        return what
    first = f"; the first: {seen.first_failure}" if seen.first_failure else ""
    raise ClusterError(
        f"too many requests to the new release failed at {weight} % of the requests",
        about=plan.endpoint,
        why=f"{what}, and {most:g} % may{first}",
        remedy="Read the evidence of this release; canary.errors_percent in the endpoint's record says how many may",
    )
