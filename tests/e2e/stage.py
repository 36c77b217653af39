"""Where the failure scenarios are played: a catalog, namespaces, weights and a registry of their own.

Everything that Airflow does is real: its API, its tasks, its triggerer, as Slipway's own user of the cluster.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from sandbox import s3
from sandbox.settings import load
from slipway.airflow_rest import AirflowRest
from slipway.checks.permissions import rbac_objects, user_subject
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, Ref, ref_of
from slipway.releases.store import History

KEY = "sk-scenarios"
HERE = Path(__file__).parent
PROGRAM = (HERE / "failing_server.py", HERE.parent / "unit" / "small_runtime.py")
SLIPWAY_USER = "slipway"
SECRETS = ("api-key", "s3-credentials", "no-such-secret", "wrong-credentials")


@dataclass
class Stage:
    """The cluster and the catalog in which scenarios are played.

    Attributes:
        prefix: what names of objects of the whole cluster, and of namespaces, begin with.
        registry: the address of a registry that refuses some images and lacks the others.
        namespaces: those of the scenarios by the names that these have for them.
        turn: whose request to Airflow it is.
    """

    cluster: Cluster
    airflow: AirflowRest
    history: History
    prefix: str
    registry: str
    namespaces: dict[str, str] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def words(self) -> dict[str, str]:
        [node] = [
            one["metadata"]["name"]
            for one in self.cluster.list(api_version="v1", kind="Node")
            if "kwok.x-k8s.io/node" not in one["metadata"].get("annotations", {})
        ]
        return {"registry": self.registry, "node": node, "prefix": self.prefix, **self.namespaces}

    def namespace(self, name: str, *objects: Object, rights: bool = True) -> None:
        """Make a namespace that is ready for endpoints, with further objects in it."""
        full = self.namespaces[name] = f"{self.prefix}-{name}"
        labels = {"pod-security.kubernetes.io/enforce": "baseline", "slipway.io/test": self.prefix}
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": full, "labels": labels}}
        )
        store = s3.connection(load())
        keys = {"AWS_ACCESS_KEY_ID": store["access_key"], "AWS_SECRET_ACCESS_KEY": store["secret_key"]}
        given = [
            secret("api-key", {"api-key": KEY}),
            secret("s3-credentials", keys),
            secret("wrong-credentials", {**keys, "AWS_SECRET_ACCESS_KEY": "wrong"}),
            {"kind": "ConfigMap", "data": {one.name: one.read_text() for one in PROGRAM}, **named("server")},
        ]
        for one in (*given, *objects):
            placed = {"apiVersion": "v1", **one}
            placed["metadata"] = {**placed["metadata"], "namespace": full}
            self.cluster.apply(placed, manager="somebody")
        roles = rbac_objects(subject=user_subject(SLIPWAY_USER), namespaces={full: SECRETS})
        for role in [one for one in roles if one["metadata"].get("namespace")]:
            if not rights and role["kind"] == "Role":
                role["rules"] = [one for one in role["rules"] if one["resources"] != ["services"]]
            self.cluster.apply(role)


def named(name: str, **labels: str) -> Object:
    return {"metadata": {"name": name, "labels": labels}}


def secret(name: str, data: Mapping[str, str]) -> Object:
    return {"kind": "Secret", "stringData": dict(data), **named(name)}


@contextmanager
def registry() -> Iterator[str]:
    """A registry on this machine, which is the node: it refuses ``private`` and knows no other image."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            refused = "/private/" in self.path
            self.send_response(401 if refused else 200 if self.path == "/v2/" else 404)
            if refused:
                self.send_header("WWW-Authenticate", 'Basic realm="scenarios"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def cluster_objects(stage: Stage) -> Iterator[None]:
    """What scenarios need of the whole cluster: a class that nobody provisions, and a policy that refuses one pod."""
    api = "admissionregistration.k8s.io/v1"
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    ours = {"namespaceSelector": {"matchLabels": {"slipway.io/test": stage.prefix}}}
    labels = "has(object.metadata.labels) && 'slipway.io/release' in object.metadata.labels"
    objects: list[Object] = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "provisioner": "example.com/nobody",
            **named(f"{stage.prefix}-nobody"),
        },
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicy",
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": rules},
                "matchConditions": [
                    {"name": "serving", "expression": labels},
                    {
                        "name": "this-one",
                        "expression": "object.metadata.labels['slipway.io/endpoint'] == 'against-the-policy'",
                    },
                ],
                "validations": [{"expression": "false", "message": "pods need a cost centre"}],
            },
            **named(stage.prefix),
        },
        {
            "apiVersion": api,
            "kind": "ValidatingAdmissionPolicyBinding",
            "spec": {"policyName": stage.prefix, "validationActions": ["Deny"], "matchResources": ours},
            **named(stage.prefix),
        },
    ]
    with ExitStack() as left:
        for one in objects:
            stage.cluster.apply(one)
            left.callback(stage.cluster.delete, ref_of(one))
        yield


@contextmanager
def namespaces(stage: Stage) -> Iterator[None]:
    """The namespaces of the scenarios, each with what makes it special; without waiting they go at the end."""
    finalizer = {"metadata": {"name": "stays", "finalizers": ["slipway.io/test"]}, "kind": "ConfigMap"}
    memory = {"requests.memory": "300Mi"}
    try:
        stage.namespace(
            "shared",
            secret("empty", {"other": "x"}),
            {
                "kind": "Service",
                "spec": {"ports": [{"port": 80}], "selector": {"app": "theirs"}},
                **named("their-service"),
            },
            their_workload("their-workload"),
            claim("small", storage="1Mi"),
        )
        stage.namespace(
            "no-pods", {"kind": "ResourceQuota", "spec": {"hard": {"pods": "0"}}, **named("none")}
        )
        stage.namespace("little", {"kind": "ResourceQuota", "spec": {"hard": memory}, **named("memory")})
        limits = {"limits": [{"type": "Container", "max": {"memory": "300Mi"}}]}
        stage.namespace("narrow", {"kind": "LimitRange", "spec": limits, **named("narrow")})
        stage.namespace("rightless", rights=False)
        stage.namespace("going", finalizer)
        stage.cluster.delete(namespace_ref(stage.namespaces["going"]))
        stage.namespaces["nowhere"] = f"{stage.prefix}-nowhere"
        yield
    finally:
        for name in stage.namespaces.values():
            stage.cluster.delete(namespace_ref(name))
        stays = Ref(apiVersion="v1", kind="ConfigMap", namespace=stage.namespaces["going"], name="stays")
        stage.cluster.patch(stays, {"metadata": {"finalizers": None}})


def their_workload(name: str) -> Object:
    """A StatefulSet that somebody else made, of which no pod runs."""
    pod = {
        "metadata": {"labels": {"app": "theirs"}},
        "spec": {"containers": [{"name": "server", "image": "theirs"}]},
    }
    selector = {"matchLabels": {"app": "theirs"}}
    spec = {"replicas": 0, "serviceName": name, "selector": selector, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": spec, **named(name)}


def claim(name: str, *, storage: str) -> Object:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path"}
    return {
        "kind": "PersistentVolumeClaim",
        "spec": {**spec, "resources": {"requests": {"storage": storage}}},
        **named(name),
    }


def namespace_ref(name: str) -> Ref:
    return Ref(apiVersion="v1", kind="Namespace", name=name)


def new_prefix() -> str:
    return f"scenarios-{secrets.token_hex(3)}"


def ask(stage: Stage, *, namespace: str, endpoint: str) -> int:
    """The status of a completion through the published Service; this machine is the node."""
    service = stage.cluster.get(api_version="v1", kind="Service", namespace=namespace, name=endpoint)
    assert service is not None
    answer = httpx.post(
        f"http://{service['spec']['clusterIP']}:8000/v1/completions",
        json={"model": endpoint, "prompt": "Hello", "max_tokens": 4},
        headers={"Authorization": f"Bearer {KEY}"},
        timeout=30,
        trust_env=False,
    )
    return answer.status_code
