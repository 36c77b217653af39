"""Fixtures of the tests on a real Kubernetes: the API, namespaces of one's own, and a user with Slipway's rights."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from sandbox import gobuild
from sandbox.settings import load
from slipway.checks.permissions import rbac_yaml
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, Ref
from slipway.cluster.transport import Request
from tests.cluster.prepare_runs import Prepare

KUBECONFIG_VARIABLE = "SLIPWAY_TEST_KUBECONFIG"
SANDBOX_KUBECONFIG = Path("/var/lib/slipway-sandbox/kubernetes/admin.conf")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of an administrator."""
    path = Path(os.environ.get(KUBECONFIG_VARIABLE) or SANDBOX_KUBECONFIG)
    if not path.is_file():
        pytest.fail(
            f"no cluster: {path} is not there. Bring one up with `make up`, "
            f"or name an administrator's kubeconfig in {KUBECONFIG_VARIABLE}",
            pytrace=False,
        )
    return path


@pytest.fixture(scope="session")
def administrator(kubeconfig: Path) -> Cluster:
    """The real cluster, as an administrator."""
    connected = Cluster.from_kubeconfig(kubeconfig)
    connected.version()
    return connected


@pytest.fixture(scope="session")
def cluster(administrator: Cluster) -> Cluster:
    """The cluster as a test looks at it; where a file tries what Slipway does, it is `slipway` there."""
    return administrator


@pytest.fixture(scope="module")
def make_namespace(administrator: Cluster) -> Iterator[Callable[..., str]]:
    """Make a namespace; it is deleted at the end of the module if nobody did before, without waiting.

    Not later: what crashes in it would go on to crash beside the tests that come after.
    """
    made: list[str] = []

    def make(*, level: str = "baseline") -> str:
        name = f"slipway-test-{secrets.token_hex(4)}"
        labels = {"pod-security.kubernetes.io/enforce": level, "slipway.io/test": "true"}
        administrator.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        )
        made.append(name)
        return name

    yield make
    for name in made:
        administrator.delete(Ref(apiVersion="v1", kind="Namespace", name=name))


@pytest.fixture
def namespace(administrator: Cluster, make_namespace: Callable[..., str]) -> Iterator[str]:
    """A fresh namespace."""
    name = make_namespace()
    yield name
    administrator.delete(Ref(apiVersion="v1", kind="Namespace", name=name))


@pytest.fixture
def restricted_namespace(administrator: Cluster, make_namespace: Callable[..., str]) -> Iterator[str]:
    """A fresh namespace with Pod Security level restricted."""
    name = make_namespace(level="restricted")
    yield name
    administrator.delete(Ref(apiVersion="v1", kind="Namespace", name=name))


@pytest.fixture(scope="module")
def as_slipway(administrator: Cluster, kubeconfig: Path) -> Iterator[Callable[..., Cluster]]:
    """Connect as a user who has exactly Slipway's rights in a namespace, by impersonation.

    ``may_see`` are the Secrets that the endpoints there name; ``infrastructure`` is for checks of the whole cluster.
    """
    given: list[Ref] = []

    def connect(
        namespace: str,
        *,
        user: str = "",
        without: str = "",
        may_see: tuple[str, ...] = ("api-key",),
        infrastructure: bool = False,
    ) -> Cluster:
        user = user or f"slipway-test-{secrets.token_hex(4)}"
        text = rbac_yaml(user=user, namespace=namespace, secrets=may_see, infrastructure=infrastructure)
        for document in yaml.safe_load_all(text):
            document["metadata"]["name"] += f"-{user}"
            if "roleRef" in document:
                document["roleRef"]["name"] += f"-{user}"
            for one in document.get("rules", []):
                one["resources"] = [resource for resource in one["resources"] if resource != without]
            document["rules"] = [one for one in document.get("rules", []) if one["resources"]]
            if "roleRef" in document:
                del document["rules"]
            administrator.apply(document)
            if not document["metadata"].get("namespace"):
                given.append(
                    Ref(
                        apiVersion=document["apiVersion"],
                        kind=document["kind"],
                        name=document["metadata"]["name"],
                    )
                )
        return impersonating(kubeconfig, user)

    yield connect
    for ref in given:
        administrator.delete(ref)


@pytest.fixture
def slipway(request: pytest.FixtureRequest, as_slipway: Callable[..., Cluster]) -> Cluster:
    """Slipway itself: a user with exactly its rights in the test's namespace."""
    restricted = "restricted_namespace" in request.fixturenames
    namespace: str = request.getfixturevalue("restricted_namespace" if restricted else "namespace")
    return as_slipway(namespace)


@pytest.fixture
def slipway_kubeconfig(
    administrator: Cluster,
    as_slipway: Callable[..., Cluster],
    namespace: str,
    kubeconfig: Path,
    tmp_path: Path,
) -> Path:
    """A kubeconfig of a service account with exactly Slipway's rights in the test's namespace."""
    account = {"name": "slipway", "namespace": namespace}
    administrator.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    as_slipway(namespace, user=f"system:serviceaccount:{namespace}:slipway")
    asked = Request(
        method="POST",
        path=f"/api/v1/namespaces/{namespace}/serviceaccounts/slipway/token",
        what="ask for a token",
        about=namespace,
        body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}},
    )
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    token = administrator.send(asked).json()["status"]["token"]
    config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
    path = tmp_path / "slipway-kubeconfig"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@pytest.fixture
def as_user(kubeconfig: Path) -> Callable[[str], Cluster]:
    """Connect as any user, by impersonation."""
    return lambda user: impersonating(kubeconfig, user)


def impersonating(kubeconfig: Path, user: str) -> Cluster:
    """Connect as another user; the kubeconfig's own must be allowed to (an administrator is)."""
    from kubernetes import config

    api_client = config.new_client_from_config(config_file=str(kubeconfig), persist_config=False)
    api_client.set_default_header("Impersonate-User", user)
    return Cluster.from_api_client(api_client, patience=10)


@pytest.fixture(scope="session")
def image(administrator: Cluster) -> str:
    """The tools image as the node has it."""
    named = os.environ.get("SLIPWAY_TEST_IMAGE")
    if named:
        return named
    for node in administrator.list(api_version="v1", kind="Node"):
        for listed in node["status"].get("images") or []:
            for name in listed.get("names") or []:
                if "/tools:" in name:
                    return str(name)
    pytest.fail(
        "no node has the tools image: `make up` imports it, or name one in SLIPWAY_TEST_IMAGE", pytrace=False
    )


@pytest.fixture(scope="session")
def pod_template(image: str) -> Callable[..., Object]:
    """Make the template of a small pod that runs a line of Python."""

    def make(labels: dict[str, str], code: str, *, memory: str = "64Mi", **container: object) -> Object:
        extra = {key: container.pop(key) for key in ("volumes", "nodeSelector") if key in container}
        return {
            "metadata": {"labels": labels},
            "spec": {
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 10001,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "server",
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["python3", "-c", code],
                        "resources": {
                            "requests": {"cpu": "5m", "memory": "16Mi"},
                            "limits": {"memory": memory},
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        **container,
                    }
                ],
                **extra,
            },
        }

    return make


def endpoint_labels(name: str, release: str) -> dict[str, str]:
    """The labels that Slipway's templates put on an endpoint's objects."""
    return {
        "app.kubernetes.io/managed-by": "slipway",
        "slipway.io/endpoint": name,
        "slipway.io/release": release,
    }


@pytest.fixture(scope="session")
def stateful_set(pod_template: Callable[..., Object]) -> Callable[..., Object]:
    """Make a StatefulSet of small pods that run a line of Python."""

    def make(
        name: str, code: str, *, namespace: str, release: str = "r1", replicas: int = 1, **pod: object
    ) -> Object:
        labels = endpoint_labels(name, release)
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                "replicas": replicas,
                "serviceName": name,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"slipway.io/endpoint": name}},
                "template": pod_template(labels, code, **pod),
            },
        }

    return make


@pytest.fixture(scope="session")
def deployment(stateful_set: Callable[..., Object]) -> Callable[..., Object]:
    """Make a Deployment of such pods."""

    def make(name: str, code: str, **more: object) -> Object:
        made = stateful_set(name, code, **more)
        spec = {key: made["spec"][key] for key in ("replicas", "selector", "template")}
        return {**made, "kind": "Deployment", "spec": {**spec, "strategy": {"type": "Recreate"}}}

    return make


@pytest.fixture
def prepare(tmp_path: Path, kubeconfig: Path, cluster: Cluster, image: str) -> Iterator[Prepare]:
    """`slipway prepare` over a record of the test's own; what it makes in the whole cluster goes at the end."""
    config = load()
    gobuild.build(config, gobuild.HELM)
    run = Prepare(directory=tmp_path, kubeconfig=kubeconfig, config=config, cluster=cluster, image=image)
    yield run
    cluster.patch(
        Ref(
            apiVersion="v1",
            kind="Node",
            name=cluster.list(api_version="v1", kind="Node")[0]["metadata"]["name"],
        ),
        {"metadata": {"labels": {"slipway.io/test-prepared": None}}},
    )
    classes = Ref(apiVersion="storage.k8s.io/v1", kind="StorageClass", name=f"{run.prefix}-nfs")
    namespaces = [
        Ref(apiVersion="v1", kind="Namespace", name=f"{run.prefix}-{one}") for one in ("own", "shared")
    ]
    for ref in (*run.given, classes, *namespaces):
        cluster.delete(ref)
