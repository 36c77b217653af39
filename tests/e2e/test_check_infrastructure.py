"""Looking at clusters through Airflow: one that is down stops no other, and the page shows what was found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from sandbox.demo import wait_for_dag
from slipway.airflow_rest import AirflowRest
from slipway.releases.infrastructure import Infrastructure
from tests.e2e.conftest import Run

DAG = "check_infrastructure"
DOWN, CONNECTION = "acs", "slipway_acs"


@pytest.fixture
def token(airflow: AirflowRest) -> str:
    """A login."""
    login = {"username": airflow.user, "password": airflow.password}
    answer = httpx.post(f"{airflow.url}/auth/token", json=login, trust_env=False, timeout=30)
    return str(answer.raise_for_status().json()["access_token"])


@pytest.fixture
def cluster_that_is_down(airflow: AirflowRest, token: str, tmp_path: Path) -> Iterator[str]:
    """A connection to an API server that is not there."""
    user = {"name": "u", "user": {"token": "x"}}
    place = {"name": "down", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "down", "context": {"cluster": "down", "user": "u"}}
    config = {
        **{"apiVersion": "v1", "kind": "Config", "current-context": "down"},
        **{"clusters": [place], "users": [user], "contexts": [context]},
    }
    url, headers = f"{airflow.url}/api/v2/connections", {"Authorization": f"Bearer {token}"}
    body = {
        "connection_id": CONNECTION,
        "conn_type": "kubernetes",
        "extra": json.dumps({"kube_config": json.dumps(config), "in_cluster": False}),
    }
    # One that a killed run of the tests left is in the way.
    httpx.delete(f"{url}/{CONNECTION}", headers=headers, trust_env=False, timeout=30)
    made = httpx.post(url, json=body, headers=headers, trust_env=False, timeout=30)
    assert made.status_code == 201, made.text
    yield DOWN
    httpx.delete(f"{url}/{CONNECTION}", headers=headers, trust_env=False, timeout=30)


def test_a_cluster_that_is_down_stops_no_other_and_the_page_tells_both(
    airflow: AirflowRest, run: Run, environment: dict[str, str], token: str, cluster_that_is_down: str
) -> None:
    wait_for_dag(airflow, DAG)
    outcome = run(DAG)
    assert outcome.state == "failed", "a blocking finding shows in the run"
    assert any(cluster_that_is_down in line for line in outcome.failures), outcome.failures

    history = Infrastructure.open()
    looks = {name: history.list(cluster=name, limit=1)[0] for name in ("sandbox", cluster_that_is_down)}
    assert {one.run_id for one in looks.values()} == {f"{DAG}/{outcome.run_id}"}, "both were looked at"
    down = {one["check"] for one in looks[cluster_that_is_down].findings if one["severity"] == "blocking"}
    assert down == {"api"}
    assert looks["sandbox"].counts["ok"] > 10

    page = f"{airflow.url}/slipway/clusters"
    assert httpx.get(page, trust_env=False, timeout=30).status_code == 401
    with httpx.Client(cookies={"_token": token}, trust_env=False, timeout=30) as session:
        listed = session.get(page)
        told = session.get(f"{page}/{cluster_that_is_down}").text
    assert listed.status_code == 200 and all(name in listed.text for name in looks)
    assert f'href="/slipway/clusters/{cluster_that_is_down}"' in listed.text
    assert "blocking" in told and outcome.run_id in told


def test_one_cluster_can_be_chosen_and_a_wrong_one_is_refused(airflow: AirflowRest, run: Run) -> None:
    wait_for_dag(airflow, DAG)
    before = len(Infrastructure.open().list(cluster="acs"))
    chosen = run(DAG, clusters=["sandbox"])
    assert Infrastructure.open().list(cluster="sandbox", limit=1)[0].run_id == f"{DAG}/{chosen.run_id}"
    assert len(Infrastructure.open().list(cluster="acs")) == before
