"""What a run leaves for people who look at it: its note, links from its tasks, and assets that say what came of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from slipway.airflow_rest import FAILURE
from slipway.catalog.read import read_catalog
from slipway.operators.links import ApiLink, EndpointLink, PodLink, pod_address
from slipway.operators.notes import ABOUT, note_of
from slipway.operators.record import RecordOperator
from slipway.operators.scale import BeginScaleOperator
from slipway.operators.steps import plan_of
from tests.unit.life_api import ENDPOINT, Life, make_life, reference

RELEASE = (ABOUT, {"about": "qwen3-tiny, release 7", "done": "good"})
BROKE = (FAILURE, "wait: no node takes it")
RETURNED = (FAILURE, "release 7 failed; release 6 serves again: wait: no node takes it")
NOTES = [
    ([RELEASE], True, "qwen3-tiny, release 7: good"),
    ([RELEASE, BROKE, RETURNED], False, f"qwen3-tiny, release 7: {RETURNED[1]}"),
    ([RELEASE], False, "qwen3-tiny, release 7: the run failed"),
    ([BROKE], False, None),
    ([RELEASE, (FAILURE, "x" * 2000)], False, "qwen3-tiny, release 7: " + "x" * 976 + "…"),
]


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    return make_life(monkeypatch, tmp_path)


@pytest.mark.parametrize(("left", "succeeded", "note"), NOTES)
def test_a_note_says_endpoint_release_and_outcome(left: Any, succeeded: bool, note: str | None) -> None:
    assert note_of(left, succeeded=succeeded) == note


def test_a_run_that_was_refused_at_once_is_noted_with_the_endpoint_it_was_asked_for() -> None:
    assert note_of([BROKE], succeeded=False, asked="qwen3-tiny") == f"qwen3-tiny: {BROKE[1]}"
    assert note_of([], succeeded=False, asked="qwen3-tiny") is None, "a run of somebody else's DAG"


def test_a_run_says_what_it_is_about_as_soon_as_it_knows(life: Life) -> None:
    life.good("deploy_endpoint/1")
    begin = BeginScaleOperator(task_id="begin", endpoint=ENDPOINT, replicas="2")

    begin.execute(life.context("scale_endpoint/1"))

    assert life.pushed[ABOUT] == {"about": f"{ENDPOINT}, scale of release 1", "done": "done"}


def link(kind: Any, **attributes: Any) -> str:
    found: str = kind().get_link(SimpleNamespace(**attributes), ti_key=None)
    return found


def test_a_task_leads_to_its_endpoints_page_as_soon_as_it_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert link(EndpointLink, release={"release": 12}) == "/slipway/releases/12"
    assert link(EndpointLink, endpoint="qwen3-0.6b") == "/slipway/endpoints/qwen3-0.6b"
    assert link(EndpointLink, release=object()) == "", "a task that failed before it was rendered"
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.com/airflow/")
    assert link(EndpointLink, release={"release": 1}) == "/airflow/slipway/releases/1"


def test_a_task_leads_to_the_pod_in_the_clusters_own_console(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, catalog = plan_of(life.good("deploy_endpoint/1")), read_catalog()
    assert (pod_address(plan, "p-0"), link(PodLink)) == ("", ""), "the sandbox has no console"

    page = {"pod_page": "https://console.example/{namespace}/pods/{pod}"}
    cluster = catalog.clusters["sandbox"].model_copy(update=page)
    changed = replace(catalog, clusters={"sandbox": cluster})
    monkeypatch.setattr("slipway.catalog.read.read_catalog", lambda: changed)

    address = "https://console.example/models/pods/p-0"
    assert pod_address(plan, "p-0") == address == link(PodLink, pod_address=address)


def test_a_task_leads_to_the_api_where_clients_outside_have_one() -> None:
    assert link(ApiLink, api_address="https://llm.example.com/v1") == "https://llm.example.com/v1"
    assert link(ApiLink) == ""


def test_a_good_release_is_told_as_an_asset_that_names_its_model(life: Life) -> None:
    release = life.good("deploy_endpoint/1")
    newer = life.pend("redeploy_endpoint/2", args=["--max-num-seqs=4"])
    life.lock(newer)
    life.apply(newer)
    life.history.record_probe(newer.id, through="published", result={"answer": "fine"})
    record = RecordOperator(task_id="record", release=reference(newer))

    try:
        record.execute(life.context("redeploy_endpoint/2"))
    except TaskDeferred as deferred:
        assert life.events == [], "not before the pods of before are gone"
        resumed = RecordOperator(task_id="record", release=reference(newer))
        getattr(resumed, deferred.method_name)(life.context("redeploy_endpoint/2"), event={"left": []})

    [(uri, told)] = life.events
    assert uri == f"slipway://sandbox/models/endpoints/{ENDPOINT}"
    assert (told["release"], told["model"]) == (release.number + 1, "slipway://sandbox/models/qwen3-tiny")
