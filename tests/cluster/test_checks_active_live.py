"""The active checks on a real cluster: volumes that are really bound, names and sources that are really asked."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sandbox import nfs, s3
from sandbox.settings import NODE_IP, load
from slipway.checks.findings import Finding, table
from slipway.checks.registry import CHECKS
from slipway.checks.run import run_checks
from slipway.checks.subject import Site, Subject
from slipway.checks.trial_pod import pod_of, running
from slipway.cluster.client import Cluster
from slipway.cluster.objects import ref_of

ACTIVE = {one.id: one for one in CHECKS if "active" in one.asked}
S3 = {
    "endpoint_url": "http://s3.slipway-sandbox.svc.cluster.local:7070",
    "credentials": {"s3-credentials": {}},
}


@pytest.fixture
def cluster(as_slipway: Callable[..., Cluster], restricted_namespace: str) -> Cluster:
    """What is tried here acts with Slipway's own rights, for an endpoint whose weights need a Secret."""
    return as_slipway(restricted_namespace, may_see=("s3-credentials",))


@pytest.fixture
def place(administrator: Cluster, restricted_namespace: str) -> Iterator[str]:
    """A restricted namespace that must be as empty after the checks as before."""
    yield restricted_namespace
    pods = administrator.list(api_version="v1", kind="Pod", namespace=restricted_namespace)
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


def test_names_and_sources_are_asked_from_a_pod(
    cluster: Cluster, administrator: Cluster, place: str, image: str
) -> None:
    administrator.create(
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


def test_the_right_key_mends_what_a_wrong_one_broke(
    cluster: Cluster, administrator: Cluster, place: str, image: str
) -> None:
    import boto3

    access = s3.connection(load())
    keys = {"AWS_ACCESS_KEY_ID": access["access_key"], "AWS_SECRET_ACCESS_KEY": "wrong"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s3-credentials", "namespace": place},
        "stringData": keys,
    }
    administrator.create(secret)
    client = boto3.client(
        "s3",
        endpoint_url=access["endpoint_url"],
        aws_access_key_id=access["access_key"],
        aws_secret_access_key=access["secret_key"],
        region_name="us-east-1",
    )
    bucket, key = s3.BUCKET, f"{place}/config.json"
    client.put_object(Bucket=bucket, Key=key, Body=b"{}")
    wanted = {"source": {"locations": (f"s3://{bucket}/{place}",), **S3}}
    try:
        found = {one.about: one for one in looked(cluster, "reach", place, image, **wanted)}
        assert found["sources of endpoint one"].severity == "blocking"
        wrong = found[f"source s3://{bucket}/{place} of endpoint one"]
        assert "secret key is wrong" in wrong.reason, wrong
        administrator.patch(ref_of(secret), {"stringData": {"AWS_SECRET_ACCESS_KEY": access["secret_key"]}})
        again = looked(cluster, "reach", place, image, **wanted)
        assert {one.severity for one in again} == {"ok"}, table(again)
    finally:
        client.delete_object(Bucket=bucket, Key=key)


def test_a_broken_dns_is_found(cluster: Cluster, administrator: Cluster, place: str, image: str) -> None:
    labels = {"kubernetes.io/service-name": "kube-dns"}
    [slice_] = administrator.list(
        api_version="discovery.k8s.io/v1", kind="EndpointSlice", namespace="kube-system", labels=labels
    )
    ref = ref_of(slice_)
    administrator.patch(ref, {"endpoints": [{**slice_["endpoints"][0], "addresses": ["192.0.2.1"]}]})
    try:
        found = looked(cluster, "reach", place, image)
        [dns] = [one for one in found if one.about == "the cluster's DNS"]
        assert dns.severity == "blocking" and "k8s-app=kube-dns" in dns.remedy, table(found)
    finally:
        administrator.patch(ref, {"endpoints": slice_["endpoints"]})


def test_an_nfs_export_is_there_or_not(cluster: Cluster, place: str, image: str) -> None:
    subject = Subject.model_validate({"namespace": place, "tools_image": image})
    nfs_server = {"do": "export", "host": NODE_IP, "port": nfs.PORT}
    orders = [
        {**nfs_server, "path": nfs.EXPORT},
        {**nfs_server, "path": "/no-such-export"},
        {**nfs_server, "path": nfs.EXPORT, "port": 1},
    ]
    with running(cluster, pod_of(subject, orders, name="slipway-check-nfs")) as (_, answers):
        assert [one["ok"] for one in answers] == [True, False, False], answers


def test_a_nodes_own_files_are_read_where_a_person_named_a_namespace(
    as_slipway: Callable[..., Cluster], image: str, make_namespace: Callable[..., str]
) -> None:
    namespace = make_namespace(level="privileged")
    subject = Subject.model_validate({"endpoint": "one", "namespace": "x", "tools_image": image})
    [check] = [one for one in CHECKS if one.id == "node-files"]
    site = Site(endpoints=(subject,), node_pods=namespace)
    told = [
        one for one in run_checks(as_slipway(namespace), site, checks=[check]) if one.check == "node-files"
    ]
    assert len(told) == 1 and f"glibc {platform.libc_ver()[1]}" in told[0].reason, table(told)
