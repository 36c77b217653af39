"""Running checks: side by side, none hiding another; the table; the one list of permissions."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from slipway.checks import permissions, view
from slipway.checks.check import Check
from slipway.checks.findings import Finding, blocking, table
from slipway.checks.registry import API, CHECKS
from slipway.checks.run import run_checks
from slipway.checks.subject import Site, Subject
from slipway.checks.view import View
from slipway.cluster.client import Cluster
from slipway.errors import ClusterError

PROJECT = Path(__file__).resolve().parents[2]
SUBJECT = Subject.model_validate(
    {
        "namespace": "models",
        "storage": {"claim": "w", "storage_class": "fast", "size": "10Gi"},
        "secrets": [{"name": "api-key", "keys": ["key"]}],
    }
)


class Api:
    """An API server of given answers; what is not given is not found."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.configuration = SimpleNamespace(host="https://cluster.test", verify_ssl=True)
        self.answers = {"/version": {"gitVersion": "v1.34.4"}, **answers}

    def call_api(self, path: str, method: str, **_: Any) -> Any:
        answer = self.answers.get(path, 404)
        if isinstance(answer, BaseException):
            raise answer
        status = answer if isinstance(answer, int) else 200
        body = {"kind": "Status", "message": f"status {status}"} if status != 200 else answer
        return SimpleNamespace(status=status, data=json.dumps(body).encode(), headers={})


def checks(answers: dict[str, Any], *only: str, subject: Subject = SUBJECT) -> list[Finding]:
    chosen = [check for check in CHECKS if check.id in only]
    return [
        finding
        for finding in run_checks(Cluster(api_client=Api(answers), patience=0), subject, checks=chosen)
        if finding.check in only
    ]


NAMESPACE = "/api/v1/namespaces/models"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
FAST = f"{CLASSES}/fast"
CLAIM = f"{NAMESPACE}/persistentvolumeclaims/w"
SECRET = f"{NAMESPACE}/secrets/api-key"


def claim(
    *, size: str = "10Gi", mode: str = "ReadWriteOnce", its_class: str = "fast", phase: str = "Bound"
) -> Any:
    return {
        "metadata": {"name": "w", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {
            "accessModes": [mode],
            "storageClassName": its_class,
            "resources": {"requests": {"storage": size}},
        },
        "status": {"phase": phase, "capacity": {"storage": size}},
    }


CASES: dict[str, tuple[list[Finding], str, str]] = {
    "old": (checks({"/version": {"gitVersion": "v1.26.9"}}, "api"), "blocking", "1.26.9"),
    "new": (checks({}, "api"), "ok", "v1.34.4"),
    "a vendor's version": (checks({"/version": {"gitVersion": "v1.27.3-eks-1"}}, "api"), "ok", "eks"),
    "no namespace": (checks({}, "namespace"), "blocking", "no such namespace"),
    "namespace ends": (
        checks({NAMESPACE: {"status": {"phase": "Terminating"}}}, "namespace"),
        "blocking",
        "being deleted",
    ),
    "no class": (
        checks({CLASSES: {"items": [{"metadata": {"name": "slow"}}]}}, "storage"),
        "blocking",
        "there are: slow",
    ),
    "class": (checks({CLASSES: {"items": [{"metadata": {"name": "fast"}}]}}, "storage"), "ok", "binding"),
    "claim": (checks({CLAIM: claim()}, "storage"), "ok", "bound, 10Gi"),
    "claim larger": (checks({CLAIM: claim(size="1Ti")}, "storage"), "ok", "1Ti"),
    "claim too small": (checks({CLAIM: claim(size="9Gi")}, "storage"), "blocking", "9Gi, 10Gi are needed"),
    "claim of another mode": (
        checks({CLAIM: claim(mode="ReadOnlyMany")}, "storage"),
        "blocking",
        "ReadOnlyMany",
    ),
    "claim of another class": (checks({CLAIM: claim(its_class="slow")}, "storage"), "blocking", "slow"),
    "claim that waits": (
        checks(
            {CLAIM: claim(phase="Pending"), FAST: {"volumeBindingMode": "WaitForFirstConsumer"}}, "storage"
        ),
        *("info", "first pod"),
    ),
    "claim that nobody fills": (
        checks({CLAIM: claim(phase="Pending"), FAST: {"provisioner": "nobody"}}, "storage"),
        *("blocking", "provisioner nobody has made no volume"),
    ),
    "claim of a class that is gone": (
        checks({CLAIM: claim(phase="Pending")}, "storage"),
        *("blocking", "its class fast is not there"),
    ),
    "claim that is too small and may grow": (
        checks({CLAIM: claim(size="1Gi"), FAST: {"allowVolumeExpansion": True}}, "storage"),
        *("blocking", "it has 1Gi"),
    ),
    "claim that is lost": (checks({CLAIM: claim(phase="Lost")}, "storage"), "blocking", "lost"),
    "secret": (checks({SECRET: {"data": {"key": "eA=="}}}, "secrets"), "ok", "has key"),
    "no secret": (checks({}, "secrets"), "blocking", "no such Secret"),
    "secret without key": (
        checks({SECRET: {"data": {"a": "eA=="}}}, "secrets"),
        "blocking",
        "its keys are: a",
    ),
    "secret with an empty key": (checks({SECRET: {"data": {"key": ""}}}, "secrets"), "blocking", "no value"),
    "secret not allowed": (
        checks({SECRET: 403, NAMESPACE: {}, "/readyz": {}}, "secrets"),
        "not checked",
        "may not read it",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_one_finding_each(case: str) -> None:
    [finding], severity, words = CASES[case]
    assert finding.severity == severity, finding
    assert words in finding.reason
    assert (finding.severity == "ok") == (not finding.remedy) or finding.severity == "not checked"


def test_values_of_secrets_are_in_no_finding() -> None:
    found = checks({SECRET: {"data": {"other": "aHVudGVyMg=="}}}, "secrets")
    assert "aHVudGVyMg" not in repr(found)


def test_an_unreachable_api_is_the_one_finding() -> None:
    api = Api({"/version": ConnectionRefusedError(111, "Connection refused")})
    found = run_checks(Cluster(api_client=api, patience=0), SUBJECT)
    others = [one for one in CHECKS if "endpoint" in one.asked and one.id not in ("api", "gateways")]
    assert [finding.severity for finding in found] == ["blocking"] + ["not checked"] * len(others)
    assert "connection refused" in found[0].reason


def broken(view: View, site: Site) -> list[Finding]:
    raise KeyError("metadata")


def refused(view: View, site: Site) -> list[Finding]:
    raise ClusterError("could not list objects", why="nodes is forbidden", remedy="Give it the role")


def slow(view: View, site: Site) -> list[Finding]:
    time.sleep(1)
    return []


def fine(view: View, site: Site) -> list[Finding]:
    return [Finding(check="fine", severity="ok", about="x", reason="y")]


def test_no_check_hides_another() -> None:
    four = [
        Check(id=one.__name__, title="t", scope="cluster", function=one)
        for one in (broken, refused, slow, fine)
    ]
    found = run_checks(Cluster(api_client=Api({})), SUBJECT, deadline=0.3, checks=[API, *four])
    assert [(one.check, one.severity) for one in found] == [
        ("api", "ok"),
        ("broken", "not checked"),
        ("refused", "not checked"),
        ("slow", "not checked"),
        ("fine", "ok"),
    ]
    assert "KeyError" in found[1].reason
    assert (found[2].reason, found[2].remedy) == ("nodes is forbidden", "Give it the role")
    assert "no answer within 0 s" in found[3].reason


def test_the_table() -> None:
    found = [
        Finding(check="api", severity="ok", about="https://c", reason="v1.34"),
        Finding(
            check="secrets", severity="blocking", about="Secret a/b", reason="gone", remedy="kubectl x\ny"
        ),
    ]
    assert table(found).splitlines() == [
        "blocking  secrets  Secret a/b  gone",
        "          kubectl x",
        "          y",
        "ok        api      https://c   v1.34",
        "2 findings: 1 blocking, 1 ok",
    ]
    assert table([]) == "nothing was checked"
    assert blocking(found) == [found[1]]


# -- permissions ---------------------------------------------------------------------------------------------


def test_the_sandbox_binds_exactly_the_list() -> None:
    path = PROJECT / "sandbox/manifests/slipway-rbac.yaml"
    wanted = permissions.rbac_yaml(
        user="slipway",
        namespace="models",
        secrets=("endpoint-api-key", "qwen3-tiny-keys", "s3-credentials"),
        infrastructure=True,
    )
    assert path.read_text(encoding="utf-8") == wanted, "write it anew with rbac_yaml()"


def test_no_rule_is_wide() -> None:
    for one in (*permissions.NAMESPACE_RULES, *permissions.CLUSTER_RULES, permissions.SECRETS):
        assert "*" not in (one.group, *one.resources, *one.verbs)
        assert one.why
    in_cluster = {
        verb for one in permissions.CLUSTER_RULES for verb in one.verbs if "reviews" not in one.resources[0]
    }
    assert in_cluster <= {"get", "list"}
    assert not any("secrets" in one.resources for one in permissions.CLUSTER_RULES)
    assert "secrets" not in permissions.rbac_yaml(user="u", namespace="n")


def test_what_only_looks_at_the_whole_cluster_is_asked_for_apart() -> None:
    for one in permissions.INFRASTRUCTURE_RULES:
        assert set(one.verbs) == {"get", "list"} and not one.needed and one.why
        assert "secrets" not in one.resources
    plain = permissions.rbac_yaml(user="u", namespace="n")
    assert "slipway-infrastructure" not in plain
    documents = list(yaml.safe_load_all(permissions.rbac_yaml(user="u", namespace="n", infrastructure=True)))
    assert [one["metadata"]["name"] for one in documents[4:]] == ["slipway-infrastructure"] * 2


def test_every_check_is_data_that_says_what_it_is() -> None:
    assert len({one.id for one in CHECKS}) == len(CHECKS)
    for one in CHECKS:
        assert one.title and (one.remedy or one.severity == "info"), one.id
        assert set(one.rights) <= set(permissions.INFRASTRUCTURE_RULES), (
            "a right that rbac_yaml does not give"
        )


def test_a_missing_rule_is_ready_to_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(cluster: Cluster, wanted: list[Any]) -> dict[Any, bool]:
        return {one: not (one.resource == "leases" and one.verb != "get") for one in wanted}

    monkeypatch.setattr(permissions, "can_i", answer)
    monkeypatch.setattr(view, "who_am_i", lambda cluster: "somebody")
    [found] = checks({}, "permissions")
    assert found.severity == "blocking"
    assert "create leases.coordination.k8s.io in namespace models" in found.reason
    role, binding = yaml.safe_load_all(found.remedy.partition("\n")[2])
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == "somebody"
    assert role["kind"] == "Role"
    assert role["metadata"]["namespace"] == "models"
    assert role["rules"] == [
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]}
    ]
