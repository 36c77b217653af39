"""Checks of data set operators and of Alibaba's container service: what brings weights that Slipway does not fetch."""

from __future__ import annotations

from slipway.checks.findings import Finding, Report
from slipway.checks.parts import part
from slipway.checks.programs import Program, judge
from slipway.checks.rights import DATASET_STATE, FLUID_STATE, PROGRAMS, WEBHOOKS
from slipway.checks.subject import Site, Subject
from slipway.checks.view import View
from slipway.cluster.objects import Object, labels_of

FLUID = "data.fluid.io/v1alpha1"
_COMPUTE_CLASSES = ("general-purpose", "performance", "gpu", "gpu-hpn")
_INSTALL_FLUID = "helm upgrade -i fluid fluid/fluid -n fluid-system --create-namespace --reuse-values"
_FLUID = (
    Program(
        what="Fluid's dataset controller",
        kind="Deployment",
        names=("dataset-controller",),
        remedy=_INSTALL_FLUID,
    ),
    Program(
        what="Fluid's JindoRuntime controller",
        kind="Deployment",
        names=("jindoruntime-controller",),
        remedy=f"{_INSTALL_FLUID} --set runtime.jindo.enabled=true",
    ),
    Program(what="Fluid's webhook", kind="Deployment", names=("fluid-webhook",), remedy=_INSTALL_FLUID),
)
_FLUID_WEBHOOK = "fluid-pod-admission-webhook"


def needs_datasets(site: Site) -> bool:
    """Whether an operator brings the weights of an endpoint."""
    return any(one.datasets for one in site.endpoints)


def check_datasets(view: View, site: Site) -> list[Finding]:
    """Fluid runs, and what an operator was asked for is ready or on its way; BaizeAI's is a controller like others."""
    report = Report("datasets")
    apis = {api.api_version for one in site.endpoints for api in one.apis if api.kind == "Dataset"}
    if FLUID in apis and view.has(FLUID, "Dataset"):
        with part(report, view, "Fluid's controllers", PROGRAMS):
            for program in _FLUID:
                report.findings += judge(view, program, site=site, check=report.check)
        with part(report, view, "Fluid's webhook", WEBHOOKS):
            _webhook(report, view)
    for subject in site.endpoints:
        for kind, namespace, name in subject.datasets:
            with part(report, view, f"{kind} {namespace}/{name}", FLUID_STATE, DATASET_STATE):
                _state(report, view, subject, kind, namespace, name)
    return report.findings


def _webhook(report: Report, view: View) -> None:
    found = view.all_of("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration")
    if _FLUID_WEBHOOK not in [one["metadata"]["name"] for one in found]:
        told = "it is not registered: pods that mount a data set are not placed beside its cache"
        report.add("warning", f"Fluid's webhook ({_FLUID_WEBHOOK})", told, _INSTALL_FLUID)


def _state(report: Report, view: View, subject: Subject, kind: str, namespace: str, name: str) -> None:
    version = next((api.api_version for api in subject.apis if api.kind == kind), "")
    about = f"{kind} {namespace}/{name}"
    if not version or not view.has(version, kind):
        return  # the check of the APIs says so
    found = view.one(version, kind, name, namespace=namespace)
    if found is None:
        report.add("info", about, "it comes when its endpoint is deployed")
        return
    status = found.get("status") or {}
    phase = str(status.get("phase") or status.get("workerPhase") or "")
    look = f"kubectl -n {namespace} describe {kind.lower()}.{version.partition('/')[0]} {name}"
    if phase.upper() in ("BOUND", "READY", "COMPLETE"):
        report.add("ok", about, phase + _cached(status))
    elif phase.upper() in ("FAILED", "NOTREADY", "FAILEDSETUP"):
        report.add("blocking", about, f"its phase is {phase}: {_message(found)}", look)
    else:
        report.add("info", about, f"its phase is {phase or 'not set yet'}")


def _cached(status: Object) -> str:
    states = status.get("cacheStates") or {}
    return f", {states['cachedPercentage']} cached" if states.get("cachedPercentage") else ""


def _message(found: Object) -> str:
    conditions = (found.get("status") or {}).get("conditions") or []
    told = [str(one.get("message") or one.get("reason") or "") for one in conditions]
    return next((one for one in reversed(told) if one), "its operator gives no reason")


def check_acs(view: View, site: Site) -> list[Finding]:
    """Pods for Alibaba's container service name a compute class and a series, and its virtual nodes are there."""
    report = Report("acs")
    resources = {one.resource for one in site.devices if one.offered_by == "acs"}
    for subject in site.endpoints:
        if not resources & set(subject.requests):
            continue
        about = f"endpoint {subject.endpoint}"
        labels = subject.pod_labels
        compute = labels.get("alibabacloud.com/compute-class")
        if compute not in _COMPUTE_CLASSES:
            known = ", ".join(_COMPUTE_CLASSES)
            told = f"label alibabacloud.com/compute-class is {compute or 'missing'}, none of {known}"
            report.add("blocking", about, told, "Set it in the accelerator's pod_labels")
        elif compute == "gpu" and not labels.get("alibabacloud.com/gpu-model-series"):
            told = "compute class gpu needs the label alibabacloud.com/gpu-model-series"
            report.add("blocking", about, told, "Set it in the accelerator's pod_labels")
        else:
            series = labels.get("alibabacloud.com/gpu-model-series", "of no series")
            report.add(
                "ok", about, f"compute class {compute}, {series}; whether the account may have it shows a pod"
            )
    virtual = [one for one in view.nodes() if labels_of(one).get("type") == "virtual-kubelet"]
    if not virtual:
        told = "no node has label type=virtual-kubelet: pods go to ACS only where its virtual nodes are"
        report.add("not checked", "virtual nodes", told, "kubectl get nodes -l type=virtual-kubelet")
    return report.findings
