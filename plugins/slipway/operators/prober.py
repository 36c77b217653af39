"""Probes from a pod without a task of their own: of a release that is returned to, and of everything that serves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import BaseModel

from slipway.cluster.faults import ApiError
from slipway.cluster.objects import Object, Ref
from slipway.errors import SlipwayError
from slipway.manifests.plan import Plan
from slipway.manifests.render import render_one, service_url
from slipway.operators.connections import opener_of
from slipway.operators.entrance import Entrance
from slipway.operators.pods import StepPod
from slipway.pods import parse_result

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster
    from slipway.probes.orders import ProbeResult

PROBE_POD_SECONDS = 600
Through = Literal["release", "published"]
Result = TypeVar("Result", bound=BaseModel)
_AUTHORITY_MOUNT = "/authority"


def probe_step(plan: Plan, *, release: str, through: Through, entrance: Entrance | None = None) -> StepPod:
    """The pod that asks an endpoint as a client would.

    Args:
        plan: of the release.
        release: its label.
        through: ``release`` for the Service of this release alone, ``published`` for the one that clients use.
        entrance: where clients outside the cluster come in; it is asked there too.
    """
    order = probe_order(plan, release=release if through == "release" else None)
    pod = asking_pod(plan, name=f"probe-{through}", module="slipway.probes", order=order)
    return pod if entrance is None else _from_outside(pod, plan, entrance)


def _from_outside(pod: StepPod, plan: Plan, entrance: Entrance) -> StepPod:
    """The same pod that also asks where clients outside come in, and trusts the authority of the Gateway there."""
    route = plan.publication.route
    authority = route.authority if route else None
    outside = {
        "base_url": entrance.base_url,
        "address": entrance.address,
        "authority": f"{_AUTHORITY_MOUNT}/ca.crt" if authority else None,
    }
    order = json.dumps({**json.loads(pod.order), "outside": outside})
    return pod.model_copy(
        update={"order": order, "config_maps": {authority: _AUTHORITY_MOUNT} if authority else {}}
    )


def asking_pod(plan: Plan, *, name: str, module: str, order: dict[str, Any]) -> StepPod:
    """A pod that sends requests to the endpoint, with its API key by reference."""
    return StepPod(
        name=name,
        module=module,
        order=json.dumps(order),
        image=plan.tools_image,
        memory="256Mi",
        api_key=plan.api_key.model_dump(include={"secret", "key"}) if plan.api_key else None,
    )


def probe_order(plan: Plan, *, release: str | None) -> dict[str, Any]:
    """What to ask an endpoint: through the Service of one release, or through the published one."""
    return {
        "base_url": service_url(plan, release=release),
        "served_name": plan.served_name,
        "task": plan.server.task,
        "tool_calls": plan.server.tool_calls,
        "health_path": _address(plan, plan.server.health_path, plan.server.health_port, release),
        "metrics_path": _address(plan, plan.server.metrics_path, plan.server.metrics_port, release),
        "expect_api_key": plan.api_key is not None,
    }


def _address(plan: Plan, path: str | None, port: str, release: str | None) -> str | None:
    """A path on the serving port, or the whole address on a port of its own."""
    if path is None or port == "http":
        return path
    return f"{service_url(plan, release=release, port=plan.server.ports[port])}{path}"


def start_probe(cluster: Cluster, plan: Plan, *, release: str, through: Through, name: str) -> None:
    """Make the pod; one of that name that is there already is taken for this one."""
    start_pod(cluster, plan, step=probe_step(plan, release=release, through=through), name=name)


def start_pod(
    cluster: Cluster, plan: Plan, *, step: StepPod, name: str, seconds: int = PROBE_POD_SECONDS
) -> None:
    """Make the pod of a step without a task; one of that name that is there already is taken for this one."""
    pod = render_one("step-pod.yaml.j2", plan=plan, step=step)
    pod["metadata"]["name"] = name
    pod["spec"]["activeDeadlineSeconds"] = seconds
    try:
        cluster.create(pod)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


def take_probe(cluster: Cluster, plan: Plan, *, name: str) -> ProbeResult:
    """Read the result of a probe's pod and delete the pod.

    Raises:
        SlipwayError: the error that the pod reported, or what the cluster knows of a pod that reported none.
    """
    from slipway.probes.orders import ProbeResult

    return take_result(cluster, plan, ProbeResult, name=name)


def take_result(cluster: Cluster, plan: Plan, kind: type[Result], *, name: str) -> Result:
    """Read what a pod that looks at an endpoint left, and delete the pod.

    Raises:
        SlipwayError: the error that the pod reported, or what the cluster knows of a pod that reported none.
    """
    pod = cluster.get(api_version="v1", kind="Pod", name=name, namespace=plan.namespace)
    try:
        if pod is None:
            raise SlipwayError("the probe's pod is gone", about=f"Pod {plan.namespace}/{name}")
        message = termination(pod).get("message")
        if not message:
            raise SlipwayError("the probe's pod failed", about=plan.endpoint, why=why_no_result(pod))
        return parse_result(message, kind)
    finally:
        if pod is not None:
            delete_probe(cluster, plan, name=name)


def delete_probe(cluster: Cluster, plan: Plan, *, name: str) -> None:
    """Delete a probe's pod, finished or not."""
    ref = Ref(apiVersion="v1", kind="Pod", namespace=plan.namespace, name=name)
    cluster.delete(ref, grace_seconds=0)


def has_ended(pod: Object | None) -> bool:
    """Whether a pod has ended, or is not there any more."""
    return pod is None or pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def termination(pod: Object) -> dict[str, Any]:
    """How the step's container ended; empty when it did not."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    states = (status.get("state") or {} for status in statuses if status["name"] == "step")
    return next((dict(state.get("terminated") or {}) for state in states), {})


def why_no_result(pod: Object) -> str:
    """Say in one line what the cluster knows of a pod that left no result."""
    status, ended = pod.get("status", {}), termination(pod)
    if ended:
        return f"its container ended with exit status {ended.get('exitCode')} ({ended.get('reason') or 'no reason'})"
    if status.get("reason"):
        return f"{status['reason']}: {status.get('message') or 'no message'}"
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return f"{waiting['reason']}: {waiting.get('message') or 'no message'}"
    for condition in status.get("conditions") or []:
        if (condition.get("status"), condition.get("reason")) == ("False", "Unschedulable"):
            return f"no node takes it: {condition.get('message')}"
    return f"it stayed in phase {status.get('phase') or 'Unknown'}"


class PodEndTrigger(BaseTrigger):
    """Wait until a pod has ended or is gone; then the worker reads what it left."""

    def __init__(self, *, connection: str, namespace: str, name: str, seconds: float) -> None:
        super().__init__()
        self.connection, self.namespace, self.name, self.seconds = connection, namespace, name, seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow stores to start the trigger again after a restart."""
        keys = ("connection", "namespace", "name", "seconds")
        return f"{type(self).__module__}.{type(self).__name__}", {key: getattr(self, key) for key in keys}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch it; an API server that is away for a while is asked again."""
        from slipway.cluster.shared import seat
        from slipway.cluster.watch import wait_for_end

        async with seat(self.connection, self.namespace, opener=opener_of(self.connection)) as taken:
            await wait_for_end(
                taken,
                namespace=self.namespace,
                name=self.name,
                seconds=self.seconds,
                say=lambda line: self.log.info("%s", line),
            )
        yield TriggerEvent({"name": self.name})
