"""What the source documents deploy is in the catalog, and every difference from them is on purpose."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.catalog.read import read_catalog
from slipway.manifests.cluster_objects import render_cluster
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render
from tests.unit.documents import (
    DOCUMENTS,
    PAGE,
    Comparison,
    Difference,
    Listed,
    compare,
    document_objects,
    page,
    recorded,
)

CATALOG = read_catalog()
COMPARISONS = recorded().comparisons


def title(comparison: Comparison) -> str:
    return f"{comparison.document}:{comparison.object}"


@cache
def differences(number: int) -> list[Difference]:
    return compare(COMPARISONS[number], CATALOG)


NUMBERED = [pytest.param(number, id=title(one)) for number, one in enumerate(COMPARISONS)]


@pytest.mark.parametrize("number", NUMBERED)
def test_our_object_says_what_the_document_says_but_for_the_differences_that_are_listed(number: int) -> None:
    reasons = [*COMPARISONS[number].listed, *recorded().everywhere]

    unlisted = [one for one in differences(number) if not any(reason.covers(one) for reason in reasons)]

    assert not unlisted, "\n".join(["not in differences.yaml:", *map(str, unlisted)])


@pytest.mark.parametrize("number", NUMBERED)
def test_every_listed_difference_is_still_there(number: int) -> None:
    gone = [one.path for one in COMPARISONS[number].listed if not any(map(one.covers, differences(number)))]

    assert not gone, f"in differences.yaml, but no longer different: {gone}"


def test_every_difference_that_is_listed_for_all_is_somewhere() -> None:
    everything = [one for number in range(len(COMPARISONS)) for one in differences(number)]
    gone = [listed.path for listed in recorded().everywhere if not any(map(listed.covers, everything))]

    assert not gone


def test_every_object_of_the_documents_is_compared_or_it_is_said_why_not() -> None:
    compared = [(one.document, one.object) for one in COMPARISONS]

    assert sorted([*compared, *recorded().not_compared]) == sorted(document_objects())


def test_the_page_says_what_the_comparison_found() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.unit.documents"


def test_a_difference_is_covered_by_its_path_alone_or_by_a_pattern() -> None:
    difference = Difference("pod.containers.0.env.A.value", "1", None)

    assert Listed("pod.containers.0.env.A.value", "").covers(difference)
    assert Listed("pod.*.env.*", "").covers(difference)
    assert not Listed("pod.containers.0.env.A", "").covers(difference)


def test_what_changes_in_the_catalog_is_noticed(include: Path, change: Callable[..., None]) -> None:
    change("endpoints/qwen3-235b-a22b", resources={"cpu": "17", "memory": "256Gi"}, env={"NEW": "1"})

    found = compare(COMPARISONS[0], read_catalog(include))
    changed = {one.path: (one.theirs, one.ours) for one in found if one not in differences(0)}

    assert changed["pod.containers.0.resources.requests.cpu"] == ("16", "17")
    assert changed["pod.containers.0.resources.limits.cpu"] == ("64", None)
    assert changed["pod.containers.0.env.NEW.value"] == (None, "1")


def test_the_documents_hold_no_secret_values() -> None:
    secrets = [
        one for one in document_objects().values() if isinstance(one, dict) and one.get("kind") == "Secret"
    ]

    assert secrets and not any(value for one in secrets for value in one["data"].values())


MUST_EXIST = {
    "qwen3-235b-a22b": {"cluster": "ai-serving", "namespace": "ai-serving", "accelerator": "hami-nvidia"},
    "qwq-32b-acs": {"cluster": "acs", "namespace": "llm-model"},
    "deepseek-r1-671b-h20": {"accelerator": "acs-h20", "namespace": "llm-model", "served_name": "ds"},
    "deepseek-r1-671b-ppu": {"accelerator": "acs-ppu", "namespace": "llm-model", "served_name": "ds"},
    "deepseek-r1-distill-qwen-32b-ppu": {"accelerator": "acs-ppu", "namespace": "llm-model"},
    "deepseek-r1-distill-llama-70b-ppu": {"namespace": "llm-model", "served_name": "ds"},
    "qwen3-0.6b-cpu": {"cluster": "hydra-worker", "accelerator": "cpu"},
}


@pytest.mark.parametrize("name", MUST_EXIST)
def test_the_endpoints_of_the_documents_are_there(name: str) -> None:
    assert MUST_EXIST[name].items() <= CATALOG.endpoints[name].model_dump().items()


@pytest.mark.parametrize("program", ["vllm", "sglang", "mindie"])
def test_every_program_serves_an_endpoint(program: str) -> None:
    assert program in {CATALOG.runtimes[one.runtime].program for one in CATALOG.endpoints.values()}


def test_every_cluster_and_every_kind_of_accelerator_as_it_is_offered_has_an_endpoint() -> None:
    offered = {name: (one.kind, one.offered_by) for name, one in CATALOG.accelerators.items()}
    endpoints = CATALOG.endpoints.values()

    assert {one.cluster for one in endpoints} == set(CATALOG.clusters)
    assert {offered[one.accelerator] for one in endpoints} == set(offered.values())


def test_every_accelerator_is_on_offer_somewhere() -> None:
    offered = {name for cluster in CATALOG.clusters.values() for name in cluster.accelerators}

    assert offered == set(CATALOG.accelerators)


def test_every_runtime_of_the_catalog_has_an_endpoint() -> None:
    assert {one.runtime for one in CATALOG.endpoints.values()} == set(CATALOG.runtimes)


def facets(manifest: dict[str, Any]) -> set[str]:
    """The kinds of an object as people tell them apart: a headless Service is not a LoadBalancer."""
    kind, spec = manifest["kind"], manifest.get("spec", {})
    found = {f"{kind} of {manifest['apiVersion'].split('/')[0]}" if kind == "Dataset" else kind}
    if kind == "Service":
        found = {"Service headless" if spec.get("clusterIP") == "None" else f"Service {spec['type']}"}
        annotations = manifest["metadata"].get("annotations", {})
        found |= {
            f"LoadBalancer {value}" for key, value in annotations.items() if key.endswith("address-type")
        }
    if kind == "PersistentVolume":
        found = {f"PersistentVolume {spec['csi']['driver']}"}
    if kind == "PersistentVolumeClaim":
        found = {f"PersistentVolumeClaim {mode}" for mode in spec["accessModes"]}
    if kind == "HTTPRoute" and "Access-Control-Allow-Origin" in str(spec):
        found |= {"HTTPRoute with CORS"}
    return found


WANTED = {
    "PersistentVolumeClaim ReadWriteMany",
    "StatefulSet",
    "Deployment",
    "LeaderWorkerSet",
    "Service headless",
    "Service ClusterIP",
    "Service NodePort",
    "Service LoadBalancer",
    "LoadBalancer internet",
    "LoadBalancer intranet",
    "Ingress",
    "HTTPRoute with CORS",
    "HorizontalPodAutoscaler",
    "ScaledObject",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "ServiceMonitor",
    "Dataset of data.fluid.io",
    "JindoRuntime",
    "DataLoad",
    "Dataset of dataset.baizeai.io",
    "PersistentVolume ossplugin.csi.alibabacloud.com",
    "PersistentVolume nfs.csi.k8s.io",
    "Gateway",
    "ReferenceGrant",
    "IPAddressPool",
    "L2Advertisement",
    "StorageClass",
    "Namespace",
}


def test_every_kind_of_object_is_rendered_for_some_endpoint_or_cluster() -> None:
    endpoints = [one for name in CATALOG.endpoints for one in render(make_plan(CATALOG, name)).objects()]
    clusters = [one for name in CATALOG.clusters for one in render_cluster(CATALOG, name)]

    rendered = {facet for manifest in [*endpoints, *clusters] for facet in facets(manifest)}

    assert WANTED - rendered == set()


def test_a_secret_is_named_and_never_rendered() -> None:
    endpoints = [one for name in CATALOG.endpoints for one in render(make_plan(CATALOG, name)).objects()]

    assert "Secret" not in {manifest["kind"] for manifest in endpoints}


@pytest.mark.parametrize("chart", ["hami", "gpu-operator", "hydra-agent", "csi-driver-nfs", "metallb"])
def test_every_helm_release_of_the_documents_is_part_of_a_cluster(chart: str) -> None:
    assert chart in {one.name for cluster in CATALOG.clusters.values() for one in cluster.setup.charts}


def test_the_benchmark_of_the_document_is_a_workload() -> None:
    script = next(yaml.safe_load_all((DOCUMENTS / "acs-benchmark.yaml").read_text(encoding="utf-8")))
    words = script["spec"]["template"]["spec"]["containers"][0]["args"][0].split()
    workload = CATALOG.workloads["conversations-steady"]

    assert workload.requests == int(words[words.index("--num-prompts") + 1])
    assert workload.rate == float(words[words.index("--request-rate") + 1])
    assert workload.data == "conversations"
