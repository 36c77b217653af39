"""Faults that are made in the real cluster, each with the check and the words that must name it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from slipway.catalog.records import Accelerator
from slipway.checks.subject import Site
from slipway.cluster.objects import Ref, ref_of
from tests.cluster.checks_bench import Bench
from tests.unit.checks_snapshot import certificate, encoded

GATEWAY = "gateway.networking.k8s.io"
Break = Callable[[Bench], Site]


def missing_namespace(bench: Bench) -> Site:
    name = f"{bench.namespace}-new"
    ref = Ref(apiVersion="v1", kind="Namespace", name=name)
    bench.left.callback(lambda: bench.cluster.delete(ref))
    return bench.site(bench.subject(namespace=name))


def stricter_namespace(bench: Bench) -> Site:
    bench.run(
        f"kubectl label namespace {bench.namespace} --overwrite pod-security.kubernetes.io/enforce=restricted"
    )
    return bench.site(bench.subject(pod_security="baseline"))


def quota(bench: Bench) -> Site:
    bench.make("v1", "ResourceQuota", "none", spec={"hard": {"requests.cpu": "0", "pods": "9"}})
    return bench.site(bench.subject())


def limit_range(bench: Bench) -> Site:
    limits = [{"type": "Container", "max": {"memory": "16Mi"}}]
    bench.make("v1", "LimitRange", "low", spec={"limits": limits})
    return bench.site(bench.subject())


def missing_secret(bench: Bench) -> Site:
    return bench.site(bench.subject(secrets=[{"name": "new", "keys": ["key"]}]))


def secret_without_key(bench: Bench) -> Site:
    bench.make("v1", "Secret", "half", stringData={"other": "x"})
    return bench.site(bench.subject(secrets=[{"name": "half", "keys": ["key"]}]))


def missing_class(bench: Bench) -> Site:
    name = f"{bench.namespace}-nfs"
    ref = Ref(apiVersion="storage.k8s.io/v1", kind="StorageClass", name=name)
    bench.left.callback(lambda: bench.cluster.delete(ref))
    nfs = [{"storage_class": name, "server": "nfs.example", "share": "/export"}]
    storage = {"storage_class": name, "access_mode": "ReadWriteMany"}
    # Its driver is not here either, which is a fault of its own; the class is what the command makes.
    return bench.site(bench.subject(), storage=storage, setup={"nfs": nfs})


def wrong_label(bench: Bench) -> Site:
    key = f"slipway.io/{bench.namespace}"
    bench.left.callback(lambda: bench.run(f"kubectl label node {bench.node} {key}-"))
    bench.run(f"kubectl label node {bench.node} {key}=off")
    return bench.site(bench.subject(), setup={"node_labels": {key: "on"}})


def closed_node(bench: Bench) -> Site:
    bench.left.callback(lambda: bench.run(f"kubectl uncordon {bench.node}"))
    bench.run(f"kubectl cordon {bench.node}")
    return bench.site(bench.subject())


def simulated(bench: Bench, *, taint: bool) -> Site:
    resource = f"slipway.io/{bench.namespace}"
    node = Ref(apiVersion="v1", kind="Node", name=bench.node)
    status = {"status": {"capacity": {resource: "8"}, "allocatable": {resource: "8"}}}
    gone = {"status": {"capacity": {resource: None}, "allocatable": {resource: None}}}
    bench.left.callback(lambda: bench.cluster.patch(node, gone, subresource="status"))
    bench.cluster.patch(node, status, subresource="status")
    if taint:
        bench.left.callback(lambda: bench.run(f"kubectl taint node {bench.node} {resource}- || true"))
        bench.run(f"kubectl taint node {bench.node} {resource}=off:NoSchedule")
    else:
        bench.left.callback(lambda: bench.run(f"kubectl label node {bench.node} run.ai/fake.gpu-"))
        bench.run(f"kubectl label node {bench.node} run.ai/fake.gpu=true")
    device = {"name": "card", "kind": "nvidia", "offered_by": "kubernetes", "resource": resource}
    return bench.site(bench.subject(), devices=(Accelerator.model_validate(device),))


def passed_over(bench: Bench) -> Site:
    bench.run(f"kubectl label namespace {bench.namespace} hami.io/webhook=ignore")
    device = {"name": "share", "kind": "nvidia", "offered_by": "hami", "resource": "nvidia.com/gpu"}
    return bench.site(bench.subject(), devices=(Accelerator.model_validate(device),))


def scaled_to_nought(bench: Bench) -> Site:
    labels = {"app": "keda"}
    container = {
        "name": "c",
        "image": bench.image,
        "imagePullPolicy": "Never",
        "command": ["sleep", "600"],
        "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    bench.make("apps/v1", "Deployment", "keda-operator", spec=spec)
    return bench.site(bench.subject(apis=[{"api_version": "keda.sh/v1alpha1", "kind": "ScaledObject"}]))


def no_node_port(bench: Bench) -> Site:
    bench.make("v1", "Service", "nodes", spec={"ports": [{"port": 8000}]})
    return bench.site(bench.subject(node_ports=[{"name": "nodes"}]))


def missing_pool(bench: Bench) -> Site:
    ref = Ref(
        apiVersion="metallb.io/v1beta1", kind="IPAddressPool", namespace=bench.namespace, name="scratch"
    )
    bench.left.callback(lambda: bench.cluster.delete(ref))
    pools = [{"name": "scratch", "addresses": ["192.0.2.1-192.0.2.9"]}]
    return bench.site(
        bench.subject(), setup={"address_pools": pools, "address_pool_namespace": bench.namespace}
    )


def gateway_of(bench: Bench, **listener: Any) -> dict[str, Any]:
    return {
        "name": "scratch",
        "namespace": bench.namespace,
        "gateway_class": bench.namespace,
        "listeners": [{"name": "https", "port": 443, "certificate": "models-tls", **listener}],
    }


def missing_gateway(bench: Bench) -> Site:
    ref = Ref(apiVersion=f"{GATEWAY}/v1", kind="Gateway", namespace=bench.namespace, name="scratch")
    bench.left.callback(lambda: bench.cluster.delete(ref))
    return bench.site(bench.subject(), gateway=gateway_of(bench))


def route_elsewhere(bench: Bench) -> Site:
    bench.make("v1", "Service", "right", spec={"ports": [{"port": 8080}]})
    parents = [{"name": "scratch", "namespace": bench.namespace}]
    rules = [{"backendRefs": [{"name": "wrong", "port": 8080}]}]
    bench.make(f"{GATEWAY}/v1", "HTTPRoute", "scratch", spec={"parentRefs": parents, "rules": rules})
    routes = [{"name": "scratch", "namespace": bench.namespace, "service": "right", "port": 8080}]
    return bench.site(bench.subject(), gateway=gateway_of(bench), setup={"routes": routes})


def expired_certificate(bench: Bench, *, type_: str = "kubernetes.io/tls") -> Site:
    spec = {
        "gatewayClassName": bench.namespace,
        "listeners": [
            {
                "name": "https",
                "port": 443,
                "protocol": "HTTPS",
                "hostname": "chat.example",
                "tls": {"certificateRefs": [{"name": "models-tls"}]},
            }
        ],
    }
    bench.make(f"{GATEWAY}/v1", "Gateway", "scratch", spec=spec)
    data = {"tls.crt": encoded(certificate("chat.example", days=-3)), "tls.key": encoded("k")}
    bench.make("v1", "Secret", "models-tls", type=type_, data=data)
    return bench.site(bench.subject(), gateway=gateway_of(bench, host="chat.example"))


def dataset_without_model(bench: Bench) -> Site:
    version = "dataset.baizeai.io/v1alpha1"
    with contextlib.suppress(Exception):
        bench.make("v1", "Namespace", "public", cluster_wide=True)
    metadata = {"name": bench.namespace, "namespace": "public"}
    spec = {"source": {"type": "HTTP", "uri": "http://example.com/x"}}
    made = {"apiVersion": version, "kind": "Dataset", "metadata": metadata, "spec": spec}
    bench.cluster.create(made)
    bench.left.callback(lambda: bench.cluster.delete(ref_of(made)))
    chart = {
        "name": "hydra-agent",
        "namespace": bench.namespace,
        "chart": "hydra/hydra-agent",
        "version": "0.12.3",
    }
    return bench.site(bench.subject(), setup={"charts": [chart]})


FAULTS: dict[str, tuple[Break, str, str]] = {
    "namespace missing": (missing_namespace, "namespace", "no such namespace"),
    "namespace too strict": (stricter_namespace, "namespace", "enforces Pod Security level restricted"),
    "quota 0": (quota, "quotas", "requests.cpu: endpoint one does not fit"),
    "limit range": (limit_range, "quotas", "endpoint one asks for 32Mi"),
    "Secret missing": (missing_secret, "secrets", "no such Secret"),
    "Secret without its key": (secret_without_key, "secrets", "no value for key"),
    "storage class gone": (missing_class, "classes", "no such storage class"),
    "wrong label": (wrong_label, "labels", "on no node"),
    "node closed": (closed_node, "machines", "takes pods"),
    "taint": (lambda bench: simulated(bench, taint=True), "cards", "is not tolerated"),
    "HAMi passes over the namespace": (passed_over, "hami", "passes over its pods"),
    "scaled to 0": (scaled_to_nought, "apis", "it is scaled to 0"),
    "no node port": (no_node_port, "balancers", "it has no node port"),
    "pool missing": (missing_pool, "balancers", "no such pool"),
    "Gateway missing": (missing_gateway, "gateways", "no such Gateway"),
    "route leads elsewhere": (route_elsewhere, "routes", "does not lead to Service"),
    "certificate expired": (expired_certificate, "gateways", "it expired 3 days ago"),
    "certificate expired in a Secret of no type": (
        lambda bench: expired_certificate(bench, type_="Opaque"),
        *("gateways", "it expired 3 days ago"),
    ),
    "data set without its model's name": (
        dataset_without_model,
        "hydra",
        "label hydra.io/model-id is missing",
    ),
}
