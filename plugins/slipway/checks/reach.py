"""The check that looks around from inside: a pod resolves names, asks registry, Gateway and NFS server, lists sources.

It changes the cluster for a moment, as ``volumes`` does, so a person asks for it (``--active``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from slipway.checks.findings import Finding, Report, Severity
from slipway.checks.gateway import GROUP, addresses_of, wanted_gateways
from slipway.checks.hydra_server import servers_of
from slipway.checks.nodes import full_name, is_ready
from slipway.checks.subject import Site, SourceNeed, Subject
from slipway.checks.trial_pod import clear_away, pod_of, running, trial_name
from slipway.checks.view import View
from slipway.errors import SlipwayError

_CLUSTER_NAME = "kubernetes.default.svc"
_Task = tuple[str, Severity, dict[str, Any]]
_SOURCES = ("s3", "modelscope", "https", "http", "nfs", "oss")
_PROTOCOLS = {"HTTP": "http", "HTTPS": "https"}

_REMEDIES = {
    "resolve": "Is the cluster's DNS running? kubectl -n kube-system get pods,endpointslices -l k8s-app=kube-dns",
    "request": "Is there a way from the cluster's pods to that address (proxy, firewall, NetworkPolicy)?",
    "greet": "Is it running, and is there a way from the cluster's pods to it (NetworkPolicy)?",
    "export": "On the NFS server: exportfs -v; and is port 2049 open to the cluster's nodes?",
    "source": "Correct the source, or the keys of the Secret that goes with it",
}


def check_reach(view: View, site: Site) -> list[Finding]:
    """From a pod: names resolve, registries, Gateways and servers answer, and sources have what they should."""
    report = Report("reach")
    groups: dict[tuple[str, str], list[Subject]] = {}
    for subject in site.endpoints:
        if subject.tools_image:
            groups.setdefault((subject.namespace, str(_credentials(subject))), []).append(subject)
    for alike in groups.values():
        _try_reach(report, view, site, alike)
    for subject in site.endpoints:
        _not_asked(report, subject)
    if not groups:
        report.add("not checked", "pods", "no endpoint of this cluster says where a pod could look around")
    return list(dict.fromkeys(report.findings))


def _credentials(subject: Subject) -> dict[str, dict[str, str]]:
    return subject.source.credentials if subject.source else {}


def _not_asked(report: Report, subject: Subject) -> None:
    """Sources that only a data set operator's own program can read."""
    for location in subject.source.locations if subject.source else ():
        if subject.source and not _can_ask(subject.source, location):
            about = f"source {location} of endpoint {subject.endpoint}"
            report.add("not checked", about, "what brings it is not Slipway: only that can tell")


def _can_ask(source: SourceNeed, location: str) -> bool:
    scheme = urlsplit(location).scheme
    return scheme in _SOURCES and (source.by == "slipway" or scheme == "oss")


def _try_reach(report: Report, view: View, site: Site, subjects: list[Subject]) -> None:
    first = subjects[0]
    clear_away(view.cluster, namespace=first.namespace)
    tasks = [
        *_names(),
        *_registries(subjects),
        *_gateways(view, site),
        *_node_ports(view, subjects),
        *_exports(site),
        *_servers(view, site),
        *_sources(subjects),
    ]
    tasks = list({str(order): (about, severity, order) for about, severity, order in tasks}.values())
    pod = pod_of(
        first,
        [order for _, _, order in tasks],
        name=trial_name("reach"),
        credentials=_credentials(first),
    )
    reached: dict[str, bool] = {}
    try:
        with running(view.cluster, pod) as (_, answers):
            for (about, severity, order), answer in zip(tasks, answers, strict=True):
                told = f"from a pod in {first.namespace}: {answer['told']}"
                reached[str(order)] = answer["ok"]
                if answer["ok"]:
                    report.add("ok", about, told)
                else:
                    report.add(severity, about, told, _REMEDIES[order["do"]])
    except SlipwayError as error:
        report.add("blocking", f"a pod in {first.namespace}", f"{error.what}: {error.why}", error.remedy)
        return
    _without_source(report, site, subjects, reached)


def _without_source(report: Report, site: Site, subjects: list[Subject], reached: dict[str, bool]) -> None:
    """An endpoint none of whose sources answers cannot be deployed.

    Of a whole cluster that is a warning, because others can, unless no endpoint's source answers at all: then the
    way, the service or its key is at fault.
    """
    own = [one for one in subjects if one.source and one.source.by == "slipway"]
    asked = {subject.endpoint: [reached[str(task[2])] for task in _sources([subject])] for subject in own}
    asked = {endpoint: answers for endpoint, answers in asked.items() if answers}
    some = any(any(answers) for answers in asked.values())
    for endpoint, answers in asked.items():
        if not any(answers):
            told = f"none of its {len(answers)} sources has its weights for a pod"
            severity: Severity = "warning" if some and site.record else "blocking"
            report.add(
                severity, f"sources of endpoint {endpoint or 'of this plan'}", told, _REMEDIES["source"]
            )


def _names() -> Iterator[_Task]:
    yield "the cluster's DNS", "blocking", {"do": "resolve", "name": _CLUSTER_NAME}


def _registries(subjects: list[Subject]) -> Iterator[_Task]:
    hosts = {full_name(image).partition("/")[0] for one in subjects for image in one.images}
    for host in sorted(hosts - {"localhost"}):
        # Docker Hub's images are named docker.io and served by another host.
        server = "registry-1.docker.io" if host == "docker.io" else host
        name, _, port = server.partition(":")
        # Nodes pull, not pods: their way out is often the same, not always.
        yield f"registry {host}", "warning", _request("https", name, int(port or 443), path="/v2/")


def _gateways(view: View, site: Site) -> Iterator[_Task]:
    if not view.has(f"{GROUP}/v1", "Gateway"):
        return
    for namespace, name in sorted(wanted_gateways(site)):
        gateway = view.one(f"{GROUP}/v1", "Gateway", name, namespace=namespace)
        if gateway is None:
            continue
        hosts = [
            host
            for need in site.all_routes
            if (need.gateway_namespace, need.gateway) == (namespace, name)
            for host in need.hosts
        ]
        for address in addresses_of(gateway)[:1]:
            for listener in gateway["spec"].get("listeners") or []:
                scheme = _PROTOCOLS.get(listener["protocol"])
                if scheme:
                    host = listener.get("hostname") or (hosts[0] if hosts else address)
                    about = f"listener {listener['name']} of Gateway {namespace}/{name}"
                    asked = _request(scheme, address, listener["port"], name=host.replace("*.", "check."))
                    yield about, "blocking", asked


def _node_ports(view: View, subjects: list[Subject]) -> Iterator[_Task]:
    for subject in subjects:
        for need in subject.node_ports:
            service = view.one("v1", "Service", need.name, namespace=subject.namespace)
            ports = service["spec"].get("ports") or [] if service else []
            address = next(filter(None, map(_address, view.nodes())), "")
            if ports and ports[0].get("nodePort") and address:
                about = f"NodePort {ports[0]['nodePort']} of Service {subject.namespace}/{need.name}"
                yield about, "warning", _request("http", address, ports[0]["nodePort"])


def _address(node: dict[str, Any]) -> str:
    """The address of a node in its own network; "" where it is not ready or names none."""
    known = node.get("status", {}).get("addresses") or []
    return next((one["address"] for one in known if one["type"] == "InternalIP" and is_ready(node)), "")


def _request(scheme: str, host: str, port: int, *, path: str = "/", **more: str) -> dict[str, Any]:
    return {"do": "request", "scheme": scheme, "host": host, "port": port, "path": path, **more}


def _exports(site: Site) -> Iterator[_Task]:
    for one in site.record.setup.nfs if site.record else []:
        about = f"NFS export {one.server}:{one.share}"
        yield about, "blocking", {"do": "export", "host": one.server, "path": one.share}


def _servers(view: View, site: Site) -> Iterator[_Task]:
    for server in servers_of(view, site):
        order = {"do": "greet", "protocol": server.protocol, "host": server.host, "port": server.port}
        yield f"{server.what} at {server.host}:{server.port}", "blocking", order


def _sources(subjects: list[Subject]) -> Iterator[_Task]:
    for subject in subjects:
        for location in subject.source.locations if subject.source else ():
            if subject.source and _can_ask(subject.source, location):
                about = f"source {location} of endpoint {subject.endpoint}"
                yield about, "warning", {"do": "source", "order": _fetch(subject.source, location)}


def _fetch(source: SourceNeed, location: str) -> dict[str, Any]:
    scheme = urlsplit(location).scheme
    s3 = {"endpoint_url": source.endpoint_url, "region": source.region, "addressing": source.addressing}
    spoken = f"s3{location.removeprefix('oss')}" if scheme == "oss" else location
    order = {"source": spoken, "destination": "/tmp/slipway/check", "stall_seconds": 15}  # noqa: S108 - in the pod
    return {**order, "s3": s3} if scheme in ("s3", "oss") else order
