"""The controller of LeaderWorkerSets on the node itself, with its webhooks, as its own manifests deploy it in a pod.

The API server calls the webhooks at the node's address; their certificate is signed by the cluster's authority.
"""

from __future__ import annotations

import ssl
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import yaml

from sandbox import definitions, gobuild, pki, settings, supervisor
from sandbox.cluster import Cluster
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import FILES, Settings
from sandbox.supervisor import Program
from sandbox.templating import render, write

NAME = "leaderworkerset"
READY_SECONDS = 60
_URL = f"https://{settings.NODE_IP}:{settings.LWS_PORT}"
# The webhook that the controller registers last: when this one answers, all do.
_LAST_WEBHOOK = "/validate-disaggregatedset-x-k8s-io-v1-disaggregatedset"
# What the controller needs only where it makes its webhooks' certificates itself.
_OWN_CERTIFICATES = {"secrets", "mutatingwebhookconfigurations", "validatingwebhookconfigurations"}
# Without it every pod of the cluster would wait for this controller. Upstream's kustomize patches say the same.
_PODS_OF_SETS = {"matchExpressions": [{"key": "leaderworkerset.sigs.k8s.io/name", "operator": "Exists"}]}
_KINDS = (
    "clusterroles",
    "clusterrolebindings",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
)


def program(config: Settings) -> Program:
    """The controller; one of it, so it elects no leader, and it serves nothing but its webhooks."""
    config_file = config.kubeconfigs / f"{NAME}.yaml"
    text = render(
        f"templates/{NAME}.yaml.j2",
        node_ip=settings.NODE_IP,
        port=settings.LWS_PORT,
        certificates=_certificates(config),
    )
    write(config_file, text)
    command = [
        str(gobuild.program(config, gobuild.LWS, NAME)),
        f"--config={config_file}",
        f"--kubeconfig={config.kubeconfigs}/{NAME}.conf",
        "--zap-log-level=info",
    ]
    return Program(name=NAME, command=command, files=[config_file], priority=50)


def start(config: Settings, cluster: Cluster) -> None:
    """Give it its rights and its webhooks, start it and wait until the webhooks answer.

    Raises:
        SandboxError: they do not.
    """
    pki.server_certificate(config, NAME, addresses=[settings.NODE_IP])
    _ensure_objects(config, cluster)
    supervisor.start_programs(config, [NAME])
    deadline = time.monotonic() + READY_SECONDS
    while not _is_ready(config):
        supervisor.require_running(config, NAME)
        if time.monotonic() > deadline:
            raise SandboxError(f"{NAME} is not ready after {READY_SECONDS} s; see {config.logs}/{NAME}.log")
        time.sleep(0.2)
    say(f"{NAME} ready")


def _is_ready(config: Settings) -> bool:
    """Whether supervisord counts on it and its last webhook answers a review that asks for nothing."""
    import httpx

    if not any(part.name == NAME and part.state == "RUNNING" for part in supervisor.parts(config)):
        return False
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
    trusted = ssl.create_default_context(cafile=str(config.pki / "ca.crt"))
    try:
        answer = httpx.post(
            f"{_URL}{_LAST_WEBHOOK}",
            json={**review, "request": {"uid": "up", "operation": "CONNECT"}},
            verify=trusted,
            timeout=2,
            trust_env=False,
        )
    except httpx.HTTPError:
        return False  # not yet
    return answer.status_code == httpx.codes.OK


def _ensure_objects(config: Settings, cluster: Cluster) -> None:
    """Apply the rights and the webhooks of the module, fitted to a controller outside the cluster."""
    authority = (config.pki / "ca.crt").read_bytes()
    pinned = [(FILES / "go" / "lws" / name).read_bytes() for name in ("go.mod", "go.sum")]
    content = definitions.content_of(authority, _URL.encode(), Path(__file__).read_bytes(), *pinned)
    if definitions.has_content(cluster, ",".join(_KINDS), content, count=len(_KINDS)):
        return
    directory = definitions.module_of(config, definitions.LWS) / "config"
    role = yaml.safe_load((directory / "rbac" / "role.yaml").read_text())
    webhooks = list(yaml.safe_load_all((directory / "webhook" / "manifests.yaml").read_text()))
    objects = [_role(role), _binding(), *(_webhooks(one, authority) for one in webhooks)]
    definitions.apply_content(cluster, objects, content)


def _role(role: dict[str, Any]) -> dict[str, Any]:
    rules = [rule for rule in role["rules"] if not _OWN_CERTIFICATES & set(rule["resources"])]
    return {**role, "metadata": {"name": NAME}, "rules": rules}


def _binding() -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NAME},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": NAME},
        "subjects": [{"apiGroup": group, "kind": "User", "name": pki.CLIENTS[NAME]}],
    }


def _webhooks(configuration: dict[str, Any], authority: bytes) -> dict[str, Any]:
    for webhook in configuration["webhooks"]:
        path = webhook["clientConfig"]["service"]["path"]
        webhook["clientConfig"] = {"url": f"{_URL}{path}", "caBundle": b64encode(authority).decode()}
        if any("pods" in rule["resources"] for rule in webhook["rules"]):
            webhook["objectSelector"] = _PODS_OF_SETS
    return {**configuration, "metadata": {"name": NAME}}


def _certificates(config: Settings) -> Path:
    return config.pki / NAME
