"""Checks of routes and addresses: what clients outside the cluster come in by."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from slipway.checks.findings import Finding, Report
from slipway.checks.gateway import GROUP, addresses_of
from slipway.checks.parts import part
from slipway.checks.programs import CONTROLLERS, has_ready_endpoints, judge
from slipway.checks.rights import POOLS, PROGRAMS, SERVICES, SLICES
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
        about = f"HTTPRoute {need.namespace}/{need.name}"
        route = view.one(f"{GROUP}/v1", "HTTPRoute", need.name, namespace=need.namespace)
        if route is None:
            if need in site.routes:
                remedy = "Make it: slipway render --cluster NAME | kubectl apply -f -"
                report.add("blocking", about, "there is no such route", remedy)
            else:
                report.add("info", about, "it comes when its endpoint is published")
            continue
        before = len(report.findings)
        _accepted(report, route, need, about)
        _differs(report, route, need, about)
        for namespace, service, port in need.backends:
            with part(report, f"{about}, Service {namespace}/{service}", SERVICES, SLICES):
                _backend(report, view, about, namespace=namespace, service=service, port=port)
        if len(report.findings) == before:
            report.add("ok", about, f"accepted by Gateway {need.gateway_namespace}/{need.gateway}")
    return report.findings


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


def _differs(report: Report, route: Object, need: RouteNeed, about: str) -> None:
    """A route that somebody changed by hand leads elsewhere and is accepted all the same."""
    backends = {
        (one.get("namespace", need.namespace), one["name"], one.get("port"))
        for rule in route["spec"].get("rules") or []
        for one in rule.get("backendRefs") or []
    }
    lacking = [one for one in need.backends if one not in backends]
    for namespace, service, port in lacking:
        told = f"it does not lead to Service {namespace}/{service}:{port}"
        report.add("blocking", about, told, "slipway render shows how it should be")


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


def needs_balancers(site: Site) -> bool:
    """Whether anything of the cluster waits for the address of a load balancer."""
    return any(one.balancers for one in site.endpoints) or bool(
        site.record and site.record.setup.address_pools
    )


def check_balancers(view: View, site: Site) -> list[Finding]:
    """Services of type LoadBalancer have an address, and MetalLB's pools have addresses left."""
    report = Report("balancers")
    for subject in site.endpoints:
        for name in subject.balancers:
            about = f"Service {subject.namespace}/{name}"
            service = view.one("v1", "Service", name, namespace=subject.namespace)
            if service is None:
                report.add("info", about, "it comes when its endpoint is published")
            elif addresses_of_service(service):
                report.add("ok", about, f"address {', '.join(addresses_of_service(service))}")
            else:
                remedy = (
                    f"kubectl -n {subject.namespace} describe service {name}; has the cluster load balancers?"
                )
                report.add("blocking", about, "no load balancer has given it an address", remedy)
    setup = site.record.setup if site.record else None
    for pool in setup.address_pools if setup else []:
        with part(report, f"IPAddressPool {pool.name}", POOLS):
            _pool(report, view, namespace=setup.address_pool_namespace if setup else "", name=pool.name)
    if setup and setup.address_pools:
        with part(report, CONTROLLERS["metallb.io"].what, PROGRAMS):
            report.findings += judge(view, CONTROLLERS["metallb.io"], site=site, check=report.check)
    return report.findings


def addresses_of_service(service: Object) -> list[str]:
    """Return the addresses that a load balancer gave a Service."""
    given = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [str(one.get("ip") or one.get("hostname")) for one in given]


def _pool(report: Report, view: View, *, namespace: str, name: str) -> None:
    about = f"IPAddressPool {namespace}/{name}"
    if not view.has("metallb.io/v1beta1", "IPAddressPool"):
        report.add("blocking", about, "MetalLB is not installed", CONTROLLERS["metallb.io"].remedy)
        return
    pool = view.one("metallb.io/v1beta1", "IPAddressPool", name, namespace=namespace)
    if pool is None:
        remedy = "Make it: slipway render --cluster NAME | kubectl apply -f -"
        report.add("blocking", about, "there is no such pool", remedy)
        return
    status = pool.get("status") or {}
    size = sum(map(_count, pool["spec"].get("addresses") or []))
    left = [status[key] for key in ("availableIPv4", "availableIPv6") if key in status]
    if not left:
        report.add("not checked", about, f"{size} addresses; its status does not say how many are left")
    elif sum(left) <= 0:
        remedy = f"Add addresses: kubectl -n {namespace} edit ipaddresspool {name}"
        report.add("blocking", about, f"none of {size} addresses is left", remedy)
    else:
        report.add("ok", about, f"{sum(left)} of {size} addresses are left")


def _count(text: str) -> int:
    """How many addresses ``10.0.0.1-10.0.0.9`` or ``10.0.0.0/28`` are; 0 for what is neither."""
    try:
        if "-" in text:
            first, _, last = text.partition("-")
            return int(ipaddress.ip_address(last.strip())) - int(ipaddress.ip_address(first.strip())) + 1
        return ipaddress.ip_network(text, strict=False).num_addresses
    except ValueError:
        return 0


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
