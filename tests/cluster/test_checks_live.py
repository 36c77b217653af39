"""The checks against a real cluster, with Slipway's own rights and without one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from slipway.checks.findings import Finding, blocking, table
from slipway.checks.run import CHECKS, run_checks
from slipway.checks.subject import Subject
from slipway.cluster.client import Cluster


def subject(namespace: str, image: str, **more: Any) -> Subject:
    return Subject.model_validate(
        {
            "namespace": namespace,
            "storage": {"claim": "weights", "storage_class": "local-path", "size": "1Gi"},
            "images": (image,),
            "requests": {"cpu": "10m", "memory": "32Mi"},
            **more,
        }
    )


def by_check(found: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.severity for finding in found if finding.severity != "info"}


def test_a_healthy_cluster_with_exactly_slipways_rights(
    as_slipway: Callable[..., Cluster], cluster: Cluster, restricted_namespace: str, image: str
) -> None:
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "api-key", "namespace": restricted_namespace},
            "stringData": {"key": "hunter2"},
        }
    )
    wanted = subject(restricted_namespace, image, secrets=[{"name": "api-key", "keys": ["key"]}])
    found = run_checks(as_slipway(restricted_namespace), wanted)
    print(table(found))
    assert by_check(found) == {check.id: "ok" for check in CHECKS}, table(found)
    assert "Pod Security level restricted" in table(found)


def test_each_missing_right_is_named_and_the_remedy_mends_it(
    as_slipway: Callable[..., Cluster], cluster: Cluster, namespace: str, image: str
) -> None:
    user = f"{namespace}-user"
    limited = as_slipway(namespace, user=user, without="leases")
    [found] = blocking(run_checks(limited, subject(namespace, image)))
    assert found.check == "permissions"
    assert "leases.coordination.k8s.io" in found.reason
    role = yaml.safe_load(found.remedy.partition("\n")[2])
    cluster.apply(role)
    name, group = role["metadata"]["name"], "rbac.authorization.k8s.io"
    cluster.apply(
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        }
    )
    assert blocking(run_checks(limited, subject(namespace, image))) == []


def test_faults_are_found_side_by_side(cluster: Cluster, namespace: str) -> None:
    wanted = subject(
        namespace,
        "localhost/slipway/nothing:here",
        storage={"claim": "weights", "storage_class": "no-such-class", "size": "1Gi"},
        requests={"nvidia.com/gpu": "1"},
        secrets=[{"name": "nowhere", "keys": ["key"]}],
    )
    found = run_checks(cluster, wanted)
    assert {finding.check for finding in blocking(found)} == {"storage", "images", "capacity", "secrets"}
    told = table(found)
    assert "no such storage class; there are: " in told
    assert "nvidia.com/gpu not offered" in told
    assert f"kubectl -n {namespace} create secret generic nowhere --from-literal=key=…" in told


def test_a_namespace_that_is_not_there(cluster: Cluster, image: str) -> None:
    [found] = blocking(run_checks(cluster, subject("slipway-test-nowhere", image)))
    assert found.remedy == "kubectl create namespace slipway-test-nowhere"
