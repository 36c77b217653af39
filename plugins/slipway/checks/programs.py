"""What other people's programs a cluster needs: that they are installed, run, and that their webhooks answer.

What is looked for is data (``Program``); names are those of the projects' own charts. A program that is not found
under its name may run under another, so that is "not checked", never a fault, unless the cluster's record says that
this chart installs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import yaml

from slipway.catalog.records import Chart
from slipway.checks.findings import Finding, Report, Severity
from slipway.checks.parts import part
from slipway.checks.rights import PROGRAMS
from slipway.checks.subject import Site
from slipway.checks.view import View
from slipway.cluster.objects import Object, labels_of


@dataclass(frozen=True, kw_only=True)
class Program:
    """A Deployment or DaemonSet of another project.

    Attributes:
        what: in the words of a finding.
        kind: of the object.
        names: any of them will do.
        labels: any object with all of these will do as well.
        chart: a chart of the cluster's set-up that installs it, by the end of its reference.
        remedy: how it is installed or brought up again.
    """

    what: str
    kind: str
    names: tuple[str, ...]
    labels: tuple[tuple[str, str], ...] = ()
    chart: str = ""
    remedy: str = ""


# By API group: what must run so that objects of the group are acted upon.
CONTROLLERS: dict[str, Program] = {
    "leaderworkerset.x-k8s.io": Program(
        what="LeaderWorkerSet's controller",
        kind="Deployment",
        names=("lws-controller-manager",),
        remedy="Install LeaderWorkerSet: https://lws.sigs.k8s.io/docs/installation",
    ),
    "keda.sh": Program(
        what="KEDA",
        kind="Deployment",
        names=("keda-operator",),
        remedy="Install KEDA: https://keda.sh/docs/latest/deploy",
    ),
    "monitoring.coreos.com": Program(
        what="the Prometheus operator",
        kind="Deployment",
        names=("prometheus-operator",),
        labels=(("app.kubernetes.io/name", "prometheus-operator"),),
        remedy="Install the Prometheus operator",
    ),
    "metallb.io": Program(
        what="MetalLB's controller",
        kind="Deployment",
        names=("controller", "metallb-controller"),
        labels=(("app.kubernetes.io/name", "metallb"), ("app.kubernetes.io/component", "controller")),
        chart="metallb",
        remedy="Install MetalLB: https://metallb.io/installation",
    ),
    "dataset.baizeai.io": Program(
        what="the BaizeAI Dataset operator",
        kind="Deployment",
        names=("dataset-controller-manager", "baizeai-dataset", "dataset"),
        labels=(("app.kubernetes.io/name", "dataset"),),
        remedy="Install the BaizeAI Dataset operator",
    ),
}


def render_of(site: Site) -> str:
    """The command that makes what the cluster's record sets up."""
    return f"slipway render --cluster {site.name} | kubectl apply -f -"


def install_of(site: Site, chart: Chart) -> str:
    """The command that installs or corrects a chart of the cluster's set-up, with the values of its record."""
    place = f" --repo {chart.repository}" if chart.repository else ""
    reference = chart.chart.rpartition("/")[2] if chart.repository else chart.chart
    return (
        f"slipway render --cluster {site.name} --values {chart.name} | helm upgrade -i {chart.name} {reference}{place}"
        f" --version {chart.version} -n {chart.namespace} -f -"
    )


def parsed_settings(config_map: Object) -> Iterator[dict[str, Any]]:
    """Every mapping, however deep, of the YAML texts in a ConfigMap."""
    for text in (config_map.get("data") or {}).values():
        try:
            yield from mappings(yaml.safe_load(text))
        except yaml.YAMLError:
            continue


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a value, the value itself first."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from mappings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from mappings(inner)


def check_apis(view: View, site: Site) -> list[Finding]:
    """The cluster has every kind of object that its endpoints consist of, and what acts on it runs."""
    report = Report("apis")
    needed: dict[tuple[str, str], list[str]] = {}
    for subject in site.endpoints:
        for api in subject.apis:
            needed.setdefault((api.api_version, api.kind), []).append(subject.endpoint)
    groups = set()
    for (version, kind), endpoints in sorted(needed.items()):
        if view.has(version, kind):
            groups.add(version.partition("/")[0])
            continue
        program = CONTROLLERS.get(version.partition("/")[0])
        report.add(
            "blocking",
            f"{kind} in {version}",
            f"the cluster has no such kind; {_few(endpoints)} need it",
            program.remedy
            if program
            else f"Install the API: kubectl api-resources --api-group={version.partition('/')[0]}",
        )
    if not report.findings and needed:
        report.add("ok", f"{len(needed)} kinds of objects", "the cluster has them all")
    for group in sorted(groups & set(CONTROLLERS)):
        if site.record is not None:
            with part(report, view, CONTROLLERS[group].what, PROGRAMS):
                report.findings += judge(view, CONTROLLERS[group], site=site, check=report.check)
    return report.findings


def _few(names: list[str]) -> str:
    shown = ", ".join(sorted(name for name in names if name)[:3]) or "this plan"
    return f"endpoint {shown}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def judge(view: View, program: Program, *, site: Site, check: str) -> list[Finding]:
    """Say whether a program is there and all of it runs."""
    report = Report(check)
    found = [one for one in view.all_of("apps/v1", program.kind) if _is(one, program)]
    if not found:
        charts = site.record.setup.charts if site.record else []
        named = next((one for one in charts if program.chart and one.chart.endswith(program.chart)), None)
        severity: Severity = "blocking" if named else "not checked"
        told = f"no {program.kind} named {' or '.join(program.names)}"
        if named:
            told += f", though chart {named.name} of the cluster's record brings it"
            report.add(severity, program.what, told, install_of(site, named))
        else:
            report.add(severity, program.what, f"{told}: it may run in another way", program.remedy)
    for one in found:
        metadata = one["metadata"]
        about = f"{program.what} ({program.kind} {metadata['namespace']}/{metadata['name']})"
        ready, wanted = ready_of(one)
        look = f"kubectl -n {metadata['namespace']} describe {program.kind.lower()} {metadata['name']}"
        if wanted == 0 and program.kind == "DaemonSet":
            report.add(
                "warning", about, "it is meant for no node: no node has the labels that it selects", look
            )
        elif wanted == 0:
            remedy = f"kubectl -n {metadata['namespace']} scale deployment {metadata['name']} --replicas=1"
            report.add("blocking", about, "it is scaled to 0", remedy)
        elif ready == 0:
            report.add("blocking", about, f"{ready} of {wanted} pods are ready", look)
        elif ready < wanted:
            report.add("warning", about, f"{ready} of {wanted} pods are ready", look)
        else:
            report.add("ok", about, f"{ready} of {wanted} pods are ready")
    return report.findings


def _is(obj: Object, program: Program) -> bool:
    labels = labels_of(obj)
    by_label = bool(program.labels) and all(labels.get(key) == value for key, value in program.labels)
    return obj["metadata"]["name"] in program.names or by_label


def ready_of(obj: Object) -> tuple[int, int]:
    """Return how many pods of a Deployment or DaemonSet are ready, and how many there should be."""
    status = obj.get("status") or {}
    if obj["kind"] == "DaemonSet":
        return status.get("numberReady") or 0, status.get("desiredNumberScheduled") or 0
    replicas = obj["spec"].get("replicas", 1)
    return status.get("readyReplicas") or 0, 1 if replicas is None else replicas


def check_webhooks(view: View, site: Site) -> list[Finding]:
    """Every admission webhook that sees our objects has somebody to answer it."""
    report, looked = Report("webhooks"), 0
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for configuration in view.all_of("admissionregistration.k8s.io/v1", kind):
            concerned = [
                webhook
                for webhook in configuration.get("webhooks") or []
                if any(_concerns(rule, site) for rule in webhook.get("rules") or [])
            ]
            looked += len(concerned)
            about = f"{kind} {configuration['metadata']['name']}"
            for webhook in concerned:
                _answers(report, view, webhook, about=about)
    if not report.findings:
        told = "each has a Service that leads to a ready pod" if looked else "none sees our objects"
        report.add("ok", f"{looked} webhooks", told)
    return list(dict.fromkeys(report.findings))


def _concerns(rule: dict[str, Any], site: Site) -> bool:
    """Whether a webhook sees pods or one of the kinds that our endpoints consist of."""
    if "CREATE" not in rule.get("operations", ()) and "*" not in rule.get("operations", ()):
        return False
    groups = {api.api_version.rpartition("/")[0] for one in site.endpoints for api in one.apis} - {"", "apps"}
    wanted, resources = set(rule.get("apiGroups") or ()), set(rule.get("resources") or ())
    core = bool(wanted & {"", "*"}) and bool(
        resources & {"pods", "*", "*/*", "persistentvolumeclaims", "services"}
    )
    return core or bool(groups & wanted)


def _answers(report: Report, view: View, webhook: dict[str, Any], *, about: str) -> None:
    service = (webhook.get("clientConfig") or {}).get("service")
    fails = webhook.get("failurePolicy", "Fail") == "Fail"
    if service is None:
        address = urlsplit((webhook.get("clientConfig") or {}).get("url", "")).netloc
        told = f"it is asked at {address}, outside the cluster's Services; only a pod that is made shows it (--active)"
        report.add("not checked", about, told)
        return
    where = f"Service {service['namespace']}/{service['name']}"
    if has_ready_endpoints(view, namespace=service["namespace"], service=service["name"]):
        return
    consequence = (
        "every such object is refused"
        if fails
        else "it is passed over in silence, and objects go in unchanged"
    )
    remedy = f"Bring its pods up: kubectl -n {service['namespace']} describe service {service['name']}"
    report.add(
        "blocking" if fails else "warning", about, f"{where} leads to no ready pod: {consequence}", remedy
    )


def has_ready_endpoints(view: View, *, namespace: str, service: str) -> bool:
    """Return whether a Service leads to a pod that is ready."""
    return any(
        (endpoint.get("conditions") or {}).get("ready", True) is not False
        for part in _slices(view, namespace)
        if labels_of(part).get("kubernetes.io/service-name") == service
        for endpoint in part.get("endpoints") or []
    )


def _slices(view: View, namespace: str) -> Iterator[Object]:
    yield from view.all_of("discovery.k8s.io/v1", "EndpointSlice", namespace=namespace)
