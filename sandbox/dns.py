"""CoreDNS on the node itself: pods reach it through the Service kube-dns (sandbox/manifests/native/20-dns.yaml)."""

from __future__ import annotations

import time
from pathlib import Path

from sandbox import gobuild, settings, supervisor
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import Settings
from sandbox.supervisor import Program
from sandbox.templating import render, write

READY_SECONDS = 60
_READY_URL = f"http://{settings.NODE_IP}:8181/ready"
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
    return Program(name="coredns", command=[binary, "-conf", corefile], files=[corefile], priority=50)


def start(config: Settings) -> None:
    """Start it and wait until it answers, so that the first pod finds its names.

    Raises:
        SandboxError: it does not get ready.
    """
    import httpx

    supervisor.start_programs(config, ["coredns"])
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            if httpx.get(_READY_URL, timeout=2, trust_env=False).status_code == httpx.codes.OK:
                say("coredns ready")
                return
        except httpx.HTTPError:
            pass  # not yet
        supervisor.require_running(config, "coredns")
        if time.monotonic() > deadline:
            raise SandboxError(f"coredns is not ready after {READY_SECONDS} s; see {config.logs}/coredns.log")
        time.sleep(0.1)
