"""Faults of namespaces, volumes, Secrets, and of other people's programs."""

from __future__ import annotations

from tests.unit import checks_snapshot as snapshot
from tests.unit.checks_broken import Fault, change, hydra, silent, without

FAULTS: dict[str, Fault] = {
    "no namespace": (without("Namespace", "models"), "namespace", "models", "no such namespace", "blocking"),
    "namespace ends": (
        change("Namespace", "models", "status", {"phase": "Terminating"}),
        *("namespace", "models", "being deleted", "blocking"),
    ),
    "quota 0": (
        change("ResourceQuota", "quota", "spec|hard|requests.cpu", "0"),
        *("quotas", "models/quota", "does not fit", "blocking"),
    ),
    "quota of pods": (
        change("ResourceQuota", "quota", "spec|hard|pods", "0"),
        *("quotas", "models/quota", "pods: endpoint qwen", "blocking"),
    ),
    "limit range": (
        change("LimitRange", "limits", "spec|limits|0|max|memory", "32Gi"),
        *("quotas", "models/limits", "asks for 64Gi", "blocking"),
    ),
    "limit range for claims": (
        change(
            "LimitRange",
            "limits",
            "spec|limits|0",
            {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
        ),
        *("quotas", "models/limits", "asks for 10Gi", "blocking"),
    ),
    "webhook down": (
        silent("fluid-pod-admission-webhook"),
        *("webhooks", "fluid-pod-admission-webhook", "every such object is refused", "blocking"),
    ),
    "storage class gone": (
        without("StorageClass", "nfs-csi"),
        "classes",
        "nfs-csi",
        "no such storage class",
        "blocking",
    ),
    "CSI driver gone": (
        without("CSIDriver", "nfs.csi.k8s.io"),
        "classes",
        "nfs-csi",
        "is not installed",
        "blocking",
    ),
    "class of one node": (
        change("StorageClass", "nfs-csi", "provisioner", "rancher.io/local-path"),
        *("classes", "nfs-csi", "keeps each volume on one node", "warning"),
    ),
    "secret gone": (without("Secret", "api-key"), "secrets", "models/api-key", "no such Secret", "blocking"),
    "S3 key gone": (
        change("Secret", "s3-credentials", "data|AWS_SECRET_ACCESS_KEY", None),
        *("secrets", "models/s3-credentials", "no value for AWS_SECRET_ACCESS_KEY", "blocking"),
    ),
    "OSS key gone": (
        change("Secret", "oss-secret", "data|akSecret", None),
        *("secrets", "models/oss-secret", "no value for akSecret", "blocking"),
    ),
    "LeaderWorkerSet's controller down": (
        change("Deployment", "lws-controller-manager", "status|readyReplicas", 0),
        *("apis", "LeaderWorkerSet", "0 of 1", "blocking"),
    ),
    "KEDA down": (
        change("Deployment", "keda-operator", "status|readyReplicas", 0),
        *("apis", "KEDA", "0 of 1", "blocking"),
    ),
    "Prometheus operator not found": (
        without("Deployment", "prometheus-operator"),
        *("apis", "the Prometheus operator", "may run in another way", "not checked"),
    ),
    "agent gone": (without("Deployment", "hydra-agent"), "hydra", "Hydra's agent", "brings it", "blocking"),
    "agent down": (
        change("Deployment", "hydra-agent", "status|readyReplicas", 0),
        *("hydra", "Hydra's agent", "0 of 1", "blocking"),
    ),
    "agent not configured": (
        without("ConfigMap", "hydra-agent"),
        "hydra",
        "ConfigMap",
        "no such ConfigMap",
        "blocking",
    ),
    "agent of another cluster": (
        hydra("worker-1", "worker-2"),
        "hydra",
        "ConfigMap",
        "cluster_name is 'worker-2'",
        "blocking",
    ),
    "agent's base URL": (
        hydra("https://chat.models.example", "http:/chat"),
        *("hydra", "ConfigMap", "agent_base_url is 'http:/chat'", "blocking"),
    ),
    "agent's server": (
        hydra("hydra.example:443", "x:443"),
        "hydra",
        "ConfigMap",
        "agent_server.address",
        "blocking",
    ),
    "agent's TLS mode": (
        hydra("plaintext: false", "plaintext: true"),
        "hydra",
        "ConfigMap",
        "plaintext is True",
        "blocking",
    ),
    "agent's setting not found": (
        hydra("cluster_name", "name"),
        "hydra",
        "ConfigMap",
        "cluster_name is not found",
        "not checked",
    ),
    "no namespace for shared data sets": (
        without("Namespace", "public"),
        *("hydra", "Namespace public", "not there", "blocking"),
    ),
    "data set failed": (
        change(
            "Dataset", "llm", "status", {"phase": "Failed", "conditions": [{"message": "no such bucket"}]}
        ),
        *("datasets", "models/llm", "no such bucket", "blocking"),
    ),
    "Fluid down": (
        change("Deployment", "dataset-controller", "status|readyReplicas", 0),
        *("datasets", "Fluid's dataset controller", "0 of 1", "blocking"),
    ),
    "Fluid's webhook gone": (
        without("MutatingWebhookConfiguration", "fluid-pod-admission-webhook"),
        *("datasets", "Fluid's webhook", "not registered", "warning"),
    ),
    "claim not bound": (
        change("PersistentVolumeClaim", "w", "status", {"phase": "Pending"}),
        *("storage", "models/w", "has made no volume for it", "blocking"),
    ),
    "claim lost": (
        change("PersistentVolumeClaim", "w", "status|phase", "Lost"),
        *("storage", "models/w", "is lost", "blocking"),
    ),
    "claim too small": (
        change("PersistentVolumeClaim", "w", "status|capacity|storage", "5Gi"),
        *("storage", "models/w", "it has 5Gi, 10Gi are needed", "blocking"),
    ),
    "claim of one node": (
        change("PersistentVolumeClaim", "w", "spec|accessModes", ["ReadWriteOnce"]),
        *("storage", "models/w", "ReadWriteMany is needed", "blocking"),
    ),
    "claim of another class": (
        change("PersistentVolumeClaim", "w", "spec|storageClassName", "other"),
        *("storage", "models/w", "its storage class is other", "blocking"),
    ),
    "claim is being deleted": (
        change("PersistentVolumeClaim", "w", "metadata|deletionTimestamp", "2026-01-01T00:00:00Z"),
        *("storage", "models/w", "being deleted", "blocking"),
    ),
    "a Deployment scaled to 0": (
        change("Deployment", "keda-operator", "spec|replicas", 0),
        *("apis", "KEDA", "it is scaled to 0", "blocking"),
    ),
    "a data set without its model's name": (
        change("Dataset", "qwen3-0.6b", "metadata|labels", {}),
        *("hydra", "public/qwen3-0.6b", "label hydra.io/model-id is missing", "warning"),
    ),
    "cache not ready": (
        change("JindoRuntime", "llm", "status", {"workerPhase": "NotReady"}),
        *("datasets", "JindoRuntime models/llm", "its phase is NotReady", "blocking"),
    ),
    "Hydra down": (
        change("Deployment", "hydra", "status|readyReplicas", 0),
        *("hydra-server", "Hydra (Deployment", "0 of 1", "blocking"),
    ),
    "Hydra gone": (
        without("Deployment", "hydra"),
        *("hydra-server", "Hydra", "chart hydra of the cluster's record brings it", "blocking"),
    ),
    "Hydra not configured": (
        without("ConfigMap", "hydra"),
        *("hydra-server", "ConfigMap hydra-system/hydra", "no such ConfigMap", "blocking"),
    ),
    "Istio down": (
        change("Deployment", "istiod", "status|readyReplicas", 0),
        *("hydra-server", "Istio", "0 of 1", "blocking"),
    ),
    "Istio not found": (
        without("Deployment", "istiod"),
        *("hydra-server", "Istio", "may run in another way", "not checked"),
    ),
    "Hydra's MySQL down": (
        silent("mysql-master"),
        *("hydra-server", "Hydra's MySQL", "leads to no ready pod", "blocking"),
    ),
    "Hydra's MySQL gone": (
        without("Service", "mysql-master"),
        *("hydra-server", "Hydra's MySQL", "there is no Service", "blocking"),
    ),
    "Hydra's Redis down": (
        silent("redis"),
        *("hydra-server", "Hydra's Redis", "leads to no ready pod", "blocking"),
    ),
    "Hydra's Redis of another port": (
        change("Service", "redis", "spec|ports|0|port", 26379),
        *("hydra-server", "Hydra's Redis", "has port 26379", "blocking"),
    ),
    "Hydra names no Redis": (
        change(
            *("ConfigMap", "hydra", "data|config.yaml"),
            snapshot.SERVER_CONFIG[: snapshot.SERVER_CONFIG.index("redis_config")],
        ),
        *("hydra-server", "ConfigMap", "it names no redis", "not checked"),
    ),
}
