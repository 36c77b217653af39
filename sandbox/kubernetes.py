"""The control plane and the node: etcd, API server, controllers, scheduler, kubelet, kube-proxy.

All of them listen on the node's own address, so no port of the machine is taken, and none answers without a
certificate that the cluster's authority signed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from sandbox import containerd, gobuild, machine, settings, supervisor
from sandbox.cluster import Cluster
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import NODE_IP, NODE_NAME, Settings
from sandbox.supervisor import Program
from sandbox.templating import render, write

ETCD_URL = f"https://{NODE_IP}:2379"
# With their own limits of 20 and 50 requests a second, a thousand simulated pods take minutes to come up.
_MANY_AT_ONCE = ("--kube-api-qps=300", "--kube-api-burst=600")


def programs(config: Settings) -> list[Program]:
    """All parts, in the order in which they start; each waits for the ones that it needs by itself."""
    _write_configuration(config)
    return [
        Program(name="etcd", command=_etcd(config), priority=10),
        # Left alone it waits for clients that have open connections; what it knows is in etcd already.
        Program(name="kube-apiserver", command=_apiserver(config), priority=20, stop_seconds=3),
        Program(name="kube-controller-manager", command=_controller_manager(config), priority=30),
        Program(name="kube-scheduler", command=_scheduler(config), priority=30),
        Program(
            name="kubelet", command=_kubelet(config), files=[config.kubeconfigs / "kubelet.yaml"], priority=40
        ),
        Program(
            name="kube-proxy",
            command=_kube_proxy(config),
            files=[config.kubeconfigs / "kube-proxy.yaml"],
            priority=30,
        ),
    ]


def boot(config: Settings, cluster: Cluster) -> None:
    """Start containerd and all parts at once and wait until the node takes pods."""
    machine.set_kernel(config)
    machine.make_cgroups()
    names = ["containerd", *(program.name for program in programs(config))]
    supervisor.start_programs(config, names)
    _wait(
        config,
        "kube-apiserver",
        lambda: cluster.kubectl("get", "--raw", "/readyz", check=False).strip() == "ok",
    )
    _bind_admins(config, cluster)
    _wait(config, "kubelet", lambda: _node_is_ready(cluster))
    _wait(
        config,
        "kubelet",
        lambda: _approve_serving_certificates(cluster),
        what="kubelet's serving certificate",
    )


def _etcd(config: Settings) -> list[str | Path]:
    pki = config.pki / "etcd"
    return [
        _binary(config, "etcd"),
        "--name=sandbox",
        f"--data-dir={config.home}/etcd",
        f"--listen-client-urls={ETCD_URL}",
        f"--advertise-client-urls={ETCD_URL}",
        f"--listen-peer-urls=https://{NODE_IP}:2380",
        f"--initial-advertise-peer-urls=https://{NODE_IP}:2380",
        f"--initial-cluster=sandbox=https://{NODE_IP}:2380",
        f"--cert-file={pki}/server.crt",
        f"--key-file={pki}/server.key",
        f"--trusted-ca-file={pki}/ca.crt",
        "--client-cert-auth=true",
        f"--peer-cert-file={pki}/peer.crt",
        f"--peer-key-file={pki}/peer.key",
        f"--peer-trusted-ca-file={pki}/ca.crt",
        "--peer-client-cert-auth=true",
        "--auto-compaction-retention=1h",
        "--log-level=warn",
    ]


def _apiserver(config: Settings) -> list[str | Path]:
    pki = config.pki
    return [
        _binary(config, "kube-apiserver"),
        f"--bind-address={NODE_IP}",
        f"--advertise-address={NODE_IP}",
        f"--secure-port={settings.API_PORT}",
        f"--etcd-servers={ETCD_URL}",
        f"--etcd-cafile={pki}/etcd/ca.crt",
        f"--etcd-certfile={pki}/apiserver-etcd-client.crt",
        f"--etcd-keyfile={pki}/apiserver-etcd-client.key",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        "--anonymous-auth=false",
        f"--client-ca-file={pki}/ca.crt",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--enable-bootstrap-token-auth=false",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-cluster-ip-range={settings.SERVICE_CIDR}",
        "--profiling=false",
    ]


def _controller_manager(config: Settings) -> list[str | Path]:
    pki = config.pki
    kubeconfig = config.kubeconfigs / "controller-manager.conf"
    return [
        _binary(config, "kube-controller-manager"),
        f"--bind-address={NODE_IP}",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--client-ca-file={pki}/ca.crt",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        f"--service-account-private-key-file={pki}/sa.key",
        "--use-service-account-credentials=true",
        "--allocate-node-cidrs=false",
        # One of each: after a stop nobody has to wait for a lease to run out.
        "--leader-elect=false",
        "--profiling=false",
        *_MANY_AT_ONCE,
    ]


def _scheduler(config: Settings) -> list[str | Path]:
    kubeconfig = config.kubeconfigs / "scheduler.conf"
    return [
        _binary(config, "kube-scheduler"),
        f"--bind-address={NODE_IP}",
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        f"--client-ca-file={config.pki}/ca.crt",
        f"--requestheader-client-ca-file={config.pki}/front-proxy-ca.crt",
        "--leader-elect=false",
        "--profiling=false",
        *_MANY_AT_ONCE,
    ]


def _kubelet(config: Settings) -> list[str | Path]:
    return [
        _binary(config, "kubelet"),
        f"--config={config.kubeconfigs}/kubelet.yaml",
        f"--kubeconfig={config.kubeconfigs}/kubelet.conf",
        f"--root-dir={config.home}/kubelet",
        f"--cert-dir={config.home}/kubelet/pki",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_IP}",
    ]


def _kube_proxy(config: Settings) -> list[str | Path]:
    return [_binary(config, "kube-proxy"), f"--config={config.kubeconfigs}/kube-proxy.yaml"]


def _write_configuration(config: Settings) -> None:
    kubelet = render(
        "templates/kubelet.yaml.j2",
        home=config.home,
        pki=config.pki,
        node_ip=NODE_IP,
        dns_ip=settings.DNS_SERVICE_IP,
        cgroup=settings.CGROUP,
        containerd_socket=containerd.socket(config),
        reserved_memory="2Gi",
    )
    proxy = render(
        "templates/kube-proxy.yaml.j2",
        node_ip=NODE_IP,
        node_name=NODE_NAME,
        pod_cidr=settings.POD_CIDR,
        kubeconfig=config.kubeconfigs / "kube-proxy.conf",
    )
    write(config.kubeconfigs / "kubelet.yaml", kubelet)
    write(config.kubeconfigs / "kube-proxy.yaml", proxy)
    (config.home / "etcd").mkdir(mode=0o700, parents=True, exist_ok=True)


def _bind_admins(config: Settings, cluster: Cluster) -> None:
    """admin.conf's group has no rights until somebody who is above RBAC gives it some; kubeadm does the same."""
    if cluster.kubectl("auth", "can-i", "*", "*", check=False).strip() == "yes":
        return
    super_admin = Cluster(
        kubectl_path=cluster.kubectl_path, kubeconfig=config.kubeconfigs / "super-admin.conf"
    )
    super_admin.kubectl(
        "create", "clusterrolebinding", "kubeadm:cluster-admins", "--clusterrole=cluster-admin",
        "--group=kubeadm:cluster-admins",
    )  # fmt: skip


def _node_is_ready(cluster: Cluster) -> bool:
    path = "{.status.conditions[?(@.type=='Ready')].status}"
    return cluster.kubectl("get", "node", NODE_NAME, "-o", f"jsonpath={path}", check=False).strip() == "True"


def _approve_serving_certificates(cluster: Cluster) -> bool:
    """Approve what our own kubelet asks for, and nothing of anybody else; True once it has a certificate."""
    requests = json.loads(cluster.kubectl("get", "certificatesigningrequests", "-o", "json"))["items"]
    ours = [
        one
        for one in requests
        if one["spec"]["signerName"] == "kubernetes.io/kubelet-serving"
        and one["spec"]["username"] == f"system:node:{NODE_NAME}"
    ]
    for one in ours:
        if not one["status"]:
            cluster.kubectl("certificate", "approve", one["metadata"]["name"])
    return (
        cluster.kubectl("get", "--raw", f"/api/v1/nodes/{NODE_NAME}/proxy/healthz", check=False).strip()
        == "ok"
    )


def _wait(
    config: Settings, name: str, ready: Callable[[], bool], *, what: str | None = None, timeout: float = 120
) -> None:
    deadline = time.monotonic() + timeout
    while not ready():
        supervisor.require_running(config, name)
        if time.monotonic() > deadline:
            raise SandboxError(f"{name} is not ready after {timeout:.0f} s; see {config.logs}/{name}.log")
        time.sleep(0.2)
    say(f"{what or name} ready")


def _binary(config: Settings, name: str) -> Path:
    return gobuild.program(config, gobuild.KUBERNETES, name)
