"""Checks of HAMi, which shares cards: its scheduler, its device plugin, its webhook, and what its table asks of nodes.

Names are those of its chart 2.7.1; its table of requirements is in its installation guide.
"""

from __future__ import annotations

import re

from slipway.checks.api import minor
from slipway.checks.findings import Finding, Report
from slipway.checks.parts import part
from slipway.checks.programs import Program, has_ready_endpoints, install_of, judge
from slipway.checks.rights import PROGRAMS, SLICES, WEBHOOKS
from slipway.checks.subject import Site
from slipway.checks.view import View
from slipway.cluster.objects import Object, labels_of

WEBHOOK = "vgpu.hami.io"
IGNORED = ("hami.io/webhook", "ignore")
_INSTALL = "helm upgrade -i hami hami-charts/hami -n kube-system --reuse-values"
SCHEDULER = Program(
    what="HAMi's scheduler",
    kind="Deployment",
    names=("hami-scheduler", "vgpu-scheduler"),
    labels=(("app.kubernetes.io/component", "hami-scheduler"),),
    chart="hami",
    remedy=_INSTALL,
)
DEVICE_PLUGIN = Program(
    what="HAMi's device plugin",
    kind="DaemonSet",
    names=("hami-device-plugin", "vgpu-device-plugin"),
    labels=(("app.kubernetes.io/component", "hami-device-plugin"),),
    chart="hami",
    remedy=_INSTALL,
)


def _install(site: Site) -> str:
    charts = site.record.setup.charts if site.record else []
    chart = next((one for one in charts if one.chart.endswith("hami")), None)
    return install_of(site, chart) if chart else _INSTALL


def check_hami(view: View, site: Site) -> list[Finding]:
    """HAMi's scheduler runs in the cluster's own version, its device plugin runs, its webhook is there and answers."""
    report = Report("hami")
    with part(report, view, "HAMi's scheduler and device plugin", PROGRAMS):
        report.findings += judge(view, SCHEDULER, site=site, check="hami")
        _versions(report, view)
        if any(one.kind == "nvidia" and one.offered_by == "hami" for one in site.devices):
            report.findings += judge(view, DEVICE_PLUGIN, site=site, check="hami")
    with part(report, view, "HAMi's webhook", WEBHOOKS, SLICES):
        _webhook(report, view, mend=_install(site))
    _passed_over(report, view, site)
    return report.findings


def _versions(report: Report, view: View) -> None:
    """The kube-scheduler in HAMi's pod must be the cluster's: another one does not know its objects."""
    server = view.once("version", view.cluster.version)
    for deployment in view.all_of("apps/v1", "Deployment"):
        names = (deployment["metadata"]["name"], labels_of(deployment).get("app.kubernetes.io/component"))
        if not set(SCHEDULER.names) & set(names):
            continue
        image = _scheduler_image(deployment)
        version = image.rpartition(":")[2]
        about = f"kube-scheduler of {deployment['metadata']['namespace']}/{deployment['metadata']['name']}"
        if minor(version) is None:
            report.add("not checked", about, f"its image {image or 'is not named'} names no version")
        elif minor(version) != minor(server):
            wanted = re.sub(r"[-+].*", "", server)
            report.add(
                "blocking",
                about,
                f"its version {version} is not the cluster's, {server}",
                f"{_INSTALL} --set scheduler.kubeScheduler.imageTag={wanted}",
            )
        else:
            report.add("ok", about, f"version {version}, as the cluster")


def _scheduler_image(deployment: Object) -> str:
    containers = deployment["spec"]["template"]["spec"].get("containers") or []
    images = [str(one.get("image", "")) for one in containers]
    return next((one for one in images if "kube-scheduler" in one), "")


def _webhook(report: Report, view: View, *, mend: str) -> None:
    about = f"HAMi's webhook ({WEBHOOK})"
    found = [
        webhook
        for one in view.all_of("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration")
        for webhook in one.get("webhooks") or []
        if webhook["name"] == WEBHOOK
    ]
    if not found:
        reason = "it is not registered: pods would not be given to HAMi's scheduler, and share nothing"
        report.add("blocking", about, reason, mend)
        return
    service = (found[0].get("clientConfig") or {}).get("service") or {}
    if service and not has_ready_endpoints(view, namespace=service["namespace"], service=service["name"]):
        # Its failure policy is Ignore, so pods would go in without a share.
        place = f"{service['namespace']}/{service['name']}"
        remedy = f"kubectl -n {service['namespace']} describe service {service['name']}"
        report.add("blocking", about, f"its Service {place} leads to no ready pod", remedy)
    else:
        report.add("ok", about, "it is registered")


def _passed_over(report: Report, view: View, site: Site) -> None:
    key, value = IGNORED
    for name in sorted({one.namespace for one in site.endpoints}):
        namespace = view.one("v1", "Namespace", name)
        if namespace is not None and labels_of(namespace).get(key) == value:
            remedy = f"kubectl label namespace {name} {key}-"
            report.add(
                "blocking", f"Namespace {name}", f"label {key}={value}: HAMi passes over its pods", remedy
            )
