"""One healthy cluster as a list of objects, an API server that serves them, and what is meant to run there."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from slipway.catalog.records import Accelerator, Cluster
from slipway.checks.subject import Site, Subject
from slipway.cluster.objects import Object

GATEWAY = "gateway.networking.k8s.io"
PLURALS = {
    "IngressClass": "ingressclasses",
    "StorageClass": "storageclasses",
    "GatewayClass": "gatewayclasses",
}


BUILT_IN = (
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
    ("apps/v1", "DaemonSet"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("storage.k8s.io/v1", "CSIDriver"),
    ("v1", "LimitRange"),
    ("v1", "ResourceQuota"),
)


def plural_of(kind: str) -> str:
    return PLURALS.get(kind, f"{kind.lower()}s")


class FakeApi:
    """An API server over a list of objects; every kind that the list has is installed, and those named besides."""

    def __init__(
        self,
        objects: list[Object],
        *,
        kinds: Iterable[tuple[str, str]] = (),
        denied: Callable[[dict[str, str]], bool] = lambda access: False,
        version: str = "v1.34.4",
        clock: timedelta = timedelta(),
        forbidden: Iterable[str] = (),
    ) -> None:
        self.configuration = SimpleNamespace(host="https://cluster.test:6443", verify_ssl=True)
        self.objects, self.denied, self.version, self.clock = objects, denied, version, clock
        self.forbidden = set(forbidden)
        self.kinds = {(one["apiVersion"], one["kind"]) for one in objects} | set(kinds) | set(BUILT_IN)

    def call_api(self, path: str, method: str, *, body: Any = None, **_: Any) -> Any:
        status, answer = self._answer(path, body)
        moment = (datetime.now(UTC) + self.clock).strftime("%a, %d %b %Y %H:%M:%S GMT")
        return SimpleNamespace(status=status, data=json.dumps(answer).encode(), headers={"Date": moment})

    def _answer(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/version":
            return 200, {"gitVersion": self.version}
        if path == "/readyz":
            return 200, {}
        if path.endswith("/selfsubjectaccessreviews"):
            return 200, {"status": {"allowed": not self.denied(body["spec"]["resourceAttributes"])}}
        parts = path.strip("/").split("/")
        version = parts[1] if parts[0] == "api" else "/".join(parts[1:3])
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        if not rest:
            return self._discover(version)
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        if rest[0] in self.forbidden:
            return 403, {"kind": "Status", "message": f"{rest[0]} is forbidden", "reason": "Forbidden"}
        return self._find(version, rest, namespace)

    def _discover(self, version: str) -> tuple[int, Any]:
        found = sorted(kind for at, kind in self.kinds if at == version)
        resources = [{"name": plural_of(kind), "kind": kind, "namespaced": True} for kind in found]
        for one in resources:
            listed = [obj for obj in self.objects if obj["kind"] == one["kind"]]
            one["namespaced"] = all("namespace" in obj["metadata"] for obj in listed)
        return (200, {"resources": resources}) if found else (404, {"kind": "Status", "message": "not found"})

    def _find(self, version: str, rest: list[str], namespace: str | None) -> tuple[int, Any]:
        found = [
            one
            for one in self.objects
            if one["apiVersion"] == version
            and plural_of(one["kind"]) == rest[0]
            and namespace in (None, one["metadata"].get("namespace"))
        ]
        if len(rest) == 1:
            return 200, {"items": found}
        named = [one for one in found if one["metadata"]["name"] == rest[1]]
        return (200, named[0]) if named else (404, {"kind": "Status", "message": "not found"})


def obj(api_version: str, kind: str, name: str, *, namespace: str | None = None, **more: Any) -> Object:
    labels, annotations = more.pop("labels", {}), more.pop("annotations", {})
    place = {"namespace": namespace} if namespace else {}
    metadata = {"name": name, **place, "labels": labels, "annotations": annotations, "generation": 1}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}


def conditions(**states: str) -> list[dict[str, Any]]:
    return [{"type": kind, "status": status, "observedGeneration": 1} for kind, status in states.items()]


@cache
def certificate(*names: str, days: int = 90, broken_chain: bool = False) -> str:
    """A certificate as PEM; with a broken chain, followed by one that did not issue it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "models")])
    end = datetime.now(UTC) + timedelta(days=days, hours=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=365))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, SHA256())
    )
    pem = made.public_bytes(Encoding.PEM).decode()
    return pem + certificate("other.example") if broken_chain else pem


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def node(name: str) -> Object:
    labels = {
        "gpu": "on",
        "kubernetes.io/hostname": name,
        "nvidia.com/cuda.driver-version.major": "570",
        "nvidia.com/cuda.runtime-version.major": "12",
        "nvidia.com/mig.strategy": "none",
    }
    info = {
        "kubeletVersion": "v1.34.4",
        "kernelVersion": "6.1.0-28-amd64",
        "containerRuntimeVersion": "containerd://2.1.0",
        "architecture": "amd64",
    }
    allocatable = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"}
    return obj(
        *("v1", "Node", name),
        labels=labels,
        spec={},
        status={"nodeInfo": info, "allocatable": allocatable, "conditions": conditions(Ready="True")},
    )


def deployment(namespace: str, name: str, *, kind: str = "Deployment", image: str = "i:1") -> Object:
    status = {"readyReplicas": 1, "numberReady": 2, "desiredNumberScheduled": 2}
    spec = {"replicas": 1, "template": {"spec": {"containers": [{"name": "c", "image": image}]}}}
    return obj("apps/v1", kind, name, namespace=namespace, spec=spec, status=status)


def service(namespace: str, name: str, port: int) -> list[Object]:
    spec = {"type": "ClusterIP", "ports": [{"port": port}]}
    endpoints = [{"addresses": ["10.0.0.9"], "conditions": {"ready": True}}]
    return [
        obj("v1", "Service", name, namespace=namespace, spec=spec),
        obj(
            *("discovery.k8s.io/v1", "EndpointSlice", f"{name}-x"),
            namespace=namespace,
            labels={"kubernetes.io/service-name": name},
            endpoints=endpoints,
        ),
    ]


def webhook(name: str, hook: str, place: tuple[str, str], *, policy: str) -> Object:
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    where = {"service": {"namespace": place[0], "name": place[1]}}
    hooks = [{"name": hook, "clientConfig": where, "failurePolicy": policy, "rules": rules}]
    return obj("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", name, webhooks=hooks)


def definition(plural: str) -> Object:
    return obj(
        *("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"{plural}.{GATEWAY}"),
        annotations={f"{GATEWAY}/bundle-version": "v1.2.1"},
        status={"conditions": conditions(Established="True")},
    )


def route(namespace: str, name: str, backend: tuple[str, int], host: str | None) -> Object:
    rules = [{"backendRefs": [{"name": backend[0], "port": backend[1]}]}]
    parents = [
        {
            "parentRef": {"name": "gateway", "namespace": "gateways"},
            "conditions": conditions(Accepted="True", ResolvedRefs="True"),
        }
    ]
    spec = {
        "parentRefs": [{"name": "gateway", "namespace": "gateways", "sectionName": "https"}],
        **({"hostnames": [host]} if host else {}),
        "rules": rules,
    }
    return obj(
        f"{GATEWAY}/v1", "HTTPRoute", name, namespace=namespace, spec=spec, status={"parents": parents}
    )


HYDRA_CONFIG = """
cluster_name: worker-1
agent_base_url: https://chat.models.example
agent_server: {address: hydra.example:443, plaintext: false, insecure: false}
"""


def healthy() -> list[Object]:
    """The objects of a cluster that has all that its site needs."""
    listeners = [
        {"name": "http", "port": 80, "protocol": "HTTP"},
        {
            "name": "https",
            "port": 443,
            "protocol": "HTTPS",
            "hostname": "*.models.example",
            "tls": {"certificateRefs": [{"name": "models-tls"}]},
        },
    ]
    good = conditions(Accepted="True", Programmed="True", ResolvedRefs="True")
    gateway_status = {
        "conditions": conditions(Accepted="True", Programmed="True"),
        "addresses": [{"type": "IPAddress", "value": "10.1.0.10"}],
        "listeners": [{"name": "http", "conditions": good}, {"name": "https", "conditions": good}],
    }
    serving = {"nodeName": "gpu-1", "containers": [{"resources": {"requests": {"nvidia.com/gpu": "2"}}}]}
    return [
        node("gpu-1"),
        node("gpu-2"),
        obj("v1", "Pod", "other", namespace="elsewhere", spec=serving, status={"phase": "Running"}),
        obj("v1", "Namespace", "models", labels={"pod-security.kubernetes.io/enforce": "restricted"}),
        obj("v1", "Namespace", "public"),
        obj("v1", "Secret", "api-key", namespace="models", data={"api-key": encoded("x")}),
        obj(
            *("v1", "Secret", "s3-credentials"),
            namespace="models",
            data={"AWS_ACCESS_KEY_ID": encoded("x"), "AWS_SECRET_ACCESS_KEY": encoded("y")},
        ),
        obj(
            "v1",
            "Secret",
            "oss-secret",
            namespace="models",
            data={"akId": encoded("x"), "akSecret": encoded("y")},
        ),
        obj(
            *("v1", "Secret", "models-tls"),
            namespace="gateways",
            data={"tls.crt": encoded(certificate("*.models.example")), "tls.key": encoded("k")},
        ),
        obj(
            "v1",
            "ResourceQuota",
            "quota",
            namespace="models",
            spec={"hard": {"requests.cpu": "64", "pods": "20"}},
        ),
        obj(
            *("v1", "LimitRange", "limits"),
            namespace="models",
            spec={"limits": [{"type": "Container", "max": {"memory": "256Gi"}}]},
        ),
        obj(
            "storage.k8s.io/v1",
            "StorageClass",
            "nfs-csi",
            provisioner="nfs.csi.k8s.io",
            allowVolumeExpansion=True,
        ),
        obj("storage.k8s.io/v1", "CSIDriver", "nfs.csi.k8s.io", spec={}),
        *(
            definition(one)
            for one in ("gatewayclasses", "gateways", "grpcroutes", "httproutes", "referencegrants")
        ),
        obj(
            *(f"{GATEWAY}/v1", "GatewayClass", "eg"),
            spec={"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
            status={"conditions": conditions(Accepted="True")},
        ),
        obj(
            *(f"{GATEWAY}/v1", "Gateway", "gateway"),
            namespace="gateways",
            spec={"gatewayClassName": "eg", "listeners": listeners},
            status=gateway_status,
        ),
        route("models", "qwen", ("qwen", 8000), "chat.models.example"),
        route("hydra-system", "hydra-agent-knoway", ("knoway-gateway", 8080), None),
        *service("models", "qwen", 8000),
        *service("hydra-system", "knoway-gateway", 8080),
        *service("kube-system", "hami-scheduler", 443),
        *service("fluid-system", "fluid-pod-admission-webhook", 9443),
        webhook("hami-webhook", "vgpu.hami.io", ("kube-system", "hami-scheduler"), policy="Ignore"),
        webhook(
            *("fluid-pod-admission-webhook", "schedulepod.fluid.io"),
            ("fluid-system", "fluid-pod-admission-webhook"),
            policy="Fail",
        ),
        deployment("kube-system", "hami-scheduler", image="registry.k8s.io/kube-scheduler:v1.34.1"),
        deployment("kube-system", "hami-device-plugin", kind="DaemonSet"),
        deployment("lws-system", "lws-controller-manager"),
        deployment("keda", "keda-operator"),
        deployment("monitoring", "prometheus-operator"),
        deployment("metallb-system", "controller"),
        deployment("hydra-system", "hydra-agent"),
        deployment("hydra-system", "knoway-gateway"),
        deployment("fluid-system", "dataset-controller"),
        deployment("fluid-system", "jindoruntime-controller"),
        deployment("fluid-system", "fluid-webhook"),
        obj("v1", "ConfigMap", "hydra-agent", namespace="hydra-system", data={"config.yaml": HYDRA_CONFIG}),
        obj(
            *("metallb.io/v1beta1", "IPAddressPool", "pool"),
            namespace="metallb-system",
            spec={"addresses": ["10.1.0.10-10.1.0.19"]},
            status={"assignedIPv4": 1, "availableIPv4": 9},
        ),
        obj(
            *("v1", "Service", "qwen-public"),
            namespace="models",
            spec={"type": "LoadBalancer", "ports": [{"port": 8000}]},
            status={"loadBalancer": {"ingress": [{"ip": "10.1.0.11"}]}},
        ),
        obj("data.fluid.io/v1alpha1", "Dataset", "llm", namespace="models", status={"phase": "Bound"}),
    ]


KINDS = [
    ("apps/v1", "StatefulSet"),
    ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    *((f"{GATEWAY}/v1", kind) for kind in ("Gateway", "GatewayClass", "HTTPRoute")),
    ("metallb.io/v1beta1", "IPAddressPool"),
    ("data.fluid.io/v1alpha1", "Dataset"),
]


def record(**more: Any) -> Cluster:
    chart = {
        "name": "hydra-agent",
        "namespace": "hydra-system",
        "chart": "hydra/hydra-agent",
        "version": "0.12.3",
        "values": {
            "global": {
                "config": {
                    "cluster_name": "worker-1",
                    "agent_base_url": "https://chat.models.example",
                    "agent_server": {"address": "hydra.example:443", "plaintext": False, "insecure": False},
                }
            }
        },
    }
    return Cluster.model_validate(
        {
            "name": "full",
            "connection": "full",
            "registry": "registry.example/slipway",
            "storage": {"storage_class": "nfs-csi", "access_mode": "ReadWriteMany"},
            "accelerators": {"hami-nvidia": {}},
            "gateway": {
                "name": "gateway",
                "namespace": "gateways",
                "gateway_class": "eg",
                "listeners": [{"name": "https", "port": 443, "certificate": "models-tls"}],
            },
            "setup": {
                "node_labels": {"gpu": "on"},
                "address_pools": [{"name": "pool", "addresses": ["10.1.0.10-10.1.0.19"]}],
                "charts": [chart],
            },
            **more,
        }
    )


def device(**more: Any) -> Accelerator:
    return Accelerator.model_validate(
        {"name": "hami-nvidia", "kind": "nvidia", "offered_by": "hami", "resource": "nvidia.com/gpu", **more}
    )


def subject(**more: Any) -> Subject:
    return Subject.model_validate(
        {
            "endpoint": "qwen",
            "namespace": "models",
            "storage": {
                "claim": "w",
                "storage_class": "nfs-csi",
                "access_mode": "ReadWriteMany",
                "size": "10Gi",
            },
            "images": ("registry.example/vllm:v1-cuda12.8", "registry.example/slipway/tools:1"),
            "tools_image": "registry.example/slipway/tools:1",
            "requests": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "2"},
            "pod_security": "restricted",
            "kinds": ("StatefulSet", "HTTPRoute"),
            "apis": [
                {"api_version": version, "kind": kind} for version, kind in KINDS if kind != "IPAddressPool"
            ],
            "secrets": [
                {"name": "api-key", "keys": ("api-key",)},
                {"name": "s3-credentials", "keys": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
                {"name": "oss-secret", "keys": ("akId", "akSecret")},
            ],
            "routes": [
                {
                    **{
                        "namespace": "models",
                        "name": "qwen",
                        "gateway_namespace": "gateways",
                        "gateway": "gateway",
                    },
                    **{
                        "section": "https",
                        "hosts": ("chat.models.example",),
                        "backends": [("models", "qwen", 8000)],
                    },
                }
            ],
            "balancers": ("qwen-public",),
            "datasets": [("Dataset", "models", "llm")],
            **more,
        }
    )


def site(**more: Any) -> Site:
    own = {
        **{"namespace": "hydra-system", "name": "hydra-agent-knoway", "gateway_namespace": "gateways"},
        **{"gateway": "gateway", "section": "https", "backends": [("hydra-system", "knoway-gateway", 8080)]},
    }
    whole: dict[str, Any] = {
        "record": record(),
        "devices": (device(),),
        "endpoints": (subject(),),
        "routes": (own,),
    }
    return Site.model_validate({**whole, **more})
