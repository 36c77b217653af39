"""The pages of clusters: who may see them, what they show, and that nothing in them is taken for markup."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from slipway.checks.findings import Finding
from slipway.releases.infrastructure import Infrastructure
from slipway.web import app as web
from slipway_plugin import SlipwayPlugin

NOW = datetime.now(UTC)
OK = Finding(check="api", severity="ok", about="c", reason="v1.34")
HOSTILE = Finding(
    check="machines",
    severity="blocking",
    about="Node <script>alert(1)</script>",
    reason='"><img src=x onerror=alert(1)>',
    remedy="kubectl describe node '<b>'",
)
SLOW = Finding(check="clock", severity="warning", about="Node a", reason="its clock is 90 s ahead")


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Infrastructure]:
    """Two looks at one cluster and one at another."""
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{tmp_path / 'history.db'}")
    web._history.cache_clear()
    kept = Infrastructure.open()
    day = timedelta(days=1)
    kept.record("one", run_id="check_infrastructure/first", findings=[OK, SLOW], now=NOW - day)
    kept.record("one", run_id="check_infrastructure/second", findings=[OK, HOSTILE], now=NOW)
    kept.record("other", run_id="check_infrastructure/second", findings=[OK], now=NOW)
    yield kept
    web._history.cache_clear()


@pytest.fixture
def reader(history: Infrastructure) -> Iterator[TestClient]:
    """Somebody who may read the DAG."""
    web.app.dependency_overrides[web.may_read] = lambda: None
    yield TestClient(web.app, root_path="/slipway")
    web.app.dependency_overrides.clear()


@pytest.mark.parametrize("path", ["/clusters", "/clusters/one", "/clusters/nowhere"])
def test_nobody_sees_anything_without_airflows_login(path: str, history: Infrastructure) -> None:
    answer = TestClient(web.app).get(path)
    assert answer.status_code == 401
    assert "Log into Airflow first" in answer.text and "v1.34" not in answer.text


def test_every_page_asks_for_the_right_to_read_the_dag() -> None:
    for route in web.app.routes:
        dependencies = [one.dependency for one in getattr(route, "dependencies", [])]
        assert dependencies == [web.may_read], route


def test_all_clusters_with_their_latest_look(reader: TestClient) -> None:
    page = reader.get("/clusters").text
    assert page.count('<th scope="row">') == 2
    assert "1 blocking" in page and "1 warning" not in page, "the latest look counts"
    assert 'href="/slipway/clusters/one"' in page


def test_a_cluster_shows_what_is_new_and_what_is_gone(reader: TestClient) -> None:
    page = reader.get("/clusters/one").text
    assert page.index("<strong>new</strong>") < page.index("Gone since the look before")
    assert "its clock is 90 s ahead" in page[page.index("Gone since") :]
    assert "/dags/check_infrastructure/runs/second" in page


def test_an_older_look_can_be_chosen(reader: TestClient, history: Infrastructure) -> None:
    first = history.list(cluster="one")[-1]
    page = reader.get("/clusters/one", params={"look": first.id}).text
    assert "its clock is 90 s ahead" in page and "<strong>new</strong>" not in page
    assert 'aria-current="page"' in page


def test_what_a_cluster_says_is_text_and_no_script_may_run(reader: TestClient) -> None:
    answer = reader.get("/clusters/one")
    assert "<script" not in answer.text and "<img" not in answer.text and "<b>" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src" not in policy
    assert reader.get("/clusters").headers["Content-Security-Policy"] != policy, "a nonce is used once"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/clusters/nowhere", 404), ("/clusters/one?look=9999", 404), ("/clusters/one?look=x", 422)],
)
def test_what_is_not_there_is_said(path: str, status: int, reader: TestClient) -> None:
    assert reader.get(path).status_code == status


def test_a_history_that_cannot_be_read_is_said(reader: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", "nonsense")
    web._history.cache_clear()
    answer = reader.get("/clusters")
    assert answer.status_code == 503 and "SLIPWAY_DATABASE_URL" in answer.text


def test_airflow_finds_the_page_under_the_prefix_of_the_app() -> None:
    [app], [view] = SlipwayPlugin.fastapi_apps, SlipwayPlugin.external_views
    assert view["href"] == f"{app['url_prefix']}/clusters"
