"""Where clients outside come in to an endpoint: the address of its Gateway and the listener that its route hangs on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from slipway.errors import ClusterError

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster
    from slipway.cluster.objects import Object
    from slipway.manifests.plan import Plan

API = "gateway.networking.k8s.io/v1"
ACCEPTED_SECONDS = 60.0
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Entrance:
    """An address, and what clients call it."""

    base_url: str
    address: str


def probes_route(plan: Plan) -> bool:
    """Whether an endpoint has a route by which the API can be asked; one that leads to other paths cannot be."""
    route = plan.publication.route
    return route is not None and route.exposure.path.rstrip("/") in ("", "/v1")


def find_entrance(
    cluster: Cluster,
    plan: Plan,
    *,
    seconds: float = ACCEPTED_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> Entrance:
    """Wait until the Gateway's controller has taken the route as it is now, and say where its clients come in.

    Raises:
        ClusterError: it refuses the route, or says nothing of it; the Gateway has no address, or no fitting listener.
    """
    route, deadline = plan.publication.route, time.monotonic() + seconds
    assert route is not None  # the caller looked
    name, about = plan.object_name, f"HTTPRoute {plan.namespace}/{plan.object_name}"
    while True:
        found = cluster.get(api_version=API, kind="HTTPRoute", name=name, namespace=plan.namespace)
        if found is None:
            raise ClusterError("the route is gone", about=about)
        why = why_not_taken(found, gateway=route.gateway)
        if why is None:
            break
        if time.monotonic() > deadline:
            look = f"kubectl -n {plan.namespace} describe httproute {name}"
            raise ClusterError("the Gateway does not take the route", about=about, why=why, remedy=look)
        sleep(0.5)
    place = f"Gateway {route.gateway_namespace}/{route.gateway}"
    gateway = cluster.get(
        api_version=API, kind="Gateway", name=route.gateway, namespace=route.gateway_namespace
    )
    if gateway is None:
        raise ClusterError("there is no such Gateway", about=place)
    return entrance_of(gateway, section=route.section, host=route.exposure.host, about=place)


def why_not_taken(route: Object, *, gateway: str) -> str | None:
    """Say what keeps a route from working, by its status; None when its Gateway has taken its latest form."""
    parents = [
        one for one in (route.get("status") or {}).get("parents") or [] if one["parentRef"]["name"] == gateway
    ]
    if not parents:
        return f"Gateway {gateway} says nothing of it"
    generation = int(route["metadata"].get("generation", 0))
    for parent in parents:
        states = {one["type"]: one for one in parent.get("conditions") or []}
        for kind in ("Accepted", "ResolvedRefs"):
            state: dict[str, Any] = states.get(kind, {})
            if int(state.get("observedGeneration", 0)) < generation:
                return f"Gateway {gateway} has not looked at its latest form"
            if state.get("status") != "True":
                return f"{kind} is {state.get('status')}: {state.get('message') or state.get('reason', '')}"
    return None


def entrance_of(gateway: Object, *, section: str | None, host: str | None, about: str) -> Entrance:
    """Choose the listener, HTTPS before HTTP, and what to call it: the route's host, or its own, or the address.

    Raises:
        ClusterError: the Gateway has no address, or no such listener.
    """
    addresses = [
        one["value"] for one in (gateway.get("status") or {}).get("addresses") or [] if one.get("value")
    ]
    if not addresses:
        raise ClusterError(
            "the Gateway has no address",
            about=about,
            remedy="Has the cluster load balancers? slipway check CLUSTER says more",
        )
    fitting = [
        one
        for one in gateway["spec"].get("listeners") or []
        if section in (None, one["name"])
        and one["protocol"] in ("HTTP", "HTTPS")
        and (host is None or _covers(one.get("hostname"), host))
    ]
    if not fitting:
        raise ClusterError("the Gateway has no listener for the route", about=about, why=f"host {host}")
    listener = max(fitting, key=lambda one: one["protocol"] == "HTTPS")
    scheme = listener["protocol"].lower()
    called = host or listener.get("hostname") or addresses[0]
    if called.startswith("*."):
        called = f"probe{called[1:]}"
    port = "" if listener["port"] == _DEFAULT_PORTS[scheme] else f":{listener['port']}"
    return Entrance(base_url=f"{scheme}://{called}{port}", address=addresses[0])


def _covers(pattern: str | None, host: str) -> bool:
    """Whether a listener's host name covers a route's; a ``*.`` stands for one label or more."""
    if pattern is None or pattern == host:
        return True
    return pattern.startswith("*.") and host.endswith(pattern[1:])
