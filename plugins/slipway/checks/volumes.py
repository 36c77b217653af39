"""The check that tries volumes out: pods that bind one, write to it and read it.

It changes the cluster for a moment, so a person asks for it (``--active``). Everything that it makes is a pod, or
belongs to one, carries the label ``slipway.io/check``, has a deadline, and is deleted whatever happens.
"""

from __future__ import annotations

from typing import Any

from slipway.checks.findings import Finding, Report, Severity
from slipway.checks.subject import Site, Storage, Subject
from slipway.checks.trial_pod import MOUNT, clear_away, pod_of, running, trial_name
from slipway.checks.view import View
from slipway.errors import ClusterError

TRIAL_BYTES = 64 << 20
TRIAL_SIZE = "1Gi"
_FILE = f"{MOUNT}/slipway-check/data"


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
