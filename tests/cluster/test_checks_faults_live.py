"""Faults made in the real cluster: found, mended by the remedy's own command with the real kubectl, looked at again."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.catalog.read import include_directory
from slipway.checks.findings import Finding, table
from slipway.checks.registry import CHECKS
from slipway.checks.run import run_checks
from slipway.checks.subject import Site
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, Ref, ref_of
from tests.cluster.checks_bench import Bench
from tests.cluster.checks_live_faults import FAULTS, GATEWAY, gateway_of, simulated
from tests.unit.checks_terminal import command_of

SECRETS = ("new", "half", "models-tls")


@pytest.fixture
def bench(
    administrator: Cluster,
    as_slipway: Callable[..., Cluster],
    namespace: str,
    image: str,
    kubeconfig: Path,
    tmp_path: Path,
) -> Iterator[Bench]:
    """A bench that is as it was afterwards."""
    include = Path(shutil.copytree(include_directory(), tmp_path / "include"))
    with contextlib.ExitStack() as left:
        slipway = as_slipway(namespace, may_see=SECRETS, infrastructure=True)
        yield Bench(administrator, slipway, namespace, image, include, kubeconfig, left)


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
    found = run_checks(bench.slipway, site, checks=only)
    [finding] = told(found, check, words)
    command = command_of(finding.remedy)
    assert command, finding.remedy
    bench.run(command, files=key_pair)
    if fault == "scaled to 0":
        bench.run(f"kubectl -n {bench.namespace} rollout status deployment keda-operator --timeout=120s")
    if fault == "quota 0":  # its controller says what counts from now on
        counts = r"jsonpath='{.status.hard.requests\.cpu}'=10m"
        bench.run(f"kubectl -n {bench.namespace} wait resourcequota none --for={counts} --timeout=60s")
    again = run_checks(bench.slipway, site, checks=only)
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


AGENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME, namespace: {{ .Release.Namespace }}}
spec:
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {name: c, image: IMAGE, imagePullPolicy: Never, command: [sleep, "600"]}
"""
CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: hydra-agent, namespace: {{ .Release.Namespace }}}
data:
  config.yaml: |
    {{- toYaml .Values.global.config | nindent 4 }}
"""


@pytest.fixture
def hydra(bench: Bench, tmp_path: Path) -> Site:
    """A worker of Hydra whose agent's chart is a small one of our own: the real one is not to be had."""
    chart = tmp_path / "hydra-agent"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: hydra-agent\nversion: 0.12.3\n")
    for name in ("hydra-agent", "knoway-gateway"):
        text = AGENT.replace("NAME", name).replace("IMAGE", bench.image)
        (chart / "templates" / f"{name}.yaml").write_text(text)
    (chart / "templates" / "config.yaml").write_text(CONFIG)
    server = {"address": "hydra.example:443", "plaintext": False, "insecure": False}
    config = {"cluster_name": "worker-1", "agent_base_url": "http://models.example", "agent_server": server}
    setup = {
        "name": "hydra-agent",
        "namespace": bench.namespace,
        "chart": str(chart),
        "version": "0.12.3",
        "values": {"global": {"config": config}},
    }
    bench.left.callback(lambda: bench.run(f"helm -n {bench.namespace} uninstall hydra-agent || true"))
    return bench.site(bench.subject(), setup={"charts": [setup]})


def test_hydras_agent_is_installed_and_corrected_by_its_charts_values(bench: Bench, hydra: Site) -> None:
    only = [one for one in CHECKS if one.id == "hydra"]
    found = run_checks(bench.slipway, hydra, checks=only)
    [agent] = [one for one in told(found, "hydra", "no Deployment") if one.about == "Hydra's agent"]
    bench.run(command_of(agent.remedy))
    bench.run(f"kubectl -n {bench.namespace} rollout status deployment hydra-agent --timeout=120s")
    settings = f"ConfigMap {bench.namespace}/hydra-agent"
    ours = [one for one in run_checks(bench.slipway, hydra, checks=only) if one.about == settings]
    assert [one.severity for one in ours] == ["ok"], table(ours)

    config_map = Ref(apiVersion="v1", kind="ConfigMap", namespace=bench.namespace, name="hydra-agent")
    bench.cluster.patch(config_map, {"data": {"config.yaml": "cluster_name: worker-2\n"}})
    [wrong] = told(run_checks(bench.slipway, hydra, checks=only), "hydra", "cluster_name is 'worker-2'")
    bench.run(command_of(wrong.remedy))
    ours = [one for one in run_checks(bench.slipway, hydra, checks=only) if one.about == settings]
    assert [one.severity for one in ours] == ["ok"], table(ours)


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
        [finding] = told(run_checks(bench.slipway, site, checks=only), "gateway-api", "not installed")
        assert name in finding.about and "v1.2.1/standard-install.yaml" in finding.remedy
    finally:
        bench.cluster.create(again)
        bench.run(f"kubectl wait --for=condition=Established crd/{name} --timeout=60s")
    assert told(run_checks(bench.slipway, site, checks=only), "gateway-api", "") == []


def test_simulated_cards_that_are_offered_as_real_are_blocking(bench: Bench) -> None:
    site = simulated(bench, taint=False)
    found = run_checks(bench.slipway, site, checks=[one for one in CHECKS if one.id == "simulated"])
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
        bench.slipway,
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
        bench.slipway,
        bench.site(bench.subject(storage=storage)),
        checks=[one for one in CHECKS if one.id == "storage"],
    )
    [finding] = told(found, "storage", "nobody makes its volume")
    assert finding.about.endswith(f"{bench.namespace}/w")
