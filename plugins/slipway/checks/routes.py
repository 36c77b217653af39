"""Checks of routes and addresses: what clients outside the cluster come in by."""

from __future__ import annotations

import socket
from typing import Any

from slipway.checks.findings import Finding, Report
from slipway.checks.gateway import GROUP, addresses_of
from slipway.checks.parts import part
from slipway.checks.programs import has_ready_endpoints, render_of
from slipway.checks.rights import SERVICES, SLICES
from slipway.checks.subject import RouteNeed, Site
from slipway.checks.view import View
from slipway.cluster.objects import Object


def check_routes(view: View, site: Site) -> list[Finding]:
    """Each HTTPRoute that is there was accepted, and leads to a Service with a ready pod."""
    report = Report("routes")
    if not view.has(f"{GROUP}/v1", "HTTPRoute"):
        report.add("not checked", "HTTPRoutes", "the Gateway API is not installed")
        return report.findings
    for need in site.all_routes:
        own = need in site.routes
        judge_route(report, view, need, mend=render_of(site) if own else "", needed=own)
    return report.findings


def judge_route(report: Report, view: View, need: RouteNeed, *, mend: str, needed: bool) -> None:
    """Say whether a route is there, was accepted, and leads where it is meant to.

    Args:
        report: where it is said.
        view: the cluster.
        need: the route.
        mend: the command that makes it as it should be; "" where only a deployment does.
        needed: whether it must be there already; an endpoint's comes when that is published.
    """
    about = f"HTTPRoute {need.namespace}/{need.name}"
    route = view.one(f"{GROUP}/v1", "HTTPRoute", need.name, namespace=need.namespace)
    if route is None:
        if needed:
            report.add("blocking", about, "there is no such route", mend)
        else:
            report.add("info", about, "it comes when its endpoint is published")
        return
    before = len(report.findings)
    _accepted(report, route, need, about)
    _differs(report, route, need, about, mend=mend)
    for namespace, service, port in need.backends:
        with part(report, view, f"{about}, Service {namespace}/{service}", SERVICES, SLICES):
            _backend(report, view, about, namespace=namespace, service=service, port=port)
    if len(report.findings) == before:
        report.add("ok", about, f"accepted by Gateway {need.gateway_namespace}/{need.gateway}")


def _accepted(report: Report, route: Object, need: RouteNeed, about: str) -> None:
    look = f"kubectl -n {need.namespace} describe httproute {need.name}"
    parents = [
        one
        for one in (route.get("status") or {}).get("parents") or []
        if one["parentRef"]["name"] == need.gateway
    ]
    if not parents:
        told = f"Gateway {need.gateway_namespace}/{need.gateway} says nothing of it"
        report.add("blocking", about, told, look)
        return
    for kind in ("Accepted", "ResolvedRefs"):
        for parent in parents:
            state: dict[str, Any] = next(
                (one for one in parent.get("conditions") or [] if one["type"] == kind), {}
            )
            if state.get("status") == "False":
                report.add(
                    "blocking", about, f"{kind} is False: {state.get('message') or state.get('reason')}", look
                )
                return


def _differs(report: Report, route: Object, need: RouteNeed, about: str, *, mend: str) -> None:
    """A route that somebody changed by hand leads elsewhere and is accepted all the same."""
    backends = {
        (one.get("namespace", need.namespace), one["name"], one.get("port"))
        for rule in route["spec"].get("rules") or []
        for one in rule.get("backendRefs") or []
    }
    lacking = [one for one in need.backends if one not in backends]
    for namespace, service, port in lacking:
        told = f"it does not lead to Service {namespace}/{service}:{port}"
        report.add("blocking", about, told, mend or "slipway render ENDPOINT shows how it should be")


def _backend(report: Report, view: View, about: str, *, namespace: str, service: str, port: int) -> None:
    found = view.one("v1", "Service", service, namespace=namespace)
    place = f"Service {namespace}/{service}"
    look = f"kubectl -n {namespace} get service,endpointslices,pods"
    if found is None:
        report.add("blocking", about, f"it leads to {place}, which is not there", look)
    elif port not in [one["port"] for one in found["spec"].get("ports") or []]:
        ports = ", ".join(str(one["port"]) for one in found["spec"].get("ports") or [])
        report.add(
            "blocking", about, f"it leads to port {port} of {place}, which has {ports or 'none'}", look
        )
    elif found["spec"].get("type") != "ExternalName" and not has_ready_endpoints(
        view, namespace=namespace, service=service
    ):
        report.add("warning", about, f"{place} leads to no ready pod", look)


def check_names(view: View, site: Site) -> list[Finding]:
    """The names that clients use resolve, here, to the address of their Gateway.

    What this machine resolves may be otherwise elsewhere (/etc/hosts, split DNS), so a difference is a warning.
    """
    report = Report("names")
    for need in site.all_routes:
        gateway = (
            view.one(f"{GROUP}/v1", "Gateway", need.gateway, namespace=need.gateway_namespace)
            if view.has(f"{GROUP}/v1", "Gateway")
            else None
        )
        for host in need.hosts:
            _name(report, host, addresses_of(gateway) if gateway else [])
    return list(dict.fromkeys(report.findings))


def _name(report: Report, host: str, addresses: list[str]) -> None:
    about = f"name {host}"
    if not addresses:
        report.add("not checked", about, "its Gateway has no address to compare with")
        return
    remedy = f"Point it there in DNS, or: echo '{addresses[0]} {host}' | sudo tee -a /etc/hosts"
    try:
        found = sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None)})
    except OSError:
        report.add("warning", about, f"it does not resolve here; its Gateway is at {addresses[0]}", remedy)
        return
    if set(found) & set(addresses):
        report.add("ok", about, f"resolves to {', '.join(found)}")
    else:
        told = f"it resolves to {', '.join(found)} here, its Gateway is at {', '.join(addresses)}"
        report.add("warning", about, told, remedy)
