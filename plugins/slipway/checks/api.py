"""Checks of the API itself: that it answers, how new it and its kubelets are, its certificate, its clock."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from urllib.parse import urlsplit

from slipway.checks.certificates import chain_of, days_left, told_days
from slipway.checks.findings import Finding, Report, Severity
from slipway.checks.nodes import is_ready
from slipway.checks.parts import part
from slipway.checks.rights import NODE_LEASES
from slipway.checks.subject import Site
from slipway.checks.view import View
from slipway.cluster.faults import ApiError, UnreachableError
from slipway.cluster.objects import Object
from slipway.cluster.transport import Request
from slipway.cluster.verdict import moment

OLDEST = (1, 27)
"""From 1.27 on the server checks fields strictly, which is what finds a mistyped field before it does harm."""

HAMI_OLDEST = (1, 18)
OLDER_KUBELETS = 3
"""How many minor versions a kubelet may be behind its API server (Kubernetes' version skew policy, since 1.28)."""

CLOCK_WARNING_SECONDS = 30.0
CLOCK_BLOCKING_SECONDS = 300.0
FEW_DAYS = 14
_CERTIFICATE_SECONDS = 5.0


def check_api(view: View, site: Site) -> list[Finding]:
    """The API answers, over a verified connection, and is new enough."""
    report, about = Report("api"), view.cluster.server
    try:
        version = view.cluster.version()
    except (ApiError, UnreachableError) as error:
        report.add("blocking", about, error.why, error.remedy)
        return report.findings
    found = minor(version)
    if found is None:
        report.add("not checked", about, f"its version {version!r} says nothing")
    elif found < OLDEST:
        why = f"Kubernetes {version} has no strict validation on the server"
        if site.offers("hami"):
            why += "; that HAMi's own table asks for Kubernetes >= 1.18 only does not change it"
        report.add("blocking", about, why, f"Upgrade the cluster to {OLDEST[0]}.{OLDEST[1]} or newer")
        if site.offers("hami") and found < HAMI_OLDEST:
            why = f"Kubernetes {version} is also older than HAMi's table allows: Kubernetes >= 1.18"
            report.add("warning", about, why, "Upgrade the cluster")
    else:
        report.add("ok", about, f"Kubernetes {version}")
    return report.findings


def minor(version: str) -> tuple[int, int] | None:
    """Return major and minor version of ``v1.34.4`` or ``v1.27.3-eks-1``; None when the text says none."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else None


def check_skew(view: View, site: Site) -> list[Finding]:
    """No kubelet is newer than the API server, none more than three minor versions older."""
    report, server = Report("skew"), view.once("version", view.cluster.version)
    ours = minor(server)
    if ours is None:
        report.add("not checked", view.cluster.server, f"its version {server!r} says nothing")
        return report.findings
    for node in view.nodes():
        version = node_info(node, "kubeletVersion")
        theirs = minor(version)
        about = f"Node {node['metadata']['name']}"
        if theirs is None:
            # Virtual nodes of clouds have no kubelet of their own and say so, or nothing.
            report.add("not checked", about, f"its kubelet's version {version!r} says nothing")
        elif theirs > ours:
            reason = f"kubelet {version} is newer than the API server, {server}"
            report.add("blocking", about, reason, "Upgrade the control plane first")
        elif ours[1] - theirs[1] > OLDER_KUBELETS:
            reason = f"kubelet {version} is more than {OLDER_KUBELETS} minor versions older than {server}"
            report.add("blocking", about, reason, "Upgrade the node's kubelet")
    if not report.findings:
        report.add("ok", f"{len(view.nodes())} kubelets", f"within what {server} supports")
    return report.findings


def node_info(node: Object, key: str) -> str:
    """Return an entry of a node's ``status.nodeInfo``, or ""."""
    return str(node.get("status", {}).get("nodeInfo", {}).get(key, ""))


def check_clock(view: View, site: Site) -> list[Finding]:
    """The clocks of API server, nodes and this machine agree: leases, certificates and tokens count by them."""
    request = Request(
        method="GET", path="/version", what="read the server's clock", about=view.cluster.server
    )
    before = datetime.now(UTC)
    answer = view.cluster.send(request)
    middle = before + (datetime.now(UTC) - before) / 2
    # The header has whole seconds: half of one is the best guess at the rest.
    off = abs((answer.date - middle).total_seconds() + 0.5)
    report, about = Report("clock"), view.cluster.server
    with part(report, view, "clocks of the nodes", NODE_LEASES):
        _node_clocks(report, view, answer.date)
    remedy = "Let NTP set both clocks: timedatectl set-ntp true"
    if off > CLOCK_BLOCKING_SECONDS:
        report.add("blocking", about, f"its clock and this machine's are {off:.0f} s apart", remedy)
    elif off > CLOCK_WARNING_SECONDS:
        report.add("warning", about, f"its clock and this machine's are {off:.0f} s apart", remedy)
    else:
        report.add("ok", about, f"clocks agree within {max(1, round(off))} s")
    return report.findings


def _node_clocks(report: Report, view: View, now: datetime) -> None:
    """A kubelet renews its lease every ten seconds, by its node's clock; what is ahead or far behind tells its clock.

    A node that is not ready may have stopped renewing, so only those that are ready are judged.
    """
    ready, good = {node["metadata"]["name"] for node in view.nodes() if is_ready(node)}, 0
    leases = view.all_of("coordination.k8s.io/v1", "Lease", namespace="kube-node-lease")
    for lease in leases:
        name, spec = lease["metadata"]["name"], lease.get("spec") or {}
        renewed = moment(spec.get("renewTime"))
        if renewed is None or name not in ready:
            continue
        ahead = (renewed - now).total_seconds()
        behind = -ahead - float(spec.get("leaseDurationSeconds") or 40)
        if max(ahead, behind) > CLOCK_WARNING_SECONDS:
            told = (
                f"its clock is {ahead:.0f} s ahead"
                if ahead > 0
                else f"its clock is about {-ahead:.0f} s behind"
            )
            remedy = "On the node: timedatectl set-ntp true"
            severity: Severity = "blocking" if max(ahead, behind) > CLOCK_BLOCKING_SECONDS else "warning"
            report.add(severity, f"Node {name}", f"{told} of the API server's", remedy)
        else:
            good += 1
    if good:
        report.add("ok", f"clocks of {good} nodes", "their leases are renewed in time")


def check_certificate(view: View, site: Site) -> list[Finding]:
    """The API's certificate has days left. That it is the right one every request makes sure of."""
    report, parts = Report("certificate"), urlsplit(view.cluster.server)
    about = f"certificate of {parts.netloc}"
    if parts.scheme != "https":
        report.add("not checked", about, "the address is plain HTTP on this machine, a proxy's")
        return report.findings
    place = (parts.hostname or "", parts.port or 443)
    try:
        text = ssl.get_server_certificate(place, timeout=_CERTIFICATE_SECONDS)
    except OSError as error:
        report.add("not checked", about, f"it cannot be read without the connection's own settings: {error}")
        return report.findings
    left = days_left(chain_of(text.encode())[0])
    remedy = "Renew it, with kubeadm: kubeadm certs renew apiserver"
    if left < 0:
        report.add("blocking", about, told_days(left), remedy)
    elif left < FEW_DAYS:
        report.add("warning", about, told_days(left), remedy)
    else:
        report.add("ok", about, told_days(left))
    return report.findings
