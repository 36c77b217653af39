"""Checks of the storage classes that a cluster's endpoints use."""

from __future__ import annotations

from collections.abc import Iterable

from slipway.checks.findings import Finding, Report
from slipway.checks.parts import part
from slipway.checks.programs import install_of, render_of
from slipway.checks.rights import DRIVERS
from slipway.checks.subject import Site, Subject
from slipway.checks.view import View
from slipway.cluster.objects import Object

# Which of these a provisioner that is well known can make; of others nobody here knows.
_NODE_LOCAL = ("rancher.io/local-path", "kubernetes.io/no-provisioner", "topolvm.io", "openebs.io/local")


_CHARTS = {"nfs.csi.k8s.io": "csi-driver-nfs"}


def check_classes(view: View, site: Site) -> list[Finding]:
    """Each storage class that an endpoint or the cluster's record names is there, has its driver, and fits."""
    report = Report("classes")
    classes = {one["metadata"]["name"]: one for one in view.all_of("storage.k8s.io/v1", "StorageClass")}
    for name, users in sorted(_used(site).items()):
        about = f"StorageClass {name}"
        found = classes.get(name)
        if found is None:
            told = f"there is no such storage class; there are: {', '.join(sorted(classes)) or 'none'}"
            own = site.record and name in [one.storage_class for one in site.record.setup.nfs]
            remedy = (
                render_of(site)
                if own
                else "Make it, or name one of them in the cluster's record: kubectl get storageclass"
            )
            report.add("blocking", about, told, remedy)
            continue
        with part(report, view, about, DRIVERS):
            _driver(report, view, site, found, about)
        _modes(report, found, about, users, default=site.record.storage.access_mode if site.record else None)
        if not report.has_faults(about):
            grows = "can grow" if found.get("allowVolumeExpansion") else "cannot grow: size claims with room"
            report.add("ok", about, f"provisioner {found.get('provisioner', '')}; claims {grows}")
    return report.findings


def _used(site: Site) -> dict[str, list[Subject]]:
    used: dict[str, list[Subject]] = {}
    if site.record:
        used[site.record.storage.storage_class] = []
    for subject in site.endpoints:
        if subject.storage:
            used.setdefault(subject.storage.storage_class, []).append(subject)
    return used


def _driver(report: Report, view: View, site: Site, found: Object, about: str) -> None:
    """A CSI driver registers itself; other provisioners leave no trace but their volumes."""
    provisioner = found.get("provisioner", "")
    if provisioner == "kubernetes.io/no-provisioner":
        told = "nobody makes its volumes: a person does, before a claim can be bound"
        report.add("info", about, told)
        return
    drivers = {one["metadata"]["name"] for one in view.all_of("storage.k8s.io/v1", "CSIDriver")}
    if provisioner in drivers:
        return
    if provisioner.endswith((".csi.k8s.io", ".csi.alibabacloud.com")):
        charts = site.record.setup.charts if site.record else []
        chart = next((one for one in charts if one.chart.endswith(_CHARTS.get(provisioner, "/"))), None)
        remedy = (
            install_of(site, chart) if chart else f"Install the driver: kubectl get csidriver {provisioner}"
        )
        report.add("blocking", about, f"its CSI driver {provisioner} is not installed", remedy)
        return
    told = f"whether its provisioner {provisioner} runs shows when a claim is bound (--active)"
    report.add("not checked", about, told)


def _modes(
    report: Report, found: Object, about: str, users: Iterable[Subject], *, default: str | None
) -> None:
    provisioner = found.get("provisioner", "")
    local = any(one in provisioner for one in _NODE_LOCAL)
    modes = {subject.storage.access_mode for subject in users if subject.storage} | (
        {default} if default else set()
    )
    if local and "ReadWriteMany" in modes:
        # local-path can be set up over a file system that all nodes share, which its class does not tell.
        told = f"ReadWriteMany is wanted, and {provisioner} usually keeps each volume on one node"
        remedy = "Try it (--active), or name a class over a network file system in the cluster's storage"
        report.add("warning", about, told, remedy)
    for subject in users:
        several = subject.pods > 1 and subject.storage and subject.storage.access_mode == "ReadWriteOnce"
        if several:
            told = f"{subject.pods} pods of endpoint {subject.endpoint} share a ReadWriteOnce volume: all on one node"
            report.add("warning", about, told, "Use a class with ReadWriteMany to spread them")
