"""Who Slipway is in the sandbox: one user with the listed rights, in the endpoints' namespace, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from sandbox.airflow import airflow_environment
from sandbox.settings import load
from slipway.catalog.read import read_catalog
from slipway.checks.permissions import rbac_yaml
from slipway.cluster.access import Access, can_i
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object

NAMESPACE = "models"
SECRETS = ("endpoint-api-key", "qwen3-tiny-keys", "s3-credentials")
# What Kubernetes lets everybody who has logged in ask of themselves.
OF_EVERYBODY = {
    ("authorization.k8s.io", "selfsubjectaccessreviews", "create", ""),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "create", ""),
    ("authentication.k8s.io", "selfsubjectreviews", "create", ""),
}


@pytest.fixture(scope="module")
def connection() -> Cluster:
    """The cluster by the connection that every DAG but prepare_cluster uses."""
    named = read_catalog().clusters["sandbox"].connection
    extra = json.loads(airflow_environment(load())[f"AIRFLOW_CONN_{named.upper()}"])["extra"]
    return Cluster.from_kubeconfig(extra["kube_config_path"])


def asked(cluster: Cluster, group: str, version: str, kind: str, spec: Object) -> Any:
    review: Object = {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": {}} | spec
    return cluster.create(review)["status"]


def rules(of: list[Object]) -> Iterator[tuple[str, str, str, str]]:
    for one in of:
        for group in one["apiGroups"]:
            for resource in one["resources"]:
                for verb in one["verbs"]:
                    for name in one.get("resourceNames") or [""]:
                        yield group, resource, verb, name


def test_airflow_is_a_user_of_its_own(connection: Cluster) -> None:
    seen = asked(connection, "authentication.k8s.io", "v1", "SelfSubjectReview", {})

    assert seen["userInfo"]["username"] == "slipway"
    assert seen["userInfo"].get("groups") == ["system:authenticated"]


def test_its_rights_are_exactly_the_listed_ones(connection: Cluster) -> None:
    status = asked(
        connection, "authorization.k8s.io", "v1", "SelfSubjectRulesReview", {"spec": {"namespace": NAMESPACE}}
    )
    listed = yaml.safe_load_all(
        rbac_yaml(user="slipway", namespace=NAMESPACE, secrets=SECRETS, infrastructure=True)
    )
    wanted = {rule for document in listed for rule in rules(document.get("rules") or [])}

    found = set(rules(status["resourceRules"]))

    assert not status.get("incomplete")
    assert (found - wanted - OF_EVERYBODY, wanted - found) == (set(), set())


DENIED = [
    ("list", "", "secrets", NAMESPACE, None),
    ("get", "", "secrets", NAMESPACE, "somebody-elses"),
    ("create", "", "secrets", NAMESPACE, None),
    ("patch", "", "secrets", NAMESPACE, SECRETS[0]),
    ("create", "", "pods/exec", NAMESPACE, None),
    ("create", "", "pods/portforward", NAMESPACE, None),
    ("create", "", "serviceaccounts/token", NAMESPACE, None),
    ("create", "", "pods", "kube-system", None),
    ("create", "apps", "statefulsets", "default", None),
    ("create", "", "namespaces", None, None),
    ("patch", "", "nodes", None, None),
    ("delete", "", "persistentvolumes", None, None),
    ("create", "rbac.authorization.k8s.io", "rolebindings", NAMESPACE, None),
    ("escalate", "rbac.authorization.k8s.io", "roles", NAMESPACE, "slipway"),
    ("impersonate", "", "users", None, None),
]


def test_what_would_let_it_grow_or_read_keys_is_denied(connection: Cluster) -> None:
    asked_for = [
        Access(
            verb=verb,
            group=group,
            resource=resource.partition("/")[0],
            subresource=resource.partition("/")[2],
            namespace=namespace,
            name=name,
        )
        for verb, group, resource, namespace, name in DENIED
    ]

    allowed = can_i(connection, asked_for)

    assert [str(one) for one, may in allowed.items() if may] == []
