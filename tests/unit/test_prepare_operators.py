"""What a run of prepare_cluster relies on in its tasks: who is asked, what may be made, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    TaskAwaitingInput,
)

from slipway.cluster import lease
from slipway.cluster.faults import UnreachableError
from slipway.errors import UsageError
from slipway.operators import connections, preparing
from slipway.prepare import run as runs
from slipway.prepare.outlook import Outlook, change_of, outlook
from slipway.prepare.steps import Step
from slipway.releases.preparations import Preparations
from tests.unit.prepare_fakes import CATALOG, Live, target

NEW = change_of("Namespace a", "+x", new=True)
HOLDER = "prepare_cluster/r1"


class Site:
    """Steps of which some are there."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.made: list[str] = []
        self.change = NEW

    def step(self, name: str, *after: str) -> Step:
        def look(_: Any) -> Outlook:
            return outlook(name, name, [] if name in self.there else [self.change])

        def make(_: Any) -> None:
            self.made.append(name)
            self.there.add(name)

        return Step(id=name, title=name, look=look, make=make, after=after)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Site:
    found, live = Site(), Live()
    live.version = lambda: "v1.34.4"  # type: ignore[attr-defined]
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{tmp_path}/history.db")
    monkeypatch.setattr(preparing, "refuse_unknown_conf", lambda context: None)
    monkeypatch.setattr(preparing, "refuse_without_fernet_key", lambda: None)
    monkeypatch.setattr(preparing._Preparing, "chosen", lambda self: [found.step("a"), found.step("b", "a")])
    monkeypatch.setattr(
        preparing._Preparing, "target", lambda self: target(CATALOG.clusters["sandbox"], live)
    )
    monkeypatch.setattr(
        preparing.PrepareStepOperator, "_fenced", lambda self, context, cluster, seconds: cluster
    )
    monkeypatch.setattr(lease, "release", lambda *_, **__: True)
    return found


def context() -> Any:
    run = SimpleNamespace(dag_id="prepare_cluster", run_id="r1", run_type="manual", triggering_user_name="me")
    instance = SimpleNamespace(task_id="x", id="1", xcom_push=lambda **_: None)
    return {"ti": instance, "task_instance": instance, "dag_run": run, "params": {"cluster": "sandbox"}}


def plan() -> list[str]:
    return preparing.PlanPreparationOperator(task_id="plan", cluster="sandbox").execute(context())


def approve(approved: Any = False) -> Any:
    operator = preparing.ApprovePreparationOperator(task_id="approve", cluster="sandbox", approve=approved)
    return operator.execute(context())


def make(step: str) -> None:
    preparing.PrepareStepOperator(task_id="step", cluster="sandbox", step=step).execute(context())


def finish() -> None:
    preparing.FinishPreparationOperator(task_id="finish", cluster="sandbox").execute(context())


def kept() -> Any:
    return Preparations.open().get("sandbox", run_id=HOLDER)


def test_a_run_plans_is_approved_makes_its_steps_and_is_kept(site: Site) -> None:
    assert plan() == ["a", "b"]
    assert approve("True") is None and kept().approver == "me"
    make("a")
    make("b")
    finish()

    assert site.made == ["a", "b"] and (kept().status, kept().failures) == ("done", {})


@pytest.mark.parametrize("there", [{"a"}, {"a", "b"}])
def test_only_steps_with_something_to_do_are_made(site: Site, there: set[str]) -> None:
    site.there |= there

    assert plan() == sorted({"a", "b"} - there)
    if there == {"a", "b"}:
        assert approve() is None, "nobody is asked about nothing"


def test_a_person_is_asked_with_the_plan_before_them(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        "airflow.providers.standard.operators.hitl.upsert_hitl_detail", lambda **how: asked.update(how)
    )
    plan()
    with pytest.raises(TaskAwaitingInput):
        approve()

    assert "| `a` | missing |" in asked["body"] and asked["options"] == ["Approve", "Reject"]
    assert kept().approver == ""


def test_a_step_waits_for_what_it_needs_and_is_tried_again(site: Site) -> None:
    plan()
    approve(True)
    with pytest.raises(AirflowException, match="b needs a, which is not there yet") as caught:
        make("b")
    assert not isinstance(caught.value, AirflowFailException), "it must be tried again"
    assert site.made == []


def test_what_was_not_approved_is_not_made(site: Site) -> None:
    plan()
    with pytest.raises(AirflowFailException, match="nobody has approved this run's plan"):
        make("a")
    approve(True)
    site.change = change_of("Namespace a", "+something else", new=True)
    with pytest.raises(AirflowFailException, match="what would change now is not what was approved"):
        make("a")
    Preparations.open().reject("sandbox", run_id=HOLDER, approver="me")
    with pytest.raises(AirflowFailException, match="nobody has approved"):
        make("a")

    assert site.made == []


def test_an_api_server_that_is_away_for_a_moment_costs_no_run(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan()
    approve(True)

    def away(*_: Any, **__: Any) -> Any:
        raise UnreachableError("could not read an object")

    monkeypatch.setattr(site, "step", lambda name, *after: Step(id=name, title=name, look=away, make=away))
    with pytest.raises(AirflowException, match="it will be tried again") as caught:
        make("a")
    assert not isinstance(caught.value, AirflowFailException)


def test_a_run_that_left_something_out_fails_with_what_it_is(site: Site) -> None:
    plan()
    approve(True)
    make("a")
    with pytest.raises(AirflowFailException, match=r"b is not there \(sandbox\)"):
        finish()

    assert kept().status == "failed" and list(kept().failures) == ["b"]


def test_a_run_whose_lock_another_has_taken_makes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    other = SimpleNamespace(holder="another", fencing=2)
    monkeypatch.setattr(lease, "holder_of", lambda *_, **__: other)
    operator = preparing.PrepareStepOperator(task_id="step", cluster="sandbox", step="a")

    with pytest.raises(Exception, match=r"lost the cluster's lock \(sandbox\): another holds it"):
        operator._fenced(context(), Live(), seconds=1)  # type: ignore[arg-type]


def connection_of(found: Any) -> Callable[[str], Any]:
    def get(name: str) -> Any:
        if found is None:
            raise AirflowNotFoundException(name)
        return found

    return get


def test_secrets_are_made_of_airflows_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = dict.fromkeys(("password", "host", "schema", "port"))
    found = SimpleNamespace(login="me", extra_dejson={"key": "x", "more": {"a": 1}}, **empty)
    monkeypatch.setattr(connections.Connection, "get", connection_of(found))
    assert connections.credentials_of("c") == {"login": "me", "extra.key": "x", "extra.more": '{"a": 1}'}

    monkeypatch.setattr(connections.Connection, "get", connection_of(None))
    with pytest.raises(UsageError, match=r"no such Airflow connection \(c\).*the cluster's record"):
        connections.credentials_of("c")


def test_a_terminals_steps_that_fail_stop_only_those_that_need_them(site: Site) -> None:
    steps = [site.step("a"), site.step("b", "a"), site.step("c")]
    said: list[str] = []
    where = target(CATALOG.clusters["sandbox"], Live())
    approved = {"b": {NEW.about: NEW.digest}, "c": {NEW.about: NEW.digest}}
    failures = runs.carry_out(where, steps, cluster=where.cluster, approved=approved, say=said.append)

    assert site.made == ["c"] and list(failures) == ["a", "b"]
    assert failures["b"] == "it needs a, which failed" and said[-1] == "c: done"
