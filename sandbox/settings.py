"""Where the sandbox lives and what it listens on, read once from the environment."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sandbox.errors import USER_MISTAKE, SandboxError

CHECKOUT = Path(__file__).resolve().parent.parent
FILES = Path(__file__).resolve().parent

NODE_NAME = "slipway-sandbox"
NODE_DEVICE = "slipway0"
NODE_IP = "10.98.0.1"
POD_BRIDGE = "slipway-cni0"
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
DNS_SERVICE_IP = "10.96.0.10"
DNS_PORT = 1053
API_PORT = 6443
S3_PORT = 7070
LWS_PORT = 9443
TRAEFIK_PING_PORT = 9080
PROMETHEUS_PORT = 9090
KEDA_HEALTH_PORT = 9081
KEDA_QUERY_PORT = 9666
KEDA_METRICS_PORT = 9444
PROMETHEUS_ADAPTER_PORT = 9445
# For Services of type LoadBalancer; which of them MetalLB may give is in include/catalog/clusters/sandbox.yaml.
LOAD_BALANCER_CIDR = "10.98.1.0/24"
GATEWAY_IP = "10.98.1.1"
CGROUP = "slipway-sandbox"
FIELD_MANAGER = "slipway-sandbox"
MODELS_NAMESPACE = "models"
SYSTEM_NAMESPACE = "slipway-sandbox"


@dataclass(frozen=True)
class Owner:
    """Who brought a sandbox up, and for which cluster; `kubeconfig` is None for the native node."""

    checkout: str
    kubeconfig: str | None
    registry: str | None


def read_owner(home: Path) -> Owner | None:
    """What `up` wrote down; None before the first one."""
    record = home / "owner.json"
    return Owner(**json.loads(record.read_text())) if record.exists() else None


@dataclass(frozen=True)
class Settings:
    """What a person may set, and the paths that follow from it."""

    home: Path
    cache: Path
    run: Path
    airflow_port: int
    airflow_database_url: str | None
    database_url: str | None
    kubeconfig: Path | None
    registry: str | None
    s3_host: str

    @property
    def native(self) -> bool:
        """Whether the cluster is the node that this machine becomes, and not one that a person named."""
        return self.kubeconfig is None

    @cached_property
    def logs(self) -> Path:
        """One file for each part and each build."""
        return self.home / "logs"

    @cached_property
    def binaries(self) -> Path:
        """Programs built from Go modules, shared by all checkouts."""
        return self.cache / "bin"

    @cached_property
    def pki(self) -> Path:
        """Keys and certificates that kubeadm made."""
        return self.home / "pki"

    @cached_property
    def kubeconfigs(self) -> Path:
        """One kubeconfig for each client of the API server."""
        return self.home / "kubernetes"

    @cached_property
    def secrets(self) -> Path:
        """Generated once and kept: S3's and Airflow's credentials."""
        return self.home / "secrets"

    @property
    def admin_kubeconfig(self) -> Path:
        """What the sandbox itself uses."""
        return self.kubeconfig or self.kubeconfigs / "admin.conf"

    @property
    def slipway_kubeconfig(self) -> Path:
        """What Airflow uses: the user `slipway`, with the rights of sandbox/manifests/slipway-rbac.yaml."""
        return self.kubeconfig or self.kubeconfigs / "slipway.conf"

    @property
    def s3_url(self) -> str:
        """S3 as this machine reaches it."""
        return f"http://{self.s3_host}:{S3_PORT}"

    @property
    def airflow_url(self) -> str:
        """Airflow as this machine reaches it."""
        return f"http://localhost:{self.airflow_port}"


def load(*, recorded: bool = False) -> Settings:
    """Read the environment.

    Args:
        recorded: for a sandbox that was brought up before: which cluster it is for is what `up` wrote down, whatever
            the environment of this terminal says.

    Raises:
        SandboxError: a variable has a value that cannot be meant.
    """
    root = os.geteuid() == 0
    home = Path(os.environ.get("SLIPWAY_SANDBOX_HOME") or _default_home(root)).absolute()
    owner = read_owner(home) if recorded else None
    kubeconfig = owner.kubeconfig if owner else os.environ.get("SLIPWAY_KUBECONFIG")
    registry = owner.registry if owner else os.environ.get("SLIPWAY_REGISTRY")
    if not recorded:
        _check_cluster(kubeconfig, registry)
    return Settings(
        home=home,
        cache=Path(os.environ.get("SLIPWAY_CACHE") or Path.home() / ".cache" / "slipway").absolute(),
        run=_run_directory(home, root=root),
        airflow_port=_port("SLIPWAY_AIRFLOW_PORT", 8080),
        airflow_database_url=os.environ.get("SLIPWAY_AIRFLOW_DATABASE_URL") or None,
        database_url=os.environ.get("SLIPWAY_DATABASE_URL") or None,
        kubeconfig=Path(kubeconfig).absolute() if kubeconfig else None,
        registry=registry or None,
        s3_host=_s3_host(external=bool(kubeconfig)),
    )


def _check_cluster(kubeconfig: str | None, registry: str | None) -> None:
    if kubeconfig and not Path(kubeconfig).is_file():
        raise SandboxError(f"SLIPWAY_KUBECONFIG={kubeconfig}: no such file", status=USER_MISTAKE)
    if kubeconfig and not registry:
        raise SandboxError(
            "SLIPWAY_KUBECONFIG needs SLIPWAY_REGISTRY too: a registry that the cluster pulls from, for example "
            "SLIPWAY_REGISTRY=localhost:5001",
            status=USER_MISTAKE,
        )


def _run_directory(home: Path, *, root: bool) -> Path:
    """Sockets and what else must not outlive a reboot; a sandbox with a home of its own has one of its own."""
    if not root or sys.platform != "linux":
        return home / "run"
    own = "" if home == _default_home(root) else f"-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"
    return Path(f"/run/slipway-sandbox{own}")


def _default_home(root: bool) -> Path:
    if root:
        return Path("/var/lib/slipway-sandbox")
    return Path.home() / ".local" / "state" / "slipway-sandbox"


def _port(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise SandboxError(f"{name}={text}: give a port number from 1 to 65535", status=USER_MISTAKE)
    return int(text)


def _s3_host(*, external: bool) -> str:
    """The address that both this machine and the pods reach."""
    named = os.environ.get("SLIPWAY_S3_ADDRESS")
    if not external:
        return NODE_IP
    return named or _address_of_this_machine()


def _address_of_this_machine() -> str:
    """The source address of the default route; connecting a datagram socket sends nothing."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            raise SandboxError(
                "this machine has no route out; set SLIPWAY_S3_ADDRESS to an address that the cluster's pods reach",
                status=USER_MISTAKE,
            ) from None
        return str(probe.getsockname()[0])
