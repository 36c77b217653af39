"""Faults made in the real cluster: found, mended by the remedy's own command with the real kubectl, looked at again."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.catalog.read import include_directory, read_catalog
from slipway.catalog.records import Accelerator
from slipway.checks.findings import Finding, table
from slipway.checks.plan import site_of
from slipway.checks.registry import CHECKS
from slipway.checks.run import run_checks
from slipway.checks.subject import Site, Subject
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, Ref, ref_of
from tests.unit.checks_snapshot import certificate, encoded
from tests.unit.checks_terminal import command_of

PROJECT = Path(__file__).resolve().parents[2]
GATEWAY = "gateway.networking.k8s.io"
ROLES = "rbac.authorization.k8s.io"


@dataclass
class Bench:
    """A cluster to break: a namespace and a cluster record of the test's own, and everything is put back at the end."""

    cluster: Cluster
    namespace: str
    image: str
    include: Path
    kubeconfig: Path
    left: contextlib.ExitStack

    @property
    def node(self) -> str:
        return str(self.cluster.list(api_version="v1", kind="Node")[0]["metadata"]["name"])

    def make(self, api_version: str, kind: str, name: str, **more: Any) -> Ref:
        """Make an object; it goes at the end. In the namespace, unless ``cluster_wide``."""
        place = {} if more.pop("cluster_wide", False) else {"namespace": self.namespace}
        metadata = {"name": name, **place, "labels": more.pop("labels", {})}
        made = {"apiVersion": api_version, "kind": kind, "metadata": metadata, **more}
        self.cluster.create(made)
        ref = ref_of(made)
        self.left.callback(lambda: self.cluster.delete(ref))
        return ref

    def run(self, command: str, *, files: tuple[Path, Path] | None = None) -> str:
        """Type a command, with what a person would have to fill in."""
        line, _, text = command.replace("…", "hunter2").partition("\n")
        if files:
            line = line.replace("--cert=FILE", f"--cert={files[0]}").replace(
                "--key=FILE", f"--key={files[1]}"
            )
        programs = f"{self.kubeconfig.parents[1] / 'bin'}:{PROJECT / '.venv/bin'}:{os.environ['PATH']}"
        environment = {
            **os.environ,
            "PATH": programs,
            "KUBECONFIG": str(self.kubeconfig),
            "SLIPWAY_INCLUDE": str(self.include),
        }
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            input=text,
            text=True,
            env=environment,
            capture_output=True,
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done.stdout

    def subject(self, **more: Any) -> Subject:
        return Subject.model_validate(
            {
                "endpoint": "one",
                "namespace": self.namespace,
                "images": (self.image,),
                "tools_image": self.image,
                "requests": {"cpu": "10m", "memory": "32Mi"},
                **more,
            }
        )

    def site(self, *endpoints: Subject, devices: tuple[Accelerator, ...] = (), **record: Any) -> Site:
        """A site whose cluster record is in a catalog, so that `slipway render --cluster scratch` has it too."""
        whole = {
            "name": "scratch",
            "connection": "scratch",
            "registry": "localhost/slipway",
            "storage": {"storage_class": "local-path", "access_mode": "ReadWriteOnce"},
            "accelerators": {"cpu": {}},
            **record,
        }
        path = self.include / "catalog" / "clusters" / "scratch.yaml"
        path.write_text(yaml.safe_dump(whole), encoding="utf-8")
        site = site_of(read_catalog(self.include), "scratch", include=self.include)
        return site.model_copy(update={"endpoints": endpoints, "devices": devices or site.devices})


@pytest.fixture
def bench(cluster: Cluster, namespace: str, image: str, kubeconfig: Path, tmp_path: Path) -> Iterator[Bench]:
    """A bench that is as it was afterwards."""
    include = Path(shutil.copytree(include_directory(), tmp_path / "include"))
    with contextlib.ExitStack() as left:
        yield Bench(cluster, namespace, image, include, kubeconfig, left)


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


def expired_certificate(bench: Bench) -> Site:
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
    bench.make("v1", "Secret", "models-tls", type="Opaque", data=data)
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
    "data set without its model's name": (
        dataset_without_model,
        "hydra",
        "label hydra.io/model-id is missing",
    ),
}


def told(found: list[Finding], check: str, words: str) -> list[Finding]:
    return [
        one
        for one in found
        if one.check == check and words in one.reason and one.severity in ("blocking", "warning")
    ]


@pytest.fixture
def key_pair(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of chat.example with its key, as files."""
    files = (tmp_path / "tls.crt", tmp_path / "tls.key")
    options = (
        "req -x509 -newkey rsa:2048 -nodes -days 90 -subj /CN=models -addext subjectAltName=DNS:chat.example"
    )
    places = ["-keyout", str(files[1]), "-out", str(files[0])]
    subprocess.run(["openssl", *options.split(), *places], check=True, capture_output=True)
    return files


@pytest.mark.parametrize("fault", FAULTS)
def test_a_real_fault_is_found_and_mended_by_its_own_remedy(
    fault: str, bench: Bench, key_pair: tuple[Path, Path]
) -> None:
    break_it, check, words = FAULTS[fault]
    site = break_it(bench)
    only = [one for one in CHECKS if one.id == check]
    found = run_checks(bench.cluster, site, checks=only)
    [finding] = told(found, check, words)
    command = command_of(finding.remedy)
    assert command, finding.remedy
    bench.run(command, files=key_pair)
    if fault == "scaled to 0":
        bench.run(f"kubectl -n {bench.namespace} rollout status deployment keda-operator --timeout=120s")
    again = run_checks(bench.cluster, site, checks=only)
    assert told(again, check, words) == [], table(again)


def test_a_right_that_is_taken_away_is_given_back_by_the_role_that_is_printed(
    bench: Bench, as_slipway: Callable[..., Cluster]
) -> None:
    limited = as_slipway(bench.namespace, user=f"{bench.namespace}-user", without="leases")
    only = [one for one in CHECKS if one.id == "permissions"]
    site = bench.site(bench.subject())
    [finding] = told(run_checks(limited, site, checks=only), "permissions", "leases")
    bench.run(command_of(finding.remedy))
    assert told(run_checks(limited, site, checks=only), "permissions", "leases") == []


# What no command of a remedy mends here: an installation from the network, and what a person has to look into.


def test_a_definition_that_is_taken_away_is_missed(bench: Bench) -> None:
    name = f"referencegrants.{GATEWAY}"
    kept = bench.cluster.get(
        api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition", name=name
    )
    assert kept is not None
    ref = ref_of(kept)
    again: Object = {
        **{key: kept[key] for key in ("apiVersion", "kind", "spec")},
        "metadata": {key: kept["metadata"][key] for key in ("name", "annotations", "labels")},
    }
    only = [one for one in CHECKS if one.id == "gateway-api"]
    site = bench.site(bench.subject(), gateway=gateway_of(bench))
    bench.cluster.delete(ref)
    bench.run(f"kubectl wait --for=delete crd/{name} --timeout=60s")
    try:
        [finding] = told(run_checks(bench.cluster, site, checks=only), "gateway-api", "not installed")
        assert name in finding.about and "v1.2.1/standard-install.yaml" in finding.remedy
    finally:
        bench.cluster.create(again)
        bench.run(f"kubectl wait --for=condition=Established crd/{name} --timeout=60s")
    assert told(run_checks(bench.cluster, site, checks=only), "gateway-api", "") == []


def test_simulated_cards_that_are_offered_as_real_are_blocking(bench: Bench) -> None:
    site = simulated(bench, taint=False)
    found = run_checks(bench.cluster, site, checks=[one for one in CHECKS if one.id == "simulated"])
    [finding] = told(found, "simulated", "are simulated")
    assert finding.severity == "blocking" and bench.node in finding.reason


def test_a_webhook_without_anybody_behind_it_is_found(bench: Bench) -> None:
    bench.make("v1", "Service", "nobody", spec={"ports": [{"port": 443}]})
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    hook = {
        "name": "nobody.slipway.io",
        "clientConfig": {"service": {"namespace": bench.namespace, "name": "nobody", "path": "/"}},
        "rules": [rule],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        # It must not see anybody else's pods.
        "objectSelector": {"matchLabels": {"slipway.io/nobody": bench.namespace}},
    }
    bench.make(
        *("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", bench.namespace),
        cluster_wide=True,
        webhooks=[hook],
    )
    found = run_checks(
        bench.cluster,
        bench.site(bench.subject()),
        checks=[one for one in CHECKS if one.id == "webhooks"],
    )
    [finding] = told(found, "webhooks", "leads to no ready pod")
    assert bench.namespace in finding.about and f"-n {bench.namespace}" in finding.remedy


def test_a_claim_whose_class_is_gone_is_found(bench: Bench) -> None:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": f"{bench.namespace}-gone",
        "resources": {"requests": {"storage": "1Gi"}},
    }
    bench.make("v1", "PersistentVolumeClaim", "w", spec=spec)
    storage = {"claim": "w", "storage_class": spec["storageClassName"], "size": "1Gi"}
    found = run_checks(
        bench.cluster,
        bench.site(bench.subject(storage=storage)),
        checks=[one for one in CHECKS if one.id == "storage"],
    )
    [finding] = told(found, "storage", "nobody makes its volume")
    assert finding.about.endswith(f"{bench.namespace}/w")
