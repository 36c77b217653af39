"""The pages: who may see them, what they show, and that nothing in them is taken for markup."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from slipway.checks.findings import Finding
from slipway.manifests.render import Rendered
from slipway.releases.infrastructure import Infrastructure
from slipway.releases.records import Release
from slipway.releases.store import History
from slipway.web import clusters, endpoints
from slipway.web.app import app
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
    forget()
    kept = Infrastructure.open()
    day = timedelta(days=1)
    kept.record("one", run_id="check_infrastructure/first", findings=[OK, SLOW], now=NOW - day)
    kept.record("one", run_id="check_infrastructure/second", findings=[OK, HOSTILE], now=NOW)
    kept.record("other", run_id="check_infrastructure/second", findings=[OK], now=NOW)
    yield kept
    forget()


def forget() -> None:
    """Open the history anew with the next page."""
    clusters.history.cache_clear()
    endpoints.history.cache_clear()


@pytest.fixture
def reader(history: Infrastructure) -> Iterator[TestClient]:
    """Somebody who may read the DAGs."""
    for right in (clusters.may_read, endpoints.may_read):
        app.dependency_overrides[right] = lambda: None
    yield TestClient(app, root_path="/slipway")
    app.dependency_overrides.clear()


PATHS = ["/clusters", "/clusters/one", "/clusters/nowhere", "/endpoints", "/endpoints/ramp", "/releases/1"]


@pytest.mark.parametrize("path", PATHS)
def test_nobody_sees_anything_without_airflows_login(path: str, history: Infrastructure) -> None:
    answer = TestClient(app).get(path)
    assert answer.status_code == 401
    assert "Log into Airflow first" in answer.text and "v1.34" not in answer.text


def test_every_page_asks_for_the_right_to_read_the_dag_whose_results_it_shows() -> None:
    rights = {"clusters": clusters.may_read, "endpoints": endpoints.may_read, "releases": endpoints.may_read}
    routes = [*clusters.router.routes, *endpoints.router.routes]
    assert {route.path for route in app.routes} == {route.path for route in routes}  # type: ignore[attr-defined]
    for route in routes:
        asked = [one.call for one in route.dependant.dependencies]  # type: ignore[attr-defined]
        assert asked == [rights[route.path.split("/")[1]]], route  # type: ignore[attr-defined]


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
    forget()
    answer = reader.get("/clusters")
    assert answer.status_code == 503 and "SLIPWAY_DATABASE_URL" in answer.text


@pytest.fixture
def ramp(history: Infrastructure) -> History:
    """An endpoint with two good releases and a failed one, probed, measured, scaled, and changed by somebody."""
    kept = History(history.database)
    first, second = (good(kept, number, image=f"vllm:{number}") for number in (1, 2))
    failed = pend(kept, 3, image="vllm:3")
    kept.mark_failed(failed.id, failure="wait: <b>out of memory</b>")
    kept.record_state(
        "ramp", cluster="one", state="serving", release_number=2, seconds=0.5, ttft_seconds=0.25
    )
    kept.record_benchmark(second.id, workload="chat", raw=RAW, raw_reference="file:///x")
    change = kept.begin_change(release_id=first.id, run_id="scale_endpoint/1", kind="scale", detail={"to": 2})
    kept.finish_change(change.id)
    kept.record_drift("ramp", cluster="one", release_number=2, differences=[DRIFT])
    return kept


RAW = {"completed": 4, "failed": 0, "num_prompts": 4, "total_output_tokens": 8, "output_throughput": 123.4}
DRIFT = {
    "object": "Service models/ramp",
    "field": "spec.selector",
    "what": "changed",
    "was": "<a>",
    "now": "<b>",
    "manager": "kubectl-edit",
    "at": "2026-11-21T12:00:00Z",
}


def pend(history: History, number: int, *, image: str) -> Release:
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "ramp"}, "spec": {"image": image}}
    rendered = Rendered(release=f"{number:012}", stages={"storage": [], "workload": [pod], "publication": []})
    server = {"image": image, "args": [f"--token=sk-0123456789abcdef012{number}"], "port": 8000}
    return history.create_pending(
        endpoint="ramp",
        run_id=f"redeploy_endpoint/run-{number}",
        cluster="one",
        namespace="models",
        plan={"server": server, "object_name": "ramp", "namespace": "models"},
        overrides={},
        objects=rendered.to_bytes(),
        digest=rendered.digest,
        label=rendered.release,
        images=[image],
        weights_source="s3://models/ramp",
        reason="<script>alert(2)</script>",
        actor="ada",
    )


def good(history: History, number: int, *, image: str) -> Release:
    return history.mark_good(pend(history, number, image=image).id)


def test_all_endpoints_with_how_they_stand(reader: TestClient, ramp: History) -> None:
    page = reader.get("/endpoints").text
    assert 'href="/slipway/endpoints/ramp"' in page
    assert all(text in page for text in ("serving", "release 2", "failed", ">1</span>")), page


def test_an_endpoint_shows_what_serves_and_all_that_is_known_of_it(reader: TestClient, ramp: History) -> None:
    page = reader.get("/endpoints/ramp").text
    shown = [
        "Release 2 serves in namespace models",
        "http://ramp.models.svc:8000/v1",
        "Service models/ramp: spec.selector was &lt;a&gt;, is &lt;b&gt;, changed by kubectl-edit",
        "image: vllm:1 -&gt; vllm:2",
        "-  image: vllm:1",
        "123.4",
        "scale to 2",
        "/dags/redeploy_endpoint/runs/run-2",
        "0.250",
    ]
    assert [text for text in shown if text not in page] == []
    assert "sk-0123456789abcdef" not in page


def test_what_probes_saw_of_the_release_before_is_no_state_of_the_new_one(
    reader: TestClient, ramp: History
) -> None:
    ramp.record_state("ramp", cluster="one", state="failing", reason="it hangs", release_number=2)
    assert "failing" in reader.get("/endpoints").text
    assert "has not been probed" not in reader.get("/endpoints/ramp").text

    good(ramp, 4, image="vllm:4")

    assert "not probed yet" in reader.get("/endpoints").text
    shown = reader.get("/endpoints/ramp").text
    assert "It has not been probed yet" in shown and "it hangs" in shown, "its states are still listed"


def test_a_release_that_failed_says_why(reader: TestClient, ramp: History) -> None:
    page = reader.get("/endpoints/ramp?release=3").text
    assert '<h2 id="release">Release 3</h2>' in page
    assert "&lt;b&gt;out of memory&lt;/b&gt;" in page and "<script" not in page
    assert "What it changed about release 2" in page


def test_a_release_leads_to_its_endpoint(reader: TestClient, ramp: History) -> None:
    answer = reader.get(f"/releases/{ramp.lines('ramp')[0].id}", follow_redirects=False)
    assert answer.headers["location"] == "/slipway/endpoints/ramp?release=3#release"


UNKNOWN = ["/endpoints/nothing", "/endpoints/ramp?release=9", "/releases/99"]


@pytest.mark.parametrize("path", UNKNOWN)
def test_what_was_never_released_is_said(path: str, reader: TestClient, ramp: History) -> None:
    assert reader.get(path).status_code == 404


def test_what_was_removed_serves_nothing_and_keeps_its_history(reader: TestClient, ramp: History) -> None:
    ramp.retire("ramp")
    page = reader.get("/endpoints/ramp").text
    assert "Nothing of it serves" in page and "Release 3</h2>" in page


def test_airflow_finds_the_pages_under_the_prefix_of_the_app() -> None:
    [served], views = SlipwayPlugin.fastapi_apps, SlipwayPlugin.external_views
    wanted = [f"{served['url_prefix']}/{name}" for name in ("endpoints", "clusters")]
    assert [view["href"] for view in views] == wanted
