"""Checks of Services that clients outside the cluster call: addresses of load balancers, their pools, node ports."""

from __future__ import annotations

import ipaddress

from slipway.checks.findings import Finding, Report
from slipway.checks.parts import part
from slipway.checks.programs import CONTROLLERS, judge, render_of
from slipway.checks.rights import POOLS, PROGRAMS
from slipway.checks.subject import NodePortNeed, Site, Subject
from slipway.checks.view import View
from slipway.cluster.objects import Object


def needs_balancers(site: Site) -> bool:
    """Whether anything of the cluster waits for the address of a load balancer, or is offered on its nodes."""
    return any(one.balancers or one.node_ports for one in site.endpoints) or bool(
        site.record and site.record.setup.address_pools
    )


def check_balancers(view: View, site: Site) -> list[Finding]:
    """Services have the address of a load balancer or their port on the nodes; pools have addresses left."""
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
        for need in subject.node_ports:
            _node_port(report, view, subject, need)
    setup = site.record.setup if site.record else None
    for pool in setup.address_pools if setup else []:
        with part(report, view, f"IPAddressPool {pool.name}", POOLS):
            namespace = setup.address_pool_namespace if setup else ""
            _pool(report, view, namespace=namespace, name=pool.name, mend=render_of(site))
    if setup and setup.address_pools:
        with part(report, view, CONTROLLERS["metallb.io"].what, PROGRAMS):
            report.findings += judge(view, CONTROLLERS["metallb.io"], site=site, check=report.check)
    return report.findings


def addresses_of_service(service: Object) -> list[str]:
    """Return the addresses that a load balancer gave a Service."""
    given = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [str(one.get("ip") or one.get("hostname")) for one in given]


def _node_port(report: Report, view: View, subject: Subject, need: NodePortNeed) -> None:
    """The port that an endpoint asks for is its own; a cluster gives each to one Service only."""
    about = f"Service {subject.namespace}/{need.name}"
    service = view.one("v1", "Service", need.name, namespace=subject.namespace)
    if need.node_port is not None:
        for other in view.all_of("v1", "Service"):
            place = (other["metadata"]["namespace"], other["metadata"]["name"])
            if place != (subject.namespace, need.name) and need.node_port in _ports_of(other):
                remedy = "Name another port in the endpoint's record, or delete that Service"
                report.add(
                    "blocking", about, f"node port {need.node_port} is Service {'/'.join(place)}'s", remedy
                )
                return
    if service is None:
        report.add("info", about, "it comes when its endpoint is published")
    elif not _ports_of(service):
        remedy = (
            f"kubectl -n {subject.namespace} patch service {need.name} --type=merge -p "
            '\'{"spec": {"type": "NodePort"}}\''
        )
        report.add("blocking", about, "no node offers it: it has no node port", remedy)
    else:
        report.add(
            "ok", about, f"port {', '.join(map(str, _ports_of(service)))} of every node; --active asks it"
        )


def _ports_of(service: Object) -> list[int]:
    return [one["nodePort"] for one in service["spec"].get("ports") or [] if one.get("nodePort")]


def _pool(report: Report, view: View, *, namespace: str, name: str, mend: str) -> None:
    about = f"IPAddressPool {namespace}/{name}"
    if not view.has("metallb.io/v1beta1", "IPAddressPool"):
        report.add("blocking", about, "MetalLB is not installed", CONTROLLERS["metallb.io"].remedy)
        return
    pool = view.one("metallb.io/v1beta1", "IPAddressPool", name, namespace=namespace)
    if pool is None:
        report.add("blocking", about, "there is no such pool", mend)
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
