"""Checks of the Gateway API: its definitions, the class, the Gateway with address, listeners and certificates."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from slipway.checks.certificates import (
    chain_of,
    covers,
    days_left,
    fault_of_chain,
    names_of,
    told_days,
)
from slipway.checks.findings import Finding, Report
from slipway.checks.programs import render_of
from slipway.checks.subject import Site
from slipway.checks.view import View
from slipway.cluster.faults import ApiError
from slipway.cluster.objects import Object
from slipway.cluster.verdict import condition

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

GROUP = "gateway.networking.k8s.io"
DEFINITIONS = ("gatewayclasses", "gateways", "grpcroutes", "httproutes", "referencegrants")
BUNDLE = f"{GROUP}/bundle-version"
OLDEST_BUNDLE = (1, 2, 1)
FEW_DAYS = 14
_TLS = "kubernetes.io/tls"
_INSTALL = "kubectl apply -f https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.2.1/standard-install.yaml"


def needs_gateway(site: Site) -> bool:
    """Whether anything of the cluster hangs on a Gateway."""
    return bool(site.all_routes) or (site.record is not None and site.record.gateway is not None)


def check_gateway_api(view: View, site: Site) -> list[Finding]:
    """All five definitions of the Gateway API are there, established, and of bundle 1.2.1 or newer."""
    report = Report("gateway-api")
    definitions = {
        one["metadata"]["name"]: one
        for one in view.all_of("apiextensions.k8s.io/v1", "CustomResourceDefinition")
    }
    for plural in DEFINITIONS:
        name = f"{plural}.{GROUP}"
        about = f"CustomResourceDefinition {name}"
        found = definitions.get(name)
        if found is None:
            report.add("blocking", about, "it is not installed", _INSTALL)
            continue
        bundle = (found["metadata"].get("annotations") or {}).get(BUNDLE, "")
        if condition(found, "Established").get("status") != "True":
            told = condition(found, "NamesAccepted").get("message") or "it is not established"
            report.add("blocking", about, told, f"kubectl describe crd {name}")
        elif _version(bundle) is None:
            report.add("not checked", about, f"its annotation {BUNDLE} is {bundle!r}, which names no version")
        elif (_version(bundle) or ()) < OLDEST_BUNDLE:
            oldest = ".".join(map(str, OLDEST_BUNDLE))
            report.add("blocking", about, f"bundle {bundle} is older than {oldest}", _INSTALL)
    if not report.findings:
        bundles = sorted(
            {definitions[f"{one}.{GROUP}"]["metadata"]["annotations"][BUNDLE] for one in DEFINITIONS}
        )
        report.add("ok", "Gateway API", f"all five definitions, bundle {', '.join(bundles)}")
    return report.findings


def _version(text: str) -> tuple[int, ...] | None:
    parts = text.removeprefix("v").partition("-")[0].split(".")
    return tuple(map(int, parts)) if len(parts) == 3 and all(part.isdigit() for part in parts) else None


def check_gateways(view: View, site: Site) -> list[Finding]:
    """Each Gateway that routes hang on is programmed, has an address, and its listeners work."""
    report = Report("gateways")
    if not view.has(f"{GROUP}/v1", "Gateway"):
        report.add("not checked", "Gateways", "the Gateway API is not installed")
        return report.findings
    for namespace, name in sorted(wanted_gateways(site)):
        about = f"Gateway {namespace}/{name}"
        gateway = view.one(f"{GROUP}/v1", "Gateway", name, namespace=namespace)
        if gateway is None:
            report.add("blocking", about, "there is no such Gateway", render_of(site))
            continue
        _class(report, view, gateway["spec"]["gatewayClassName"])
        _gateway(report, gateway, about)
        sections = {
            one.section
            for one in site.all_routes
            if (one.gateway_namespace, one.gateway) == (namespace, name)
        }
        _listeners(report, view, gateway, sections=sections, site=site)
    return report.findings


def wanted_gateways(site: Site) -> set[tuple[str, str]]:
    """Namespace and name of the Gateways of a cluster and its routes."""
    wanted = {(route.gateway_namespace, route.gateway) for route in site.all_routes}
    if site.record and site.record.gateway:
        wanted.add((site.record.gateway.namespace, site.record.gateway.name))
    return wanted


def _class(report: Report, view: View, name: str) -> None:
    about = f"GatewayClass {name}"
    if any(one.about == about for one in report.findings):
        return
    found = view.one(f"{GROUP}/v1", "GatewayClass", name)
    if found is None:
        report.add(
            "blocking", about, "there is no such class", f"Install the controller that brings class {name}"
        )
        return
    accepted = condition(found, "Accepted")
    if accepted.get("status") == "True" and accepted.get("reason") != "Pending":
        report.add("ok", about, f"accepted by {found['spec']['controllerName']}")
    else:
        told = accepted.get("message") or "no controller has looked at it"
        remedy = f"Is its controller {found['spec']['controllerName']} running? kubectl describe gatewayclass {name}"
        report.add("blocking", about, f"not accepted: {told}", remedy)


def _gateway(report: Report, gateway: Object, about: str) -> None:
    namespace, name = gateway["metadata"]["namespace"], gateway["metadata"]["name"]
    look = f"kubectl -n {namespace} describe gateway {name}"
    for kind in ("Accepted", "Programmed"):
        state = condition(gateway, kind)
        if state.get("status") != "True":
            told = state.get("message") or "no controller has looked at it"
            report.add("blocking", about, f"not {kind.lower()}: {told}", look)
            return
        if _is_stale(state, gateway):
            report.add("warning", about, f"its controller has not looked at its latest change ({kind})", look)
            return
    addresses = addresses_of(gateway)
    if not addresses:
        report.add(
            "blocking",
            about,
            "it is programmed, but has no address",
            f"{look}; has the cluster load balancers?",
        )
    else:
        report.add("ok", about, f"programmed, address {', '.join(addresses)}")


def addresses_of(gateway: Object) -> list[str]:
    """Return the addresses that a Gateway has been given."""
    return [one["value"] for one in (gateway.get("status") or {}).get("addresses") or [] if one.get("value")]


def _is_stale(state: Object, obj: Object) -> bool:
    return int(state.get("observedGeneration", 0)) < int(obj["metadata"].get("generation", 0))


def _listeners(
    report: Report, view: View, gateway: Object, *, sections: Iterable[str | None], site: Site
) -> None:
    namespace, name = gateway["metadata"]["namespace"], gateway["metadata"]["name"]
    listeners = {one["name"]: one for one in gateway["spec"].get("listeners") or []}
    states = {one["name"]: one for one in (gateway.get("status") or {}).get("listeners") or []}
    wanted = (
        {one.name for one in site.record.gateway.listeners} if site.record and site.record.gateway else set()
    )
    for section in sorted({one for one in sections if one} | wanted):
        if section not in listeners:
            about = f"listener {section} of Gateway {namespace}/{name}"
            told = f"it has no such listener; it has: {', '.join(sorted(listeners))}"
            report.add("blocking", about, told, render_of(site))
    for section, listener in listeners.items():
        about = f"listener {section} of Gateway {namespace}/{name}"
        before = len(report.findings)
        _state(report, states.get(section), about, look=f"kubectl -n {namespace} describe gateway {name}")
        for ref in (listener.get("tls") or {}).get("certificateRefs") or []:
            place = ref.get("namespace", namespace)
            _certificate(
                report, view, namespace=place, name=ref["name"], host=listener.get("hostname"), about=about
            )
        if len(report.findings) == before:
            report.add("ok", about, f"{listener['protocol']} on port {listener['port']}")


def _state(report: Report, state: dict[str, Any] | None, about: str, *, look: str) -> None:
    if state is None:
        report.add("not checked", about, "its Gateway's controller says nothing of it", look)
        return
    conditions = {one["type"]: one for one in state.get("conditions") or []}
    for kind, wanted in (
        ("Accepted", "True"),
        ("ResolvedRefs", "True"),
        ("Programmed", "True"),
        ("Conflicted", "False"),
    ):
        found = conditions.get(kind)
        if found and found.get("status") != wanted:
            told = f"{kind} is {found.get('status')}: {found.get('message') or found.get('reason', '')}"
            report.add("blocking", about, told, look)
            return


def _certificate(
    report: Report, view: View, *, namespace: str, name: str, host: str | None, about: str
) -> None:
    what = f"certificate of {about}"
    try:
        secret = view.one("v1", "Secret", name, namespace=namespace)
    except ApiError as error:
        if error.status != 403:
            raise
        report.add("not checked", what, f"this connection may not read Secret {namespace}/{name}")
        return
    create = f"kubectl -n {namespace} create secret tls {name} --cert=FILE --key=FILE"
    renew = f"{create} --dry-run=client -o yaml | kubectl apply -f -"
    if secret is None:
        report.add("blocking", what, f"there is no Secret {namespace}/{name}", create)
        return
    if secret.get("type", _TLS) != _TLS:
        # The type of a Secret cannot be changed, so applying one of the right type over it is refused.
        renew = f"kubectl -n {namespace} delete secret {name} && {create}"
    data = secret.get("data") or {}
    missing = [key for key in ("tls.crt", "tls.key") if not data.get(key)]
    if missing:
        report.add("blocking", what, f"Secret {namespace}/{name} has no {' and no '.join(missing)}", renew)
        return
    try:
        chain = chain_of(base64.b64decode(data["tls.crt"]))
    except ValueError:
        report.add("blocking", what, f"tls.crt of Secret {namespace}/{name} is no certificate", renew)
        return
    _chain(report, chain, what=what, host=host, renew=renew)


def _chain(report: Report, chain: list[Certificate], *, what: str, host: str | None, renew: str) -> None:
    left, broken = days_left(chain[0]), fault_of_chain(chain)
    if left < 0:
        report.add("blocking", what, told_days(left), renew)
    elif broken:
        report.add("blocking", what, broken, renew)
    elif host and not covers(names_of(chain[0]), host):
        names = ", ".join(names_of(chain[0])) or "no name"
        report.add("blocking", what, f"it is for {names}, not for {host}", renew)
    elif left < FEW_DAYS:
        report.add("warning", what, told_days(left), renew)
    else:
        report.add("ok", what, told_days(left))
