"""What dead runs left is brought to an end, who lost the lock writes nothing, and changes of state are told once."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from slipway.catalog.read import read_catalog
from slipway.cluster import lease
from slipway.cluster.fencing import FencedCluster
from slipway.cluster.objects import Ref
from slipway.errors import LockError
from slipway.operators import watching
from slipway.operators.alerts import ALERT_CONNECTION
from slipway.operators.deploy_steps import ApplyOperator
from slipway.operators.reconcile import FindGoneOperator, ReconcileOperator
from slipway.operators.watching import ChooseClustersOperator, ProbeClusterOperator
from slipway.releases.records import Release
from tests.unit.life_api import ENDPOINT, NAMESPACE, PROBED, Life, make_life, reference

RUN = "probe_endpoints/now"
DEAD = "redeploy_endpoint/dead"


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    return make_life(monkeypatch, tmp_path)


@pytest.fixture
def torn(life: Life) -> Release:
    """A release whose run died in the middle of its apply, holding the lock for hours."""
    life.good("deploy_endpoint/1")
    release = life.pend(DEAD, args=["--max-num-seqs=4"])
    life.lock(release, seconds=7200)
    life.apply(release)
    return release


def find(life: Life) -> list[dict[str, Any]]:
    return FindGoneOperator(task_id="find_gone").execute(life.context(RUN))  # type: ignore[return-value]


def reconcile(life: Life, found: dict[str, Any], *, run: str = RUN) -> None:
    ReconcileOperator(task_id="reconcile", release=found).execute(life.context(run))


STATES = [("running", False), ("queued", False), ("failed", True), ("success", True), (None, True)]


@pytest.mark.parametrize(("state", "gone"), STATES)
def test_a_release_is_gone_when_its_run_has_ended_or_does_not_exist(
    life: Life, torn: Release, state: str | None, gone: bool
) -> None:
    if state:
        life.runs[DEAD] = state

    assert find(life) == ([reference(torn)] if gone else [])


def test_a_run_that_died_in_its_apply_goes_back_to_the_last_good_release(life: Life, torn: Release) -> None:
    [found] = find(life)
    with pytest.raises(TaskDeferred) as deferred:
        reconcile(life, found)

    operator, context = ReconcileOperator(task_id="reconcile", release=found), life.context(RUN)
    assert life.holder() == RUN, "the dead run's lock is taken from it"
    step, event = deferred.value, {"state": "available", "what": "ready"}
    for _ in range(2):
        with pytest.raises(TaskDeferred) as deferred:
            getattr(operator, step.method_name)(context, event=event, **(step.kwargs or {}))
        step = deferred.value
        event = {"name": step.trigger.name}
    getattr(operator, step.method_name)(context, event=event, **(step.kwargs or {}))

    release = life.history.get(torn.id)
    assert (release.status, release.returning_to) == ("failed", 1)
    assert release.failure == f"its run {DEAD} does not exist any more"
    good = life.history.last_good(ENDPOINT)
    live = life.api.found("statefulsets", ENDPOINT)
    assert good and live and live["metadata"]["labels"]["slipway.io/release"] == good.label
    assert life.holder() is None and find(life) == []


def test_whatever_still_lives_of_the_dead_run_writes_nothing_more(life: Life, torn: Release) -> None:
    with pytest.raises(TaskDeferred):
        reconcile(life, find(life)[0])
    before = list(life.api.writes)

    with pytest.raises(AirflowFailException, match="lost the endpoint's lock"):
        ApplyOperator(task_id="apply", release=reference(torn)).execute(life.context(DEAD))

    assert life.api.writes == before


def test_a_release_that_was_proven_before_its_run_died_is_good(life: Life, torn: Release) -> None:
    life.history.record_probe(torn.id, through="published", result=PROBED)

    reconcile(life, find(life)[0])

    assert life.history.last_good(ENDPOINT) == life.history.get(torn.id)
    assert life.holder() is None


def test_a_run_that_never_had_the_lock_changed_nothing_and_nothing_is_touched(life: Life) -> None:
    life.good("deploy_endpoint/1")
    waiting = life.pend(DEAD, args=["--max-num-seqs=4"])
    before = list(life.api.writes)

    reconcile(life, find(life)[0])

    assert life.history.get(waiting.id).status == "failed"
    assert life.api.writes == before


def test_a_run_that_died_in_a_namespace_that_is_gone_leaves_nothing_to_return_to(
    life: Life, torn: Release
) -> None:
    life.api.delete_namespace(NAMESPACE)
    before = list(life.api.writes)

    reconcile(life, find(life)[0])

    assert life.history.get(torn.id).status == "failed" and find(life) == []
    assert life.api.writes == before


def test_a_newer_release_that_serves_is_not_touched(life: Life, torn: Release) -> None:
    newer = life.good("deploy_endpoint/3", args=["--max-num-seqs=8"])

    reconcile(life, find(life)[0])

    assert life.history.get(torn.id).status == "failed"
    live = life.api.found("statefulsets", ENDPOINT)
    assert live and live["metadata"]["labels"]["slipway.io/release"] == newer.label
    assert life.holder() is None


def test_while_another_run_holds_the_lock_the_dead_one_waits(life: Life, torn: Release) -> None:
    life.api.later(8000)
    lease.acquire(
        life.api.cluster(),
        namespace=NAMESPACE,
        endpoint_object=ENDPOINT,
        holder="scale_endpoint/s",
        seconds=600,
    )

    with pytest.raises(AirflowSkipException):
        reconcile(life, find(life)[0])

    assert life.history.get(torn.id).status == "pending"
    assert life.holder() == "scale_endpoint/s"


def test_a_change_whose_run_is_gone_fails_and_frees_its_lock(life: Life) -> None:
    release = life.good("deploy_endpoint/1")
    life.history.begin_change(
        release_id=release.id, run_id="scale_endpoint/dead", kind="scale", detail={"to": 2}
    )
    lease.acquire(
        life.api.cluster(),
        namespace=NAMESPACE,
        endpoint_object=ENDPOINT,
        holder="scale_endpoint/dead",
        seconds=600,
    )

    reconcile(life, find(life)[0])

    [change] = life.history.changes(ENDPOINT)
    assert (change.status, change.failure) == ("failed", "its run scale_endpoint/dead is gone")
    assert life.holder() is None


WRITES = {
    "apply": lambda c: c.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "m"}}
    ),
    "scale": lambda c: c.scale(STS, replicas=0),
    "delete": lambda c: c.delete(STS),
}
STS = Ref(apiVersion="apps/v1", kind="StatefulSet", namespace=NAMESPACE, name=ENDPOINT)


@pytest.mark.parametrize("lost", ["taken", "given back", "run out"])
@pytest.mark.parametrize("write", WRITES)
def test_each_write_asks_for_the_lock_first(life: Life, write: str, lost: str) -> None:
    release = life.good("deploy_endpoint/1")
    place = {"namespace": NAMESPACE, "endpoint_object": ENDPOINT}
    fencing = life.lock(release)
    fenced = FencedCluster(life.api.cluster(), **place, holder=release.run_id, fencing=fencing)
    WRITES["scale"](fenced)
    if lost == "given back":
        lease.release(life.api.cluster(), **place, holder=release.run_id)
    else:
        life.api.later(601)
    if lost == "taken":
        lease.acquire(life.api.cluster(), **place, holder="another", seconds=600)
    before = list(life.api.writes)

    with pytest.raises(LockError):
        WRITES[write](fenced)

    assert life.api.writes == before
    assert fenced.get(api_version="apps/v1", kind="StatefulSet", namespace=NAMESPACE, name=ENDPOINT)


def test_a_dead_holders_lock_goes_to_the_reconciler_before_those_who_wait(life: Life) -> None:
    cluster, place = life.api.cluster(), {"namespace": NAMESPACE, "endpoint_object": ENDPOINT}
    assert lease.acquire(cluster, **place, holder=DEAD, seconds=7200) == 1
    assert lease.acquire(cluster, **place, holder="waits", seconds=60) is None

    assert lease.take_over(cluster, **place, dead=DEAD, holder=RUN, seconds=600) == 2
    assert lease.take_over(cluster, **place, dead=DEAD, holder=RUN, seconds=600) == 2, "a repeated step"
    assert lease.take_over(cluster, **place, dead=DEAD, holder="a third", seconds=600) is None
    lease.release(cluster, **place, holder=RUN)
    assert lease.acquire(cluster, **place, holder="waits", seconds=60) == 3


def probe(life: Life) -> None:
    [cluster] = ChooseClustersOperator(task_id="clusters").execute(life.context(RUN))  # type: ignore[misc]
    ProbeClusterOperator(task_id="probe", cluster=cluster).execute(life.context(RUN))


REFUSED = {"state": "failing", "reason": "the endpoint failed at the step 'completion'"}


def test_a_probe_keeps_latency_and_time_to_first_token(life: Life) -> None:
    life.good("deploy_endpoint/1")

    probe(life)
    probe(life)

    [state] = life.history.states(ENDPOINT)
    assert (state.state, state.seconds, state.ttft_seconds, state.release_number) == (
        "serving",
        0.25,
        0.125,
        1,
    )
    [hour] = life.history.hours(ENDPOINT)
    assert (hour.probes, hour.failures, hour.seconds_sum, hour.ttft_max) == (2, 0, 0.5, 0.125)
    assert not [path for path in life.api.objects if "/pods/" in path]


def test_what_is_being_changed_is_not_asked(life: Life, torn: Release) -> None:
    probe(life)

    assert life.history.states(ENDPOINT) == []


def test_what_a_run_begins_to_change_while_it_is_asked_is_not_kept(life: Life) -> None:
    life.good("deploy_endpoint/1")
    life.api.sight = REFUSED

    def begin(pod: Any) -> dict[str, Any]:
        life.lock(life.pend("redeploy_endpoint/2", args=["--max-num-seqs=4"]))
        return {"result": {"probed": 1, "failing": 1}}

    life.api.probe_message = begin
    probe(life)

    assert life.history.states(ENDPOINT) == []


def test_stopped_is_no_fault_and_a_workload_that_is_gone_is(life: Life) -> None:
    life.good("deploy_endpoint/1")
    life.api.cluster().scale(STS, replicas=0)
    probe(life)
    life.api.cluster().delete(STS)
    probe(life)

    assert [state.state for state in life.history.states(ENDPOINT)] == ["failing", "stopped"]
    assert "somebody deleted it" in life.history.states(ENDPOINT)[0].reason


def test_a_probe_that_cannot_be_made_says_nothing_of_the_endpoint(life: Life) -> None:
    life.good("deploy_endpoint/1")
    life.api.down = lambda method, path: 403 if method == "POST" and path.endswith("/pods") else None

    with pytest.raises(AirflowFailException, match="1 of 1 probes could not be made; qwen3-tiny: "):
        probe(life)

    assert life.history.states(ENDPOINT) == []


def pod_of(life: Life, release: Release) -> str:
    """A serving pod of a release; its path."""
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{ENDPOINT}-0"
    labels = {"slipway.io/endpoint": ENDPOINT, "slipway.io/release": release.label}
    metadata = {"name": f"{ENDPOINT}-0", "namespace": NAMESPACE, "uid": "1", "labels": labels}
    life.api.objects[path] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}
    return path


def says(monkeypatch: pytest.MonkeyPatch, *, restart_after: int | None) -> None:
    catalog = read_catalog()
    record = catalog.endpoints[ENDPOINT].model_copy(update={"restart_after": restart_after})
    changed = replace(catalog, endpoints={**catalog.endpoints, ENDPOINT: record})
    monkeypatch.setattr("slipway.operators.restarting.read_catalog", lambda: changed)


def fails_for(life: Life, minutes: int) -> None:
    """Probes have failed since so many minutes ago."""
    since = datetime.now(UTC) - timedelta(minutes=minutes)
    place: Any = {"cluster": "sandbox", "release_number": 1}
    life.history.record_state(ENDPOINT, **place, state="failing", reason="hangs", now=since)
    life.api.sight = REFUSED


RESTARTS = [(None, 60, False), (10, 5, False), (10, 60, True)]


@pytest.mark.parametrize(("restart_after", "minutes", "restarted"), RESTARTS)
def test_pods_are_started_anew_only_where_the_record_says_so_and_once(
    life: Life, monkeypatch: pytest.MonkeyPatch, restart_after: int | None, minutes: int, restarted: bool
) -> None:
    pod = pod_of(life, life.good("deploy_endpoint/1"))
    says(monkeypatch, restart_after=restart_after)
    fails_for(life, minutes)

    probe(life)

    assert (pod not in life.api.objects) == restarted
    changes = life.history.changes(ENDPOINT)
    assert [(one.kind, one.status, one.actor) for one in changes] == (
        [("restart", "done", "probe_endpoints")] if restarted else []
    )
    again = pod_of(life, life.history.good_ones()[0])
    probe(life)
    assert again in life.api.objects and life.holder() is None


def test_the_catalog_is_not_read_where_nothing_fails(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    life.good("deploy_endpoint/1")
    monkeypatch.setattr("slipway.operators.restarting.read_catalog", lambda: pytest.fail("it was read"))

    probe(life)

    assert life.history.states(ENDPOINT)[0].state == "serving"


def test_pods_of_an_endpoint_that_somebody_works_on_are_left_alone(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = life.good("deploy_endpoint/1")
    pod = pod_of(life, release)
    says(monkeypatch, restart_after=10)
    fails_for(life, 60)
    life.lock(release)

    probe(life)

    assert pod in life.api.objects and life.history.changes(ENDPOINT) == []


def test_old_hours_and_states_are_forgotten(life: Life) -> None:
    old = datetime.now(UTC) - timedelta(days=500)
    values = {"cluster": "sandbox", "state": "serving", "release_number": 1}
    life.history.record_state("gone", now=old, **values)  # type: ignore[arg-type]
    life.history.record_state("here", **values)  # type: ignore[arg-type]

    life.history.forget_old_states()

    assert (life.history.states("gone"), life.history.hours("gone")) == ([], [])
    assert len(life.history.states("here")) == len(life.history.hours("here")) == 1


class Receiver:
    """An address that takes JSON, or refuses it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any], str | None]] = []
        self.status = 200
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.status == 200:
                    outer.told.append((self.path, body, self.headers.get("Authorization")))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, daemon=True)
    thread.start()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
    thread.join()


def tell_through(monkeypatch: pytest.MonkeyPatch, **connection: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{ALERT_CONNECTION.upper()}", json.dumps(connection))


def test_a_change_of_state_is_told_once_and_its_end_too(
    life: Life, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_through(
        monkeypatch,
        conn_type="http",
        host="127.0.0.1",
        port=receiver.port,
        password="token",
        extra={"endpoint": "/hook"},
    )
    life.good("deploy_endpoint/1")

    probe(life)
    serving = life.api.sight
    assert receiver.told == [], "an endpoint that serves from the start is no news"
    life.api.sight = REFUSED
    probe(life)
    probe(life)
    life.api.sight = serving
    probe(life)
    probe(life)

    assert [(path, body["state"], key) for path, body, key in receiver.told] == [
        ("/hook", "failing", "Bearer token"),
        ("/hook", "serving", "Bearer token"),
    ]
    assert "does not serve since" in receiver.told[0][1]["text"]
    assert "at the step 'completion'" in receiver.told[0][1]["text"]


def test_what_there_was_no_time_to_tell_is_told_by_the_next_run(
    life: Life, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_through(monkeypatch, conn_type="http", host="127.0.0.1", port=receiver.port)
    life.good("deploy_endpoint/1")
    life.api.sight = REFUSED
    monkeypatch.setattr(watching, "TELL_SECONDS", -1.0)
    probe(life)
    assert receiver.told == []

    monkeypatch.setattr(watching, "TELL_SECONDS", 60.0)
    probe(life)

    assert [body["state"] for _, body, _ in receiver.told] == ["failing"]


def test_a_change_that_could_not_be_told_is_told_by_the_next_run(
    life: Life, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{receiver.port}/services"
    tell_through(monkeypatch, conn_type="slackwebhook", host=address, password="T0/B0/secret")
    life.good("deploy_endpoint/1")
    life.api.sight = REFUSED
    receiver.status = 500
    probe(life)
    receiver.status = 200
    probe(life)
    probe(life)

    [(path, body, _)] = receiver.told
    assert path == "/services/T0/B0/secret" and set(body) == {"text"}
