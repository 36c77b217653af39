"""A canary: the new release gets the requests in steps, each watched, and all go back when too many fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from slipway.catalog.read import include_directory
from slipway.cluster.controllers import look
from slipway.operators.deploy_steps import ApplyOperator, PublishOperator
from slipway.operators.record import RecordOperator
from slipway.operators.resolve import ResolveOperator
from slipway.probes import canary as watching
from slipway.probes.canary import CanaryOrder, CanaryResult, watch
from slipway.probes.client import UnavailableError
from slipway.releases.records import Release
from tests.unit.life_api import ENDPOINT, NAMESPACE, PROBED, Life, Objects, make_life, reference

RUN = "redeploy_endpoint/2"
PROBE_FAILED = {
    "kind": "ProbeError",
    "what": "the endpoint failed at the step 'completion'",
    "about": "http://new",
    "why": "it is dead",
    "remedy": "",
}
FINE = {"requests": 60, "failures": 0, "first_failure": "", "served": 1000, "errors": 10}


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    """An endpoint that serves, with a route and the strategy in its record."""
    include = tmp_path / "include"
    (include / "catalog").mkdir(parents=True)
    for one in include_directory().iterdir():
        if one.name != "catalog":
            (include / one.name).symlink_to(one)
    for folder in (include_directory() / "catalog").iterdir():
        (include / "catalog" / folder.name).mkdir()
        for file in folder.glob("*.yaml"):
            (include / "catalog" / folder.name / file.name).symlink_to(file)
    gateway = {"name": "models", "namespace": "gateways", "gateway_class": "eg", "listeners": []}
    change(include / "catalog/clusters/sandbox.yaml", gateway=gateway)
    change(
        include / "catalog/endpoints/qwen3-tiny.yaml",
        exposure={"route": {"host": "tiny.example"}},
        strategy="canary",
    )
    monkeypatch.setenv("SLIPWAY_INCLUDE", str(include))
    life = make_life(monkeypatch, tmp_path)
    life.good("deploy_endpoint/1")
    return life


def change(file: Path, **values: Any) -> None:
    content = yaml.safe_load(file.read_text())
    file.unlink()
    file.write_text(yaml.safe_dump({**content, **values}))


@pytest.fixture
def second(life: Life) -> Release:
    """A release that was applied and probed."""
    overrides = json.dumps({"args": ["--max-num-seqs=4"]})
    operator = ResolveOperator(task_id="resolve", endpoint=ENDPOINT, overrides=overrides, again=True)
    release = life.history.get(operator.execute(life.context(RUN))["release"])  # type: ignore[call-overload]
    life.lock(release)
    ApplyOperator(task_id="apply", release=reference(release)).execute(life.context(RUN))
    life.history.record_probe(release.id, through="release", result=PROBED)
    return release


def backends(life: Life) -> list[tuple[str, int]]:
    route = life.api.found("httproutes", ENDPOINT)
    assert route is not None
    return [(one["name"], one["weight"]) for one in route["spec"]["rules"][0]["backendRefs"]]


def message(seen: Objects) -> Objects:
    return seen if "error" in seen else {"result": seen}


def published(life: Life) -> str | None:
    return look(life.api.cluster(), namespace=NAMESPACE, endpoint=ENDPOINT).published


def steps(life: Life, release: Release, seen: Callable[[int], Objects]) -> Iterator[list[tuple[str, int]]]:
    """Publish, and yield where the route leads at each step."""
    operator, context = PublishOperator(task_id="publish", release=reference(release)), life.context(RUN)
    number, go_on = 0, lambda: operator.execute(context)
    while True:
        life.api.probe_message = lambda pod, seen=seen, number=number: message(seen(number))  # type: ignore[misc]
        try:
            go_on()
        except TaskDeferred as deferred:
            yield backends(life)
            event, kwargs, method = (
                {"name": deferred.trigger.name},
                deferred.kwargs or {},
                deferred.method_name,
            )
            go_on = lambda: getattr(operator, method)(context, event=event, **kwargs)  # noqa: B023, E731
            number += 1
        else:
            return


def test_the_share_grows_step_by_step_and_in_the_end_there_is_one_way(life: Life, second: Release) -> None:
    first, new = life.history.last_good(ENDPOINT), f"{ENDPOINT}-r-{second.label[:8]}"
    assert first is not None

    shares = list(steps(life, second, lambda number: FINE))

    assert shares == [[(ENDPOINT, 100 - weight), (new, weight)] for weight in (1, 10, 50)]
    assert (backends(life), published(life)) == ([(ENDPOINT, 1)], second.label)
    assert not [path for path in life.api.objects if "/pods/" in path], "the pods that watched are gone"


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (
            {"error": PROBE_FAILED},
            "at 50 % of the requests the endpoint failed at the step 'completion' (http://new): it is dead",
        ),
        (
            {**FINE, "failures": 2, "first_failure": "status 500"},
            "at 50 % of the requests (qwen3-tiny): 2 of 60 requests of our own failed (3.3 %), "
            "10 of 1000 that its pods counted (1.0 %), and 1 % may; the first: status 500. ",
        ),
        (
            {**FINE, "errors": 11},
            "at 50 % of the requests (qwen3-tiny): 0 of 60 requests of our own failed (0.0 %), "
            "11 of 1000 that its pods counted (1.1 %), and 1 % may. ",
        ),
    ],
)
def test_too_many_failures_at_any_step_give_all_requests_back(
    life: Life, second: Release, seen: Objects, why: str
) -> None:
    first = life.history.last_good(ENDPOINT)
    assert first is not None

    with pytest.raises(AirflowFailException, match=re.escape(why)):
        list(steps(life, second, lambda number: FINE if number < 2 else seen))

    assert published(life) == first.label
    life.api.probe_message = lambda pod: {"result": PROBED}
    step = RecordOperator(task_id="record", release=reference(second))
    with pytest.raises(TaskDeferred):
        step.execute(life.context(RUN))
    assert (backends(life), published(life)) == ([(ENDPOINT, 1)], first.label)


def test_what_the_next_run_finds_of_a_dead_canary_leads_nowhere_else(life: Life, second: Release) -> None:
    first = life.history.last_good(ENDPOINT)
    assert first is not None
    next(steps(life, second, lambda number: FINE))
    assert len(backends(life)) == 2
    life.api.later(7200)

    overrides = json.dumps({"args": ["--max-num-seqs=3"]})
    operator = ResolveOperator(task_id="resolve", endpoint=ENDPOINT, overrides=overrides, again=True)
    context = life.context("redeploy_endpoint/3")
    third = life.history.get(operator.execute(context)["release"])  # type: ignore[call-overload]
    life.lock(third)
    ApplyOperator(task_id="apply", release=reference(third)).execute(context)

    assert backends(life) == [(ENDPOINT, 1)]
    standing = look(life.api.cluster(), namespace=NAMESPACE, endpoint=ENDPOINT)
    assert {one.release for one in standing.workloads} == {first.label, third.label}


# -- what is counted
# ----------------------------------------------------------------------------------------------------

METRICS = """# TYPE http_requests_total counter
http_requests_total{{handler="/v1/chat/completions",method="POST",status="2xx"}} {good}
http_requests_total{{handler="/v1/chat/completions",method="POST",status="4xx"}} 7.0
http_requests_total{{handler="/v1/completions",method="POST",status="5xx"}} {bad}
http_requests_created{{handler="/v1/completions",method="POST",status="5xx"}} 1.7e+09
"""


def test_own_requests_and_everybodys_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "probe", lambda order: None)
    answers = iter([200, 503, 200])
    looks = iter([(10.0, 1.0), (20.0, 1.0), (110.0, 3.0), (20.0, 1.0)])

    def post(client: Any, path: str, body: Any) -> httpx.Response:
        status = next(answers, 200)
        if status == 503:
            raise UnavailableError("status 503: full", status=503)
        return httpx.Response(status)

    def metrics(address: str, **_: Any) -> httpx.Response:
        good, bad = next(looks)
        return httpx.Response(200, text=METRICS.format(good=good, bad=bad))

    clock = iter(range(100))
    monkeypatch.setattr(watching.Client, "post", post)
    monkeypatch.setattr(watching.httpx, "get", metrics)
    monkeypatch.setattr(watching.time, "monotonic", lambda: float(next(clock)))
    order = CanaryOrder(
        base_url="http://new",
        served_name="tiny",
        seconds=5,
        expect_api_key=False,
        counters=["http://10.0.0.1:8000/metrics", "http://10.0.0.2:8000/metrics"],
    )

    seen = watch(order, sleep=lambda seconds: None)

    assert (seen.failures, seen.first_failure) == (1, "status 503: full")
    assert seen.requests > 1 and (seen.served, seen.errors) == (102, 2)
    assert seen.errors_percent == pytest.approx(100 / seen.requests)


def test_a_release_that_nobody_asked_has_no_errors() -> None:
    seen = CanaryResult(requests=1, failures=0, first_failure="", served=0, errors=0)

    assert seen.errors_percent == 0
