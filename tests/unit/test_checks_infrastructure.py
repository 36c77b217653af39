"""Looking at whole clusters: the terminal's exit status, the history, and the DAG's steps."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowNotFoundException, ParamValidationError

from slipway.catalog.read import read_catalog
from slipway.checks import run
from slipway.checks.findings import Finding
from slipway.checks.plan import site_of
from slipway.checks.subject import Site, Subject
from slipway.cli import main
from slipway.cluster.client import Cluster
from slipway.errors import UsageError
from slipway.operators import infrastructure as steps
from slipway.releases.infrastructure import KEPT, Infrastructure

OK = Finding(check="api", severity="ok", about="c", reason="v1.34")
STOP = Finding(check="machines", severity="blocking", about="Node a", reason="old", remedy="Upgrade it")


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Infrastructure:
    """An empty history."""
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{tmp_path / 'history.db'}")
    return Infrastructure.open()


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Let the checks find something without a cluster; gives what they were asked for."""
    asked: list[Any] = []

    def find(*findings: Finding) -> list[Any]:
        def checks(cluster: Any, subject: Any, **more: Any) -> list[Finding]:
            asked.append((subject, more))
            return list(findings)

        monkeypatch.setattr(run, "run_checks", checks)
        monkeypatch.setattr(Cluster, "from_kubeconfig", lambda *_, **__: "cluster")
        monkeypatch.setattr(steps, "cluster_of", lambda connection: f"cluster of {connection}")
        return asked

    return find


# -- the catalog's clusters ----------------------------------------------------------------------------------


def test_every_cluster_of_the_catalog_can_be_described(include: Path) -> None:
    catalog = read_catalog(include)
    for name, record in catalog.clusters.items():
        site = site_of(catalog, name, include=include)
        assert {one.name for one in site.devices} == set(record.accelerators)
        named = {one.endpoint for one in site.endpoints} | set(site.unplanned)
        assert named == {one.name for one in catalog.endpoints.values() if one.cluster == name}
        assert site.unplanned == {}, "the catalog's own endpoints have plans"


def test_a_cluster_keeps_its_own_names_of_resources(include: Path) -> None:
    site = site_of(read_catalog(include), "company", include=include)
    assert [one.resource for one in site.devices] == ["company.com/gpu"]


def test_an_endpoint_that_cannot_be_planned_is_named(include: Path, change: Callable[..., None]) -> None:
    change("endpoints/qwen3-tiny", exposure={"route": {}})  # the sandbox has no Gateway
    site = site_of(read_catalog(include), "sandbox", include=include)
    assert set(site.unplanned) == {"qwen3-tiny"} and len(site.endpoints) > 1


def test_a_cluster_that_nobody_knows(include: Path) -> None:
    with pytest.raises(UsageError, match="no such cluster"):
        site_of(read_catalog(include), "nowhere", include=include)


# -- the terminal --------------------------------------------------------------------------------------------

CALLS: dict[str, tuple[list[str], tuple[Finding, ...], int]] = {
    "a cluster without fault": (["sandbox"], (OK,), 0),
    "a cluster with one": (["sandbox"], (OK, STOP), 1),
    "an endpoint": (["qwen3-tiny"], (OK,), 0),
    "a name that nobody knows": (["nowhere"], (OK,), 2),
    "pods on nodes for an endpoint": (["qwen3-tiny", "--node-pods", "kube-system"], (OK,), 2),
    "pods on nodes": (["sandbox", "--node-pods", "kube-system"], (OK,), 0),
    "overrides for a cluster": (["sandbox", "--overrides", '{"replicas": 2}'], (OK,), 2),
}


@pytest.mark.parametrize("case", CALLS)
def test_the_exit_status_of_a_check(
    case: str, include: Path, found: Callable[..., list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, findings, status = CALLS[case]
    found(*findings)
    assert main(["--include", str(include), "check", *arguments]) == status
    printed = capsys.readouterr()
    assert bool(printed.err) == (status == 2) and bool(printed.out) == (status != 2)


def test_findings_as_json_and_pods_only_when_asked_for(
    include: Path, found: Callable[..., list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = found(OK, STOP)
    assert main(["--include", str(include), "check", "sandbox", "--output", "json"]) == 1
    assert json.loads(capsys.readouterr().out) == [OK.model_dump(), STOP.model_dump()]
    assert main(["--include", str(include), "check", "qwen3-tiny", "--active"]) == 1
    (cluster, first), (endpoint, second) = asked
    assert isinstance(cluster, Site) and isinstance(endpoint, Subject)
    assert (first["active"], second["active"]) == (False, True)


# -- the history ---------------------------------------------------------------------------------------------


def test_what_was_found_is_kept_and_a_retry_replaces_it(history: Infrastructure) -> None:
    history.record("one", run_id="r1", findings=[OK])
    history.record("one", run_id="r1", findings=[OK, STOP])
    history.record("two", run_id="r1", findings=[OK])
    [kept] = history.list(cluster="one")
    assert kept.counts == {"ok": 1, "blocking": 1}
    assert kept.findings == [OK.model_dump(), STOP.model_dump()]
    assert len(history.list()) == 2


def test_old_looks_are_dropped(history: Infrastructure) -> None:
    now = datetime.now(UTC)
    history.record("one", run_id="old", findings=[OK], now=now - KEPT - timedelta(days=1))
    history.record("one", run_id="new", findings=[OK], now=now)
    assert [one.run_id for one in history.list()] == ["new"]


# -- the DAG's steps -----------------------------------------------------------------------------------------


class Task:
    """A task instance that keeps what is pushed."""

    task_id = "check"

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.pushed[key] = value


def context(task: Task) -> Any:
    run_of_dag = SimpleNamespace(dag_id="check_infrastructure", run_id="r1", conf={})
    return {"ti": task, "dag_run": run_of_dag, "dag": SimpleNamespace(params={})}


def test_a_look_leaves_counts_in_xcom_and_all_in_the_history(
    history: Infrastructure, found: Callable[..., list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    [asked, task] = [found(OK), Task()]
    steps.CheckClusterOperator(task_id="check", cluster="sandbox", active="True").execute(context(task))
    assert task.pushed == {"findings": {"ok": 1}}
    assert [one.cluster for one in history.list()] == ["sandbox"]
    assert asked[0][1] == {"active": True}


def test_a_blocking_finding_fails_its_cluster_with_one_line(
    history: Infrastructure, found: Callable[..., list[Any]]
) -> None:
    task = Task()
    found(OK, STOP)
    with pytest.raises(AirflowFailException, match=r"sandbox: Node a.*old.*Upgrade it"):
        steps.CheckClusterOperator(task_id="check", cluster="sandbox").execute(context(task))
    assert task.pushed["findings"] == {"blocking": 1, "ok": 1}
    assert len(history.list()) == 1, "what was found is kept although the task fails"


CHOICES: dict[str, tuple[Any, list[str] | None]] = {
    "all that have a connection": ([], ["sandbox"]),
    "null": ("null", ["sandbox"]),
    "those named": ('["acs", "sandbox", "acs"]', ["acs", "sandbox"]),
    "one that nobody knows": (["nowhere"], None),
}


@pytest.mark.parametrize("case", CHOICES)
def test_which_clusters_are_looked_at(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    named, wanted = CHOICES[case]

    def get(connection: str) -> Any:
        if connection != "slipway_sandbox":
            raise AirflowNotFoundException(connection)

    monkeypatch.setattr(steps.Connection, "get", get)
    monkeypatch.setattr(steps, "refuse_unknown_conf", lambda context: None)
    operator = steps.ChooseClustersOperator(task_id="choose", clusters=named)
    if wanted is None:
        with pytest.raises(AirflowFailException, match="no such cluster"):
            operator.execute(context(Task()))
    else:
        assert operator.execute(context(Task())) == wanted


def test_the_dag_looks_at_clusters_side_by_side_every_day() -> None:
    dag = steps.check_infrastructure_dag(dag_id="check_infrastructure", doc_md="x", schedule="30 1 * * *")
    check = dag.get_task("check")
    assert check.is_mapped and dag.task_ids == ["choose", "check"]
    assert dag.params.get_param("clusters").resolve(["sandbox"]) == ["sandbox"]
    assert dag.params.get_param("node_pods").resolve("kube-system") == "kube-system"
    with pytest.raises(ParamValidationError):
        dag.params.get_param("node_pods").resolve("not a namespace")
