"""One healthy cluster as a list of objects."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from slipway.cluster.objects import Object
from tests.unit.checks_site import GATEWAY, KINDS, device, record, site, subject

__all__ = ["KINDS", "device", "record", "site", "subject"]


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
    # Half a day more: it is made when a run of tests begins, and may be looked at hours later.
    end = datetime.now(UTC) + timedelta(days=days, hours=12)
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


def lease(name: str, *, ahead: float = 0) -> Object:
    renewed = datetime.now(UTC) + timedelta(seconds=ahead)
    spec = {"renewTime": renewed.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "leaseDurationSeconds": 40}
    return obj("coordination.k8s.io/v1", "Lease", name, namespace="kube-node-lease", spec=spec)


HYDRA_CONFIG = """
cluster_name: worker-1
agent_base_url: https://chat.models.example
agent_server: {address: hydra.example:443, plaintext: false, insecure: false}
"""


SERVER_CONFIG = """
db_config:
  dbType: mysql
  dsn: hydra:secret@tcp(mysql-master.mcamel-system.svc.cluster.local:3306)/hydra?charset=utf8mb4
redis_config: {addr: "redis.mcamel-system:6379", password: secret}
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
    objects = [
        node("gpu-1"),
        node("gpu-2"),
        obj("v1", "Pod", "other", namespace="elsewhere", spec=serving, status={"phase": "Running"}),
        lease("gpu-1"),
        lease("gpu-2"),
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
        obj(
            *("data.fluid.io/v1alpha1", "JindoRuntime", "llm"),
            namespace="models",
            status={"workerPhase": "Ready", "cacheStates": {"cachedPercentage": "100.0%"}},
        ),
        obj(
            *("dataset.baizeai.io/v1alpha1", "Dataset", "qwen3-0.6b"),
            namespace="public",
            labels={"hydra.io/model-id": "qwen3-0.6b"},
            status={"phase": "READY"},
        ),
        obj(
            *("v1", "Service", "qwen-nodes"),
            namespace="models",
            spec={"type": "NodePort", "ports": [{"port": 8000, "nodePort": 30080}]},
        ),
        claim(),
        # Hydra's global side, in the same cluster: its guide allows that.
        deployment("hydra-system", "hydra"),
        deployment("istio-system", "istiod"),
        obj("v1", "ConfigMap", "hydra", namespace="hydra-system", data={"config.yaml": SERVER_CONFIG}),
        *service("mcamel-system", "mysql-master", 3306),
        *service("mcamel-system", "redis", 6379),
    ]
    given = {one["metadata"]["name"] for one in objects if one["kind"] == "Namespace"}
    used = {one["metadata"].get("namespace") for one in objects} - {None, *given}
    return [*objects, *(obj("v1", "Namespace", name) for name in sorted(used))]


def claim(**more: Any) -> Object:
    spec = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "nfs-csi",
        "resources": {"requests": {"storage": "10Gi"}},
    }
    status = {"phase": "Bound", "capacity": {"storage": "10Gi"}}
    made = obj("v1", "PersistentVolumeClaim", "w", namespace="models", spec=spec, status={**status, **more})
    made["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    return made
