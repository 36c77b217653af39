"""CoreDNS on the node itself: pods reach it through the Service kube-dns (sandbox/manifests/native/20-dns.yaml)."""

from __future__ import annotations

from pathlib import Path

from sandbox import gobuild, settings
from sandbox.settings import Settings
from sandbox.supervisor import Program
from sandbox.templating import render, write

# systemd-resolved's stub refuses CoreDNS's queries in a loop; behind it stands the real list.
_RESOLVED = Path("/run/systemd/resolve/resolv.conf")


def program(config: Settings) -> Program:
    """CoreDNS, which answers for cluster.local and asks the machine's own servers for the rest."""
    corefile = config.kubeconfigs / "Corefile"
    text = render(
        "templates/Corefile.j2",
        port=settings.DNS_PORT,
        node_ip=settings.NODE_IP,
        kubeconfig=config.kubeconfigs / "coredns.conf",
        resolv_conf=_RESOLVED if _RESOLVED.exists() else "/etc/resolv.conf",
    )
    write(corefile, text)
    binary = gobuild.program(config, gobuild.COREDNS, "coredns")
    return Program(name="coredns", command=[binary, "-conf", corefile], priority=50)
