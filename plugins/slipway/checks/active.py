"""Checks that try it out: pods that bind a volume and write to it, resolve names, reach registry, Gateway and sources.

They change the cluster for a moment, so a person asks for them (``--active``). Everything that they make is a pod, or
belongs to one, carries the label ``slipway.io/check``, has a deadline, and is deleted whatever happens.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from slipway.checks.findings import Finding, Report, Severity
from slipway.checks.gateway import GROUP, addresses_of, wanted_gateways
from slipway.checks.nodes import full_name
from slipway.checks.subject import Site, SourceNeed, Storage, Subject
from slipway.checks.trial_pod import MOUNT, clear_away, pod_of, running, trial_name
from slipway.checks.view import View
from slipway.errors import ClusterError, SlipwayError

TRIAL_BYTES = 64 << 20
TRIAL_SIZE = "1Gi"
_FILE = f"{MOUNT}/slipway-check/data"
_CLUSTER_NAME = "kubernetes.default.svc"
_Task = tuple[str, Severity, dict[str, Any]]
_SOURCES = ("s3", "modelscope", "https", "http", "nfs")


def check_volumes(view: View, site: Site) -> list[Finding]:
    """A volume of each class and access mode that endpoints use can be bound, written, and read from a second pod."""
    report = Report("volume")
    tried: set[tuple[str, str, str]] = set()
    for subject in site.endpoints:
        if not subject.tools_image or subject.storage is None:
            continue
        storage = subject.storage
        what = (subject.namespace, storage.storage_class, storage.access_mode)
        if what not in tried:
            tried.add(what)
            _try_volume(report, view, subject, storage)
    if not tried:
        report.add("not checked", "volumes", "no endpoint of this cluster has a volume that Slipway makes")
    return report.findings


def _try_volume(report: Report, view: View, subject: Subject, storage: Storage) -> None:
    about = f"{storage.access_mode} volume of class {storage.storage_class} in {subject.namespace}"
    clear_away(view.cluster, namespace=subject.namespace)
    volume = storage.model_copy(update={"size": TRIAL_SIZE})
    write = {"do": "write", "path": _FILE, "bytes": TRIAL_BYTES}
    first = pod_of(subject, [write], name=trial_name("write"), new_volume=volume)
    try:
        with running(view.cluster, first) as (pod, [written]):
            if not written["ok"]:
                report.add(
                    "blocking", about, f"it cannot be written: {written['told']}", _look(subject, storage)
                )
                return
            rates = f"write {_rate(written['write'])}, read {_rate(written['read'])}"
            report.add("ok", about, f"bound, {written['told']}: {rates}")
            if storage.access_mode.endswith("Many"):
                _try_second(report, view, subject, about, written=written, pod=pod)
    except ClusterError as error:
        # An image that cannot be had says nothing of the volume.
        severity: Severity = "not checked" if "Image" in error.what else "blocking"
        report.add(severity, about, f"{error.what}: {error.why}", error.remedy)


def _try_second(
    report: Report, view: View, subject: Subject, about: str, *, written: dict[str, Any], pod: dict[str, Any]
) -> None:
    node, claim = pod["spec"].get("nodeName", ""), f"{pod['metadata']['name']}-volume"
    read = {"do": "read", "path": _FILE, "sha256": written["sha256"]}
    second = pod_of(subject, [read], name=trial_name("read"), claim=claim, avoid_node=node)
    what = f"{about}, from a second pod"
    with running(view.cluster, second) as (other, [found]):
        where = other["spec"].get("nodeName", "")
        if not found["ok"]:
            report.add("blocking", what, f"on node {where}: {found['told']}", "Is the class really shared?")
        elif where == node:
            told = f"read on the same node, {node}: whether another node reads it too is not known"
            report.add("not checked" if len(view.nodes()) > 1 else "ok", what, told)
        else:
            report.add("ok", what, f"read on {where}, written on {node}: {_rate(found['read'])}")


def _rate(rate: float) -> str:
    return f"{rate / 1e6:.0f} MB/s"


def _look(subject: Subject, storage: Storage) -> str:
    return f"kubectl describe storageclass {storage.storage_class}; kubectl -n {subject.namespace} get events"


def check_reach(view: View, site: Site) -> list[Finding]:
    """From a pod: names resolve, registries, Gateways and NFS servers answer, and sources have what they should."""
    report = Report("reach")
    done: set[tuple[str, str | None]] = set()
    for subject in site.endpoints:
        if not subject.tools_image:
            continue
        secret = subject.source.secret if subject.source else None
        if (subject.namespace, secret) in done:
            continue
        done.add((subject.namespace, secret))
        alike = [
            one
            for one in site.endpoints
            if one.namespace == subject.namespace and (one.source.secret if one.source else None) == secret
        ]
        _try_reach(report, view, site, alike, secret=secret)
    if not done:
        report.add("not checked", "pods", "no endpoint of this cluster says where a pod could look around")
    return list(dict.fromkeys(report.findings))


def _try_reach(
    report: Report, view: View, site: Site, subjects: list[Subject], *, secret: str | None
) -> None:
    first = subjects[0]
    clear_away(view.cluster, namespace=first.namespace)
    tasks = [
        *_names(),
        *_registries(view, subjects),
        *_gateways(view, site),
        *_exports(site),
        *_sources(subjects),
    ]
    tasks = list({str(order): (about, severity, order) for about, severity, order in tasks}.values())
    pod = pod_of(first, [order for _, _, order in tasks], name=trial_name("reach"), secret=secret)
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
    asked = {
        subject.endpoint: [reached[str(task[2])] for task in _sources([subject])] for subject in subjects
    }
    asked = {endpoint: answers for endpoint, answers in asked.items() if answers}
    some = any(any(answers) for answers in asked.values())
    for endpoint, answers in asked.items():
        if not any(answers):
            told = f"none of its {len(answers)} sources has its weights for a pod"
            severity: Severity = "warning" if some and site.record else "blocking"
            report.add(
                severity, f"sources of endpoint {endpoint or 'of this plan'}", told, _REMEDIES["source"]
            )


_REMEDIES = {
    "resolve": "Is the cluster's DNS running? kubectl -n kube-system get pods,endpoints -l k8s-app=kube-dns",
    "request": "Is there a way from the cluster's pods to that address (proxy, firewall, NetworkPolicy)?",
    "export": "On the NFS server: exportfs -v; and is port 2049 open to the cluster's nodes?",
    "source": "Correct the source, or the keys of the Secret that goes with it",
}


def _names() -> Iterator[_Task]:
    yield "the cluster's DNS", "blocking", {"do": "resolve", "name": _CLUSTER_NAME}


def _registries(view: View, subjects: list[Subject]) -> Iterator[_Task]:
    hosts = {full_name(image).partition("/")[0] for one in subjects for image in one.images}
    for host in sorted(hosts - {"localhost"}):
        # Docker Hub's images are named docker.io and served by another host.
        server = "registry-1.docker.io" if host == "docker.io" else host
        name, _, port = server.partition(":")
        order = {"do": "request", "scheme": "https", "host": name, "port": port or 443, "path": "/v2/"}
        # Nodes pull, not pods: their way out is often the same, not always.
        yield f"registry {host}", "warning", order


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
                scheme = {"HTTP": "http", "HTTPS": "https"}.get(listener["protocol"])
                if scheme:
                    host = listener.get("hostname") or (hosts[0] if hosts else address)
                    order = {
                        "do": "request",
                        "scheme": scheme,
                        "host": address,
                        "port": listener["port"],
                        "path": "/",
                    }
                    about = f"listener {listener['name']} of Gateway {namespace}/{name}"
                    yield about, "blocking", {**order, "name": host.replace("*.", "check.")}


def _exports(site: Site) -> Iterator[_Task]:
    for one in site.record.setup.nfs if site.record else []:
        about = f"NFS export {one.server}:{one.share}"
        yield about, "blocking", {"do": "export", "host": one.server, "path": one.share}


def _sources(subjects: list[Subject]) -> Iterator[_Task]:
    for subject in subjects:
        for location in subject.source.locations if subject.source else ():
            if subject.source and urlsplit(location).scheme in _SOURCES:
                about = f"source {location} of endpoint {subject.endpoint}"
                yield about, "warning", {"do": "source", "order": _fetch(subject.source, location)}


def _fetch(source: SourceNeed, location: str) -> dict[str, Any]:
    s3 = {"endpoint_url": source.endpoint_url, "region": source.region, "addressing": source.addressing}
    order = {"source": location, "destination": "/tmp/slipway/check", "stall_seconds": 15}  # noqa: S108 - in the pod
    return {**order, "s3": s3} if urlsplit(location).scheme == "s3" else order
