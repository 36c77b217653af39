"""What is meant to run in the cluster of the snapshot: its record, its devices, one endpoint."""

from __future__ import annotations

from typing import Any

from slipway.catalog.records import Accelerator, Cluster
from slipway.checks.subject import Site, Subject

GATEWAY = "gateway.networking.k8s.io"
KINDS = [
    ("apps/v1", "StatefulSet"),
    ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
    ("keda.sh/v1alpha1", "ScaledObject"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
    *((f"{GATEWAY}/v1", kind) for kind in ("Gateway", "GatewayClass", "HTTPRoute")),
    ("metallb.io/v1beta1", "IPAddressPool"),
    ("data.fluid.io/v1alpha1", "Dataset"),
    ("data.fluid.io/v1alpha1", "JindoRuntime"),
    ("dataset.baizeai.io/v1alpha1", "Dataset"),
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
                "listeners": [
                    {"name": "http", "port": 80},
                    {"name": "https", "port": 443, "certificate": "models-tls"},
                ],
            },
            "setup": {
                "nfs": [{"storage_class": "nfs-csi", "server": "nfs.example", "share": "/export"}],
                "routes": [
                    {
                        "name": "hydra-agent-knoway",
                        "namespace": "hydra-system",
                        "service": "knoway-gateway",
                        "port": 8080,
                    }
                ],
                "node_labels": {"gpu": "on"},
                "address_pools": [{"name": "pool", "addresses": ["10.1.0.10-10.1.0.19"]}],
                "charts": [
                    chart,
                    {
                        "name": "hydra",
                        "namespace": "hydra-system",
                        "chart": "hydra/hydra",
                        "version": "0.12.3",
                    },
                    {
                        "name": "hami",
                        "namespace": "kube-system",
                        "chart": "hami-charts/hami",
                        "version": "2.7.1",
                    },
                    {
                        "name": "csi-driver-nfs",
                        "namespace": "kube-system",
                        "chart": "csi-driver-nfs/csi-driver-nfs",
                        "version": "4.13.4",
                    },
                ],
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
                {"api_version": version, "kind": kind}
                for version, kind in KINDS
                if kind != "IPAddressPool" and "baizeai" not in version
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
            "node_ports": [{"name": "qwen-nodes", "node_port": 30080}],
            "datasets": [("Dataset", "models", "llm"), ("JindoRuntime", "models", "llm")],
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
