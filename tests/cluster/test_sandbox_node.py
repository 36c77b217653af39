"""The native node: what a pod finds there, and whom its servers turn away."""

from __future__ import annotations

import ipaddress
import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox import settings

CONFIG = settings.load()
KUBECTL = CONFIG.home / "bin" / "kubectl"
pytestmark = pytest.mark.usefixtures("native")


@pytest.fixture(scope="session")
def native() -> None:
    """These promises are the native node's."""
    if not (CONFIG.pki / "ca.crt").exists():
        pytest.fail("the native node is not up: run `make up`", pytrace=False)


def kubectl(*words: str, user: str = "admin", stdin: str | None = None, check: bool = True) -> str:
    done = subprocess.run(
        [KUBECTL, f"--kubeconfig={CONFIG.kubeconfigs}/{user}.conf", *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished_pod(native: None, make_namespace: Callable[..., str], image: str) -> tuple[str, str]:
    """A restricted pod with both kinds of volume that has looked around; its namespace and what it printed."""
    namespace = make_namespace(level="restricted")
    code = (
        "import pathlib, socket, urllib.request\n"
        "for name in ('kubernetes.default', 's3.slipway-sandbox.svc.cluster.local'):\n"
        "    print(socket.gethostbyname(name))\n"
        "for path in ('/own/file', '/shared/file'):\n"
        "    pathlib.Path(path).write_text('written')\n"
        "try:\n"
        "    urllib.request.urlopen('http://s3.slipway-sandbox.svc.cluster.local:7070/models')\n"
        "except urllib.error.HTTPError as error:\n"
        "    print('s3', error.code)\n"
    )
    claims = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "accessModes": [mode],
                "storageClassName": storage_class,
                "resources": {"requests": {"storage": "1Mi"}},
            },
        }
        for name, mode, storage_class in (
            ("own", "ReadWriteOnce", "local-path"),
            ("shared", "ReadWriteMany", "shared"),
        )
    ]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "looks", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "command": ["python3", "-c", code],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": name, "mountPath": f"/{name}"} for name in ("own", "shared")],
                }
            ],
            "volumes": [
                {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in ("own", "shared")
            ],
        },
    }
    kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*claims, pod]})
    )
    kubectl(
        "-n", namespace, "wait", "pod/looks", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s"
    )
    return namespace, kubectl("-n", namespace, "logs", "looks")


def test_a_pod_resolves_the_names_of_services(finished_pod: tuple[str, str]) -> None:
    _, printed = finished_pod
    assert printed.splitlines()[0] == "10.96.0.1"


def test_a_pod_reaches_s3_by_name_and_is_refused_without_a_signature(finished_pod: tuple[str, str]) -> None:
    _, printed = finished_pod
    assert printed.splitlines()[-1] == "s3 403"


def test_both_storage_classes_make_a_volume_that_any_user_can_write(finished_pod: tuple[str, str]) -> None:
    namespace, _ = finished_pod
    volumes = CONFIG.home / "volumes"
    for kind, claim in (("local", "own"), ("shared", "shared")):
        files = list((volumes / kind).glob(f"*_{namespace}_{claim}/file"))
        assert [file.read_text() for file in files] == ["written"]


def test_a_deleted_claim_takes_its_directory_along(finished_pod: tuple[str, str]) -> None:
    namespace, _ = finished_pod
    kubectl("-n", namespace, "delete", "pod/looks", "pvc/own", "pvc/shared")
    deadline = time.monotonic() + 60
    while left := list((CONFIG.home / "volumes").glob(f"*/*_{namespace}_*")):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def test_pod_security_keeps_a_plain_pod_out_of_the_namespace_models() -> None:
    said = kubectl("-n", "models", "run", "plain", "--image=x", "--dry-run=server", check=False)
    assert 'violates PodSecurity "restricted' in said


@pytest.mark.parametrize(
    "address", [f"https://{settings.NODE_IP}:6443/readyz", f"https://{settings.NODE_IP}:10250/pods"]
)
def test_no_server_answers_whom_it_does_not_know(address: str) -> None:
    trust = ssl.create_default_context(cafile=str(CONFIG.pki / "ca.crt"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(address, context=trust, timeout=10)
    assert refused.value.code == 401
    refused.value.close()


def test_etcd_answers_no_client_without_a_certificate() -> None:
    trust = ssl.create_default_context(cafile=str(CONFIG.pki / "etcd" / "ca.crt"))
    with pytest.raises((ssl.SSLError, urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(f"https://{settings.NODE_IP}:2379/health", context=trust, timeout=10)


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("kubelet", ("get", "secrets", "--all-namespaces")),
        ("kubelet", ("label", "node", settings.NODE_NAME, "node-role.kubernetes.io/control-plane=")),
        ("coredns", ("get", "secrets", "--all-namespaces")),
        ("local-path-provisioner", ("get", "secrets", "--all-namespaces")),
        ("slipway", ("get", "secrets", "--namespace=kube-system")),
    ],
)
def test_each_client_has_its_own_rights_and_no_others(user: str, words: tuple[str, ...]) -> None:
    assert "forbidden" in kubectl(*words, user=user, check=False).lower()


def test_what_is_secret_only_its_owner_reads() -> None:
    files = [CONFIG.home / "env", *CONFIG.secrets.iterdir(), *CONFIG.pki.glob("**/*.key")]
    files += [*(CONFIG.home / "supervisor").iterdir(), *CONFIG.kubeconfigs.glob("*.conf")]
    assert [file for file in files if Path(file).stat().st_mode & 0o077] == []


@pytest.mark.parametrize("addresses", [settings.SERVICE_CIDR, settings.LOAD_BALANCER_CIDR])
def test_an_address_that_no_service_has_is_not_asked_of_the_machines_network(addresses: str) -> None:
    unused = str(list(ipaddress.ip_network(addresses).hosts())[-1])

    routed = subprocess.run(["ip", "route", "get", unused], capture_output=True, text=True, check=True)

    assert f"dev {settings.NODE_DEVICE} " in routed.stdout
