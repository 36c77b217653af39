"""The active checks on a real cluster: volumes that are really bound, names and sources that are really asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slipway.checks.findings import Finding, table
from slipway.checks.registry import CHECKS
from slipway.checks.run import run_checks
from slipway.checks.subject import Site, Subject
from slipway.cluster.client import Cluster

ACTIVE = {one.id: one for one in CHECKS if "active" in one.asked}
S3 = {
    "endpoint_url": "http://s3.slipway-sandbox.svc.cluster.local:7070",
    "credentials": {"s3-credentials": {}},
}


@pytest.fixture
def place(cluster: Cluster, restricted_namespace: str) -> Iterator[str]:
    """A restricted namespace that must be as empty after the checks as before."""
    yield restricted_namespace
    pods = cluster.list(api_version="v1", kind="Pod", namespace=restricted_namespace)
    assert [one["metadata"]["name"] for one in pods if not one["metadata"].get("deletionTimestamp")] == []


def looked(cluster: Cluster, check: str, namespace: str, image: str, **more: Any) -> list[Finding]:
    subject = Subject.model_validate(
        {"endpoint": "one", "namespace": namespace, "images": (image,), "tools_image": image, **more}
    )
    found = run_checks(cluster, Site(endpoints=(subject,)), checks=[ACTIVE[check]])
    return [one for one in found if one.check == check]


def volume(storage_class: str, mode: str) -> dict[str, Any]:
    return {"storage": {"claim": "w", "storage_class": storage_class, "access_mode": mode, "size": "10Gi"}}


@pytest.mark.parametrize(("name", "mode"), [("local-path", "ReadWriteOnce"), ("shared", "ReadWriteMany")])
def test_a_volume_is_bound_written_and_measured(
    name: str, mode: str, cluster: Cluster, place: str, image: str
) -> None:
    found = looked(cluster, "volume", place, image, **volume(name, mode))
    assert {one.severity for one in found} == {"ok"}, table(found)
    assert "MB/s" in found[0].reason
    assert len(found) == (2 if mode == "ReadWriteMany" else 1), "a shared volume is read from a second pod"


def test_a_volume_that_nobody_makes_is_blocking_with_the_clusters_reason(
    cluster: Cluster, place: str, image: str
) -> None:
    found = looked(cluster, "volume", place, image, **volume("no-such-class", "ReadWriteOnce"))
    assert [one.severity for one in found] == ["blocking"], table(found)
    assert "no-such-class" in found[0].reason and found[0].remedy


def test_names_and_sources_are_asked_from_a_pod(cluster: Cluster, place: str, image: str) -> None:
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s3-credentials", "namespace": place},
            "stringData": {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "wrong"},
        }
    )
    found = looked(cluster, "reach", place, image, source={"locations": ("s3://models/qwen3-tiny",), **S3})
    severities = {one.about: one.severity for one in found}
    assert severities["the cluster's DNS"] == "ok", table(found)
    assert severities["sources of endpoint one"] == "blocking"
    assert severities["source s3://models/qwen3-tiny of endpoint one"] == "warning"
