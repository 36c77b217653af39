"""Scaling, and what others changed, through the DAGs on a small server: what history, notes and page then say."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sandbox.demo import wait_for_dag
from slipway.cluster.objects import Ref
from slipway.releases.lines import line_of_difference
from tests.e2e.small import NAMESPACE, Small, answer_of

pytestmark = [pytest.mark.e2e, pytest.mark.full]


@pytest.fixture(scope="module")
def small(make_small: Callable[[str], Small]) -> Small:
    """An endpoint of the small server that serves."""
    endpoint = make_small("small-scale")
    for dag_id in ("scale_endpoint", "probe_endpoints"):
        wait_for_dag(endpoint.airflow, dag_id)
    return endpoint


def test_an_endpoint_is_stopped_and_comes_back(small: Small) -> None:
    good = small.good()

    stopped = small.run("scale_endpoint", replicas=0, reason="night")

    assert (stopped.state, stopped.failures) == ("success", [])
    deadline = time.monotonic() + 60
    while small.pods():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    run = small.airflow.get(f"/api/v2/dags/scale_endpoint/dagRuns/{stopped.run_id}")
    assert run["note"] == f"small-scale, scale of {good.title}: done"
    started = small.run("scale_endpoint", replicas=1)
    assert (started.state, started.failures) == ("success", [])
    assert small.ask() == answer_of(good)
    assert [change.detail for change in small.history.changes("small-scale", limit=2)] == [
        {"to": 1},
        {"to": 0},
    ]
    assert small.history.last_good("small-scale") == good


def test_a_number_and_an_autoscaler_together_are_refused_in_one_line(small: Small) -> None:
    small.good()

    both = small.run("scale_endpoint", replicas=1, autoscaling="on")
    unknown = small.run("scale_endpoint", autoscaling="on")

    assert both.failures[0].startswith("begin: a fixed number and an autoscaler cannot both set the replicas")
    assert "Write autoscaling into catalog/endpoints/small-scale.yaml" in unknown.failures[0]
    note = small.airflow.get(f"/api/v2/dags/scale_endpoint/dagRuns/{both.run_id}")["note"]
    assert note == f"small-scale: {both.failures[0].removeprefix('begin: ')}"


def test_a_service_that_somebody_deleted_is_told_and_a_redeployment_brings_it_back(small: Small) -> None:
    good = small.good()
    name = f"small-scale-r-{good.label[:8]}"
    assert small.run("probe_endpoints").state == "success"
    assert "small-scale" not in small.history.drifted()

    small.cluster.delete(Ref(apiVersion="v1", kind="Service", namespace=NAMESPACE, name=name))
    assert small.run("probe_endpoints").state == "success"

    [difference] = small.history.drifted()["small-scale"].differences
    gone = f"Service {NAMESPACE}/{name} is gone: somebody deleted it"
    assert line_of_difference(difference) == gone
    assert gone in small.airflow._request("GET", "/slipway/endpoints/small-scale").text
    assert small.run("redeploy_endpoint").state == "success"
    assert small.run("probe_endpoints").state == "success"
    assert "small-scale" not in small.history.drifted()
