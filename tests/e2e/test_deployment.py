"""Deployments through Airflow's REST API on the real cluster, with real vLLM: what a person relies on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipway.airflow_rest import AirflowRest, Outcome
from slipway.errors import UsageError
from slipway.releases.store import History
from tests.e2e.conftest import ENDPOINT, Run, Serving

pytestmark = pytest.mark.e2e


def test_a_deployed_endpoint_serves_and_its_release_is_good(
    deployed: Outcome, serving: Serving, history: History
) -> None:
    assert (deployed.state, deployed.failures) == ("success", [])
    release = history.last_good(ENDPOINT)
    assert release is not None and release.weights_digest
    labels = [pod["metadata"]["labels"]["slipway.io/release"] for pod in serving.pods()]
    assert labels == [release.label]
    assert serving.services()[ENDPOINT]["spec"]["selector"]["slipway.io/release"] == release.label
    assert serving.ask().json()["usage"]["completion_tokens"] == 4
    assert serving.ask(key="wrong").status_code == 401


def test_the_probe_and_the_benchmark_are_kept_with_the_release(deployed: Outcome, history: History) -> None:
    release = history.last_good(ENDPOINT)
    assert release is not None
    probes = history.probes(release.id)
    assert [probe.through for probe in probes] == ["release", "published"]
    assert all(probe.result["ttft_seconds"] for probe in probes)
    benchmark = history.benchmarks(release.id)[-1]
    assert benchmark.valid and (benchmark.figures.completed, benchmark.figures.failed) == (16, 0)
    raw = json.loads(Path(benchmark.raw_reference).read_bytes())
    assert raw["output_throughput"] == benchmark.figures.output_throughput
    assert benchmark.raw.items() <= raw.items()


def test_people_find_the_release_from_its_run_and_other_dags_can_wait_for_it(
    deployed: Outcome, airflow: AirflowRest, history: History, environment: dict[str, str]
) -> None:
    release = history.by_run(ENDPOINT, f"deploy_endpoint/{deployed.run_id}")
    good = history.last_good(ENDPOINT)
    assert release is not None and good is not None
    run = f"/api/v2/dags/deploy_endpoint/dagRuns/{deployed.run_id}"

    assert airflow.get(run)["note"] == f"{ENDPOINT}, {release.title}: good"
    links = airflow.get(f"{run}/taskInstances/record/links")["extra_links"]
    assert links == {"Endpoint": f"/slipway/releases/{release.id}"}
    page = airflow._request("GET", f"/slipway/endpoints/{ENDPOINT}")
    assert page.is_success and f"Release {good.number} serves" in page.text
    assert httpx.get(f"{airflow.url}/slipway/endpoints", trust_env=False).status_code == 401
    newest = {"source_dag_id": "deploy_endpoint", "order_by": "-timestamp", "limit": 100}
    events = airflow.get("/api/v2/assets/events", newest)
    made = {one["uri"] for one in events["asset_events"] if one["source_run_id"] == deployed.run_id}
    place = "slipway://sandbox/models"
    assert made == {
        f"{place}/qwen3-tiny",
        f"{place}/endpoints/{ENDPOINT}",
        f"{place}/benchmarks/{ENDPOINT}",
    }


def test_a_second_run_moves_no_byte_and_restarts_nothing(
    deployed: Outcome,
    run: Run,
    airflow: AirflowRest,
    serving: Serving,
    tiny_overrides: dict[str, Any],
) -> None:
    before = [pod["metadata"]["uid"] for pod in serving.pods()]

    outcome = run("deploy_endpoint", endpoint=ENDPOINT, overrides=tiny_overrides)

    assert outcome.state == "success"
    assert [pod["metadata"]["uid"] for pod in serving.pods()] == before
    assert "(0 fetched, " in airflow.log("deploy_endpoint", outcome.run_id, "download")


def test_a_redeploy_with_other_arguments_is_another_release_and_cleans_up_after_the_old_one(
    deployed: Outcome, run: Run, serving: Serving, history: History
) -> None:
    old = history.last_good(ENDPOINT)
    assert old is not None

    outcome = run(
        "redeploy_endpoint", endpoint=ENDPOINT, reason="fewer", overrides={"args": ["--max-num-seqs=4"]}
    )

    assert outcome.state == "success"
    new = history.last_good(ENDPOINT)
    assert new is not None and new.label != old.label and new.reason == "fewer"
    assert history.get(old.id).status == "superseded"
    assert set(serving.services()) == {ENDPOINT, f"{ENDPOINT}-pods", f"{ENDPOINT}-r-{new.label[:8]}"}
    assert "--max-num-seqs=4" in serving.pods()[0]["spec"]["containers"][0]["args"]
    assert serving.ask().is_success


def test_a_redeploy_that_cannot_start_says_why_and_the_last_good_release_serves_again(
    deployed: Outcome, run: Run, serving: Serving, history: History, artifacts: Path
) -> None:
    good = history.last_good(ENDPOINT)
    assert good is not None

    outcome = run(
        "redeploy_endpoint",
        endpoint=ENDPOINT,
        strategy="recreate",
        overrides={"args": ["--no-such-flag"]},
    )

    assert outcome.state == "failed"
    assert any(line.startswith("wait: ") and "--no-such-flag" in line for line in outcome.failures)
    assert any(line.startswith("record: ") and "serves again" in line for line in outcome.failures)
    failed = history.list(endpoint=ENDPOINT, limit=1)[0]
    assert failed.status == "failed" and "--no-such-flag" in (failed.failure or "")
    assert (artifacts / "evidence" / ENDPOINT / f"{failed.number}.json").is_file()
    assert serving.ask().is_success
    assert history.last_good(ENDPOINT) == good


SOURCES = [
    ("s3://models/no-such-prefix", "no objects under s3://models/no-such-prefix"),
    ("s3://no-such-bucket/x", "no-such-bucket"),
    ("s3://models/no-config", "config.json"),
]


@pytest.mark.parametrize(("source", "reason"), SOURCES)
def test_weights_that_are_not_there_end_the_run_with_the_reason_and_touch_nothing(
    deployed: Outcome, run: Run, serving: Serving, bucket: Any, source: str, reason: str
) -> None:
    bucket.put_object(Bucket="models", Key="no-config/model.safetensors", Body=b"x" * 64)
    before = [pod["metadata"]["uid"] for pod in serving.pods()]

    outcome = run("deploy_endpoint", endpoint=ENDPOINT, overrides={"source": source})

    assert outcome.state == "failed"
    assert any(line.startswith("download: ") and reason in line for line in outcome.failures)
    assert any("was not touched and serves" in line for line in outcome.failures)
    assert [pod["metadata"]["uid"] for pod in serving.pods()] == before
    assert serving.ask().is_success


REFUSED_BY_AIRFLOW = [
    {"endpoint": "no-such-endpoint"},
    {"endpoint": ENDPOINT, "overrides": {"repicas": 2}},
    {"endpoint": ENDPOINT, "overrides": {"replicas": "many"}},
]


@pytest.mark.parametrize("conf", REFUSED_BY_AIRFLOW)
def test_values_that_no_run_can_use_are_refused_before_there_is_a_run(
    airflow: AirflowRest, conf: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=r"Airflow refuses the run \(deploy_endpoint\)"):
        airflow.trigger("deploy_endpoint", conf)


REFUSED_BY_RESOLVE = [
    ({"endpoint": ENDPOINT, "repicas": 2}, "resolve: no such parameter (repicas)"),
    (
        {"endpoint": ENDPOINT, "overrides": {"args": ["--port=1"]}},
        "resolve: an override may not set this flag (--port)",
    ),
    (
        {"endpoint": ENDPOINT, "overrides": {"image": "docker.io/evil/x:1"}},
        "resolve: the image may not be used here (docker.io/evil/x:1)",
    ),
]


@pytest.mark.parametrize(("conf", "reason"), REFUSED_BY_RESOLVE)
def test_a_run_that_asks_for_what_it_may_not_have_ends_at_once_with_the_reason(
    run: Run, conf: dict[str, Any], reason: str
) -> None:
    outcome = run("deploy_endpoint", **conf)

    assert outcome.state == "failed"
    assert outcome.failures[0].startswith(reason)


def test_the_nightly_benchmark_measures_what_serves(deployed: Outcome, run: Run, history: History) -> None:
    release = history.last_good(ENDPOINT)
    assert release is not None
    before = len(history.benchmarks(release.id))

    outcome = run("nightly_benchmark", endpoints=[ENDPOINT])

    assert (outcome.state, outcome.failures) == ("success", [])
    assert len(history.benchmarks(release.id)) == before + 1


def test_no_secret_is_in_what_airflow_shows(
    deployed: Outcome, airflow: AirflowRest, serving: Serving
) -> None:
    key = serving.api_key
    for step in airflow.steps("deploy_endpoint", deployed.run_id):
        task = step["task_id"]
        path = f"/api/v2/dags/deploy_endpoint/dagRuns/{deployed.run_id}/taskInstances/{task}"
        shown = json.dumps([airflow.get(path), airflow.get(f"{path}/xcomEntries")])
        assert key not in shown
        assert key not in airflow.log("deploy_endpoint", deployed.run_id, task)


def test_xcom_carries_references_times_and_links_only(deployed: Outcome, airflow: AirflowRest) -> None:
    path = f"/api/v2/dags/deploy_endpoint/dagRuns/{deployed.run_id}/taskInstances/~/xcomEntries"
    keys = {(entry["task_id"], entry["key"]) for entry in airflow.get(path)["xcom_entries"]}

    allowed = {"return_value", "pod_name", "pod_namespace", "pod_times", "server_times", "run_about"}
    links = {"_link_ApiLink", "_link_EndpointLink", "_link_PodLink"}
    assert {key for _, key in keys} <= allowed | links
    assert {task for task, key in keys if key == "return_value"} == {"resolve"}
