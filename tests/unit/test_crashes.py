"""A run that is killed after any of its writes, and a reconciler that is killed too, leave exactly one release."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowRuntimeError, ErrorType, TaskDeferred
from airflow.sdk.execution_time.comms import ErrorResponse

from slipway.cluster import lease
from slipway.cluster.controllers import look
from slipway.errors import ReleaseError
from slipway.operators.deploy_steps import ApplyOperator, PublishOperator
from slipway.operators.draining import GONE_MARGIN_SECONDS
from slipway.operators.reconcile import FindGoneOperator, ReconcileOperator
from slipway.operators.record import LAST_SECONDS, RecordOperator
from slipway.operators.resolve import ResolveOperator
from slipway.operators.steps import one_line_failures
from slipway.releases.records import Release
from tests.unit.life_api import ENDPOINT, NAMESPACE, PROBED, Life, make_life, reference

RUN, RECONCILER = "redeploy_endpoint/2", "probe_endpoints/now"
MOST_WRITES = 100
FIRST = "the first release"
NOTHING: dict[str, Any] = {"serves": [], "lock": None, "pending": []}


class Killed(BaseException):
    """What a `kill -9` is to the code that it meets: nothing of it can catch this."""


@contextmanager
def killed_after(life: Life, writes: int) -> Iterator[None]:
    """Let so many writes pass; whatever asks the API server next is dead."""
    last = len(life.api.writes) + writes

    def strike(method: str, path: str) -> None:
        if len(life.api.writes) >= last:
            raise Killed

    life.api.down = strike
    try:
        yield
    finally:
        life.api.down = lambda method, path: None


def drive(life: Life, operator: Any, run: str) -> None:
    """A step to its end, with what the triggerer tells it in between."""
    call: Callable[..., Any] = operator.execute
    arguments: dict[str, Any] = {}
    while True:
        try:
            call(life.context(run), **arguments)
            return
        except TaskDeferred as deferred:
            events = {
                "restored": {"state": "available", "what": "ready"},
                "probed": {"name": getattr(deferred.trigger, "name", "")},
                "drained": {"left": []},
            }
            call = getattr(operator, deferred.method_name)
            arguments = {"event": events[deferred.method_name], **(deferred.kwargs or {})}
        except AirflowFailException:
            return


def change(life: Life, *, strategy: str, proven: bool) -> None:
    """What a run does from resolve to record; its pods and probes always do what is wanted."""
    operator = ResolveOperator(
        task_id="resolve",
        endpoint=ENDPOINT,
        overrides={"args": ["--max-num-seqs=4"]},
        strategy="" if strategy == FIRST else strategy,
        again=strategy != FIRST,
    )
    release = life.history.get(operator.execute(life.context(RUN))["release"])  # type: ignore[call-overload]
    step = {"release": reference(release)}
    life.lock(release)
    drive(life, ApplyOperator(task_id="apply", **step), RUN)
    life.history.record_probe(release.id, through="release", result=PROBED)
    drive(life, PublishOperator(task_id="publish", **step), RUN)
    if proven:
        life.history.record_probe(release.id, through="published", result=PROBED)
    drive(life, RecordOperator(task_id="record", **step), RUN)


def reconcile(life: Life) -> None:
    for found in FindGoneOperator(task_id="find_gone").execute(life.context(RECONCILER)):
        drive(life, ReconcileOperator(task_id="reconcile", release=found), RECONCILER)


def die(life: Life, writes: int, what: Callable[[], None]) -> bool:
    """Do something that is killed after so many writes; False when it was done before."""
    try:
        with killed_after(life, writes):
            what()
    except Killed:
        return True
    return False


def left(life: Life) -> dict[str, Any]:
    """What the cluster and the lock show of the endpoint, once a lock that nobody gave back has run out."""
    life.api.later(LAST_SECONDS + GONE_MARGIN_SECONDS)
    held = lease.holder_of(life.api.cluster(), namespace=NAMESPACE, endpoint_object=ENDPOINT)
    standing = look(life.api.cluster(), namespace=NAMESPACE, endpoint=ENDPOINT)
    services = {path.rpartition("/")[2] for path in life.api.objects if "/services/" in path}
    return {
        "serves": [one.release for one in standing.workloads if one.replicas],
        "published": standing.published,
        "services": services,
        "lock": held.holder if held and held.live else None,
        "pending": [release.number for release in life.history.pending()],
    }


def one_release(release: Release) -> dict[str, Any]:
    services = {ENDPOINT, f"{ENDPOINT}-pods", f"{ENDPOINT}-r-{release.label[:8]}"}
    return {
        "serves": [release.label],
        "published": release.label,
        "services": services,
        "lock": None,
        "pending": [],
    }


@pytest.mark.parametrize("proven", [True, False], ids=["proven", "failing"])
@pytest.mark.parametrize(
    "strategy",
    ["recreate", "blue-green", *(pytest.param(one, marks=pytest.mark.full) for one in ("rolling", FIRST))],
)
def test_one_release_or_none_is_left_whenever_a_run_and_its_reconciler_are_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, strategy: str, proven: bool
) -> None:
    for writes in range(MOST_WRITES):
        directory = tmp_path / str(writes)
        directory.mkdir()
        life = make_life(monkeypatch, directory)
        if strategy != FIRST:
            life.good("deploy_endpoint/1")

        died = die(life, writes, lambda: change(life, strategy=strategy, proven=proven))  # noqa: B023
        die(life, 1 + writes % 7, lambda: reconcile(life))  # noqa: B023
        reconcile(life)

        good = life.history.last_good(ENDPOINT)
        seen, wanted = left(life), one_release(good) if good else NOTHING
        assert {key: seen[key] for key in wanted} == wanted, f"killed after {writes} writes"
        if not died:
            assert (good is not None and good.run_id == RUN) == proven and writes > 5
            return
    raise AssertionError("the run does not end")


def test_a_reason_is_on_the_release_also_when_airflow_takes_no_note_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = make_life(monkeypatch, tmp_path)
    release, context = life.pend(RUN), life.context(RUN)

    def refuse(key: str, value: Any) -> None:
        raise AirflowRuntimeError(
            ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 503})
        )

    context["ti"].xcom_push = refuse
    with (
        pytest.raises(AirflowFailException, match="step: no node takes it"),
        one_line_failures(context, reference(release)),
    ):
        raise ReleaseError("no node takes it")
    assert life.history.get(release.id).failure == "step: no node takes it"
