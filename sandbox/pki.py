"""Certificates and kubeconfigs, made by kubeadm: the way every kubeadm cluster has them."""

from __future__ import annotations

from sandbox import commands, gobuild, settings
from sandbox.settings import Settings
from sandbox.templating import render, write

# Clients that kubeadm's own kubeconfig phase does not know; their rights are RBAC objects in sandbox/manifests.
CLIENTS = {
    "kube-proxy": "system:kube-proxy",
    "coredns": "system:coredns",
    "local-path-provisioner": "system:local-path-provisioner",
    "leaderworkerset": "system:leaderworkerset",
    "slipway": "slipway",
}


def ensure(config: Settings) -> None:
    """Make what is missing; what exists is kept, so a cluster keeps its identity over down and up."""
    kubeadm = gobuild.program(config, gobuild.KUBERNETES, "kubeadm")
    answers = config.kubeconfigs / "kubeadm.yaml"
    text = render(
        "templates/kubeadm.yaml.j2",
        home=config.home,
        pki=config.pki,
        node_ip=settings.NODE_IP,
        node_name=settings.NODE_NAME,
        api_port=settings.API_PORT,
        pod_cidr=settings.POD_CIDR,
        service_cidr=settings.SERVICE_CIDR,
        version=gobuild.KUBERNETES_VERSION,
    )
    if not write(answers, text) and all((config.kubeconfigs / f"{name}.conf").exists() for name in CLIENTS):
        return
    commands.run([kubeadm, "init", "phase", "certs", "all", "--config", answers])
    commands.run(
        [
            kubeadm,
            "init",
            "phase",
            "kubeconfig",
            "all",
            "--config",
            answers,
            "--kubeconfig-dir",
            config.kubeconfigs,
        ]
    )
    for name, user in CLIENTS.items():
        target = config.kubeconfigs / f"{name}.conf"
        if not target.exists():
            made = commands.run([kubeadm, "kubeconfig", "user", "--client-name", user, "--config", answers])
            write(target, made, mode=0o600)
