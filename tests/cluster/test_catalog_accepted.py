"""Every object that the catalog renders, before the real API server: tried with strict validation, nothing kept.

An endpoint's objects are tried with the rights that Slipway applies them with, a cluster's own as an administrator, in
namespaces that the tests make, one for each Pod Security level: those of the catalog's clusters are not here. A kind
that the server does not know is a failure: `make up` installs the definitions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import yaml

from slipway.catalog.read import read_catalog
from slipway.checks.permissions import STATIC_VOLUMES, rights_yaml
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, Ref, ref_of
from slipway.cluster.shapes import claim_templates, pod_templates
from slipway.errors import ClusterError
from slipway.manifests.cluster_objects import render_cluster
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render

CATALOG = read_catalog()


@pytest.fixture(scope="module")
def place(cluster: Cluster, make_namespace: Callable[..., str]) -> Callable[[str], str]:
    """The namespace that enforces a Pod Security level, ready for pods."""
    made: dict[str, str] = {}

    def namespace(level: str) -> str:
        if level not in made:
            made[level] = make_namespace(level=level)
            deadline = time.monotonic() + 30
            account = {"api_version": "v1", "kind": "ServiceAccount", "name": "default"}
            while cluster.get(**account, namespace=made[level]) is None:
                assert time.monotonic() < deadline, "no controller makes service accounts"
                time.sleep(0.05)
        return made[level]

    return namespace


@pytest.fixture(scope="module")
def slipway_in(
    administrator: Cluster, as_slipway: Callable[..., Cluster], place: Callable[[str], str]
) -> Iterator[Callable[[str], Cluster]]:
    """Slipway itself in such a namespace, with the right too that only endpoints with a static volume need."""
    made: dict[str, Cluster] = {}
    given: list[Ref] = []

    def connect(level: str) -> Cluster:
        if level not in made:
            user = f"{place(level)}-user"
            made[level] = as_slipway(place(level), user=user)
            rights = rights_yaml([STATIC_VOLUMES], name=f"static-volumes-{user}", user=user)
            for document in yaml.safe_load_all(rights):
                administrator.apply(document)
                given.append(ref_of(document))
        return made[level]

    yield connect
    for ref in given:
        administrator.delete(ref)


def moved(obj: Object, namespace: str) -> Object:
    """The object in another namespace; one that is the whole cluster's gets a name that nobody has."""
    metadata = dict(obj["metadata"])
    if "namespace" in metadata:
        metadata["namespace"] = namespace
    else:
        metadata["name"] = f"{namespace}-{metadata['name']}"[:63].rstrip("-.")
    return {**obj, "metadata": metadata}


def pods_of(workload: Object, namespace: str) -> Iterator[tuple[str, Object]]:
    """The pods that a workload's controller would make, an empty volume in place of each claim template."""
    for role, template in pod_templates(workload).items():
        spec = deepcopy(template["spec"])
        volumes = [{"name": one["metadata"]["name"], "emptyDir": {}} for one in claim_templates(workload)]
        spec["volumes"] = [*(spec.get("volumes") or []), *volumes]
        metadata = {**template.get("metadata", {}), "generateName": "tried-", "namespace": namespace}
        yield role, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def refusals(cluster: Cluster, objects: Iterator[tuple[str, Object]]) -> list[str]:
    """Try objects; what the server says about those that it does not take."""
    said = []
    for name, obj in objects:
        try:
            cluster.create(obj, dry_run=True)
        except ClusterError as error:
            said.append(f"{name}: {error}")
    return said


@pytest.mark.parametrize("name", sorted(CATALOG.endpoints))
def test_every_object_of_an_endpoint_and_its_pods_are_accepted(
    name: str, slipway_in: Callable[[str], Cluster], place: Callable[[str], str]
) -> None:
    plan = make_plan(CATALOG, name)
    namespace = place(plan.pod_security)

    def tried() -> Iterator[tuple[str, Object]]:
        for obj in render(plan).objects():
            yield str(ref_of(obj)), moved(obj, namespace)
            for role, pod in pods_of(obj, namespace):
                yield f"{role} of {ref_of(obj)}", pod

    assert refusals(slipway_in(plan.pod_security), tried()) == []


@pytest.mark.parametrize("name", sorted(CATALOG.clusters))
def test_every_object_of_a_clusters_set_up_is_accepted(
    name: str, cluster: Cluster, place: Callable[[str], str]
) -> None:
    namespace = place("restricted")
    objects = render_cluster(CATALOG, name)

    assert refusals(cluster, ((str(ref_of(obj)), moved(obj, namespace)) for obj in objects)) == []


@pytest.mark.parametrize(
    "change",
    [{"spec": {"replica": 1}}, {"metadata": {"labels": {"a": "not a label"}}}, {"spec": {"replicas": "x"}}],
)
def test_a_wrong_object_would_have_been_refused(
    change: Object, slipway_in: Callable[[str], Cluster], place: Callable[[str], str]
) -> None:
    plan = make_plan(CATALOG, "qwen3-tiny")
    (workload,) = (obj for obj in render(plan).objects() if obj["kind"] == "StatefulSet")
    wrong = {**workload, **{key: {**workload[key], **value} for key, value in change.items()}}

    tried = iter([("wrong", moved(wrong, place("restricted")))])
    assert len(refusals(slipway_in("restricted"), tried)) == 1
