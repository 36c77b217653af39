"""What the Services of an endpoint call their serving port: `http`, or as somebody called it before Slipway.

kube-proxy knows a Service's ports by their names. For a port that is called anew it has no pods until the endpoint
slices of that name have come, and refuses what clients send meanwhile: for 1.0 s, by the sandbox's kube-proxy in its
mode iptables. So a Service that was adopted keeps the name, also when later releases put their objects in its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slipway.manifests.plan import SERVING_PORT, Plan

Service = dict[str, Any]


def with_port_names(plan: Plan, there: Iterable[Service]) -> Plan:
    """Return the plan with the names that the serving port has in Services that are there. Pure.

    A name that cannot be kept is not: one of another port of the same Service, or none beside other ports, which
    Kubernetes wants named.

    Args:
        plan: of the catalog.
        there: the objects of the release that serves, or live ones; what is no Service of the plan is left out.
    """
    numbers = {plan.object_name: plan.server.port}
    numbers |= {one.name: one.exposure.port or plan.server.port for one in plan.publication.services}
    names = {}
    for service in there:
        name = service["metadata"]["name"]
        if service["kind"] != "Service" or name not in numbers:
            continue
        beside = plan.server.watched_ports if name == plan.object_name else {}
        called = _called(service, numbers[name])
        if called is not None and called != SERVING_PORT and called not in beside and (called or not beside):
            names[name] = called
    return plan.model_copy(update={"port_names": names})


def _called(service: Service, number: int) -> str | None:
    """What a Service calls a TCP port; "" where it has no name, None where it has no such port."""
    for port in service["spec"].get("ports") or []:
        if port["port"] == number and port.get("protocol", "TCP") == "TCP":
            return str(port.get("name") or "")
    return None
