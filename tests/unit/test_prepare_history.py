"""What is kept of a preparation, and that what somebody approved stays what counts."""

from __future__ import annotations

import pytest

from slipway.errors import ReleaseError
from slipway.releases.database import Database, database_url
from slipway.releases.preparations import Preparations

PLAN = [{"step": "namespaces", "state": "missing", "changes": [{"about": "Namespace a", "digest": "1"}]}]
OTHER = [{"step": "namespaces", "state": "there", "changes": []}]


@pytest.fixture
def history(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> Preparations:
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{tmp_path}/history.db")
    return Preparations(Database(database_url()))


def begin(history: Preparations, plan: list[dict[str, object]], run_id: str = "r") -> list[dict[str, object]]:
    return history.begin("sandbox", run_id=run_id, plan=plan, reason="why", actor="me").plan


def test_a_run_that_plans_again_replaces_its_plan_until_somebody_approved_it(history: Preparations) -> None:
    assert begin(history, PLAN) == PLAN
    assert begin(history, OTHER) == OTHER
    assert begin(history, PLAN) == PLAN
    history.approve("sandbox", run_id="r", approver="a person")
    assert begin(history, OTHER) == PLAN

    kept = history.get("sandbox", run_id="r")
    assert (kept.status, kept.approver, kept.reason, kept.actor) == ("planned", "a person", "why", "me")


def test_how_each_step_ended_is_kept(history: Preparations) -> None:
    for run_id in ("first", "second"):
        begin(history, PLAN, run_id)
    history.finish("sandbox", run_id="first", failures={"gateway": "no \x00 such kind"})
    history.finish("sandbox", run_id="second", failures={})

    assert [(one.run_id, one.status) for one in history.list(cluster="sandbox")] == [
        ("second", "done"),
        ("first", "failed"),
    ]
    assert "no" in history.get("sandbox", run_id="first").failures["gateway"]
    assert history.list(cluster="another") == []


def test_what_was_turned_down_says_by_whom(history: Preparations) -> None:
    begin(history, PLAN)

    assert history.reject("sandbox", run_id="r", approver="a person").status == "rejected"


def test_a_run_that_planned_nothing_is_named(history: Preparations) -> None:
    with pytest.raises(ReleaseError, match=r"nothing was planned \(sandbox, r\)"):
        history.get("sandbox", run_id="r")
