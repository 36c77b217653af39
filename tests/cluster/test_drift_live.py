"""What people change with kubectl about an endpoint on the real cluster, and what a look at it then says."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from slipway.catalog.read import include_directory, read_catalog
from slipway.cluster.apply import apply
from slipway.cluster.client import Cluster
from slipway.cluster.drift import drifts_of
from slipway.cluster.listed import ListedCluster
from slipway.cluster.objects import ref_of
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render
from slipway.operators.drift import differences
from slipway.releases.lines import line_of_difference
from slipway.releases.records import Release
from tests.cluster import test_rollouts_live
from tests.cluster.test_rollouts_live import Stage

stage = test_rollouts_live.stage
Kubectl = Callable[..., None]


@pytest.fixture
def cluster(slipway: Cluster) -> Cluster:
    """What is tried here acts with Slipway's own rights."""
    return slipway


@pytest.fixture
def kubectl(kubeconfig: Path, namespace: str) -> Kubectl:
    """The real kubectl in the test's namespace."""
    program = kubeconfig.parents[1] / "bin" / "kubectl"
    command = [str(program) if program.exists() else "kubectl", f"--kubeconfig={kubeconfig}", "-n", namespace]

    def run(*arguments: str, editor: str = "false") -> None:
        environment = {**os.environ, "KUBE_EDITOR": editor}
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
def look(cluster: Cluster) -> Callable[[Release], list[str]]:
    """Compare a release with the cluster; the lines without their times."""

    def lines(release: Release) -> list[str]:
        found = differences(ListedCluster(cluster), release)
        assert all(one["at"] for one in found if one["manager"])
        return sorted(line_of_difference({**one, "at": ""}) for one in found)

    return lines


def test_each_change_by_hand_is_named_with_its_manager(
    stage: Stage, kubectl: Kubectl, look: Callable[[Release], list[str]], namespace: str
) -> None:
    release = stage.deploy("one")
    assert look(release) == []
    probe_service = f"ramp-r-{release.label[:8]}"

    kubectl("set", "image", "statefulset/ramp", "server=example.com/other:1")
    kubectl("edit", "statefulset/ramp", editor="sed -i 's/cpu: 5m/cpu: 6m/'")
    kubectl("delete", "service", probe_service)
    kubectl("scale", "statefulset/ramp", "--replicas=0")
    kubectl("label", "service/ramp", "team=b")
    kubectl("patch", "service/ramp", "-p", '{"spec": {"publishNotReadyAddresses": true}}')

    container = f"StatefulSet {namespace}/ramp: spec.template.spec.containers[name=server]"
    image = f"{container}.image was {stage.image}, is example.com/other:1, changed by kubectl-set"
    assert look(release) == [
        f"Service {namespace}/{probe_service} is gone: somebody deleted it",
        f"Service {namespace}/ramp: spec.publishNotReadyAddresses is true, added by kubectl-patch",
        image,
        f"{container}.resources.requests.cpu was 5m, is 6m, changed by kubectl-edit",
    ]


def test_what_is_put_right_is_as_it_was_released(
    stage: Stage, kubectl: Kubectl, look: Callable[[Release], list[str]], namespace: str
) -> None:
    release = stage.deploy("one")
    kubectl("delete", "statefulset/ramp", "--cascade=orphan")
    assert look(release) == [f"StatefulSet {namespace}/ramp is gone: somebody deleted it"]

    kubectl("delete", "pod", "ramp-0", "--now")
    newer = stage.deploy("one", strategy="recreate")

    assert look(newer) == []
    green = stage.deploy("two", strategy="blue-green")
    assert look(green) == [], "the other name of its workload is no difference"


EVERYTHING: dict[str, Any] = {
    "replicas": 0,
    "disruption_budget": True,
    "network_policy": {"from_namespaces": [{"team": "a"}]},
    "service_monitor": True,
    "compile_cache": "1Gi",
    "exposure": {
        "services": [{"type": "NodePort"}, {"type": "LoadBalancer", "port": 80}],
        "ingress": {"host": "ramp.example.com"},
        "route": {"host": "ramp.example.com", "allow_origin": "*"},
    },
}
OFFERED: dict[str, Any] = {
    "ingress": {},
    "load_balancers": {"annotations": {"a": "b"}},
    "gateway": {"name": "gateway", "namespace": "default"},
    "monitoring": {"prometheus": "http://prometheus:9090", "metrics_adapter": True},
}
SHAPES: list[dict[str, Any]] = [
    {"autoscaling": {"by": "hpa", "maximum": 2, "waiting_requests": 5, "kv_cache_percent": 80}},
    {"autoscaling": {"by": "keda", "maximum": 2, "kv_cache_percent": 80, "ttft_seconds": 1.5}},
    {"controller": "Deployment"},
]


@pytest.mark.parametrize("shape", SHAPES, ids=["hpa", "keda", "deployment"])
def test_what_the_server_made_of_an_apply_is_nobodys_change(
    shape: dict[str, Any], cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    include = Path(copytree(include_directory(), tmp_path / "include"))
    for path, change in (
        ("endpoints/qwen3-tiny", {**EVERYTHING, "namespace": namespace, "replicas": 1, **shape}),
        ("clusters/sandbox", OFFERED),
    ):
        record = include / "catalog" / f"{path}.yaml"
        record.write_text(yaml.safe_dump({**yaml.safe_load(record.read_text()), **change}))
    rendered = render(make_plan(read_catalog(include), "qwen3-tiny", include=include), include=include)
    objects = [
        {**one, "spec": {**one["spec"], "replicas": 0}} if "replicas" in one.get("spec", {}) else one
        for one in rendered.objects()
    ]

    for _ in range(2):
        apply(cluster, objects)
        listed = ListedCluster(cluster)
        found = [
            drift
            for one in rendered.objects()
            for ref in [ref_of(one)]
            for drift in drifts_of(
                one,
                listed.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name),
            )
        ]
        assert found == []
