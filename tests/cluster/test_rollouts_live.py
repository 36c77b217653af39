"""Releases that take each other's place on the real cluster, under clients that stream answers all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from slipway.catalog.read import read_catalog
from slipway.catalog.records import Strategy
from slipway.cluster import lease
from slipway.cluster.client import Cluster
from slipway.cluster.controllers import look
from slipway.cluster.objects import Object
from slipway.cluster.watch import wait_for_workload_sync
from slipway.manifests.plan import Controller, Plan, Process
from slipway.manifests.planning import make_plan
from slipway.manifests.portnames import with_port_names
from slipway.manifests.render import Rendered, render, service_name
from slipway.operators.deploy_steps import ApplyOperator, PublishOperator
from slipway.operators.draining import PodsGoneTrigger
from slipway.operators.record import RecordOperator
from slipway.operators.rollout import choose_rollout
from slipway.releases.records import Release
from slipway.releases.store import History
from tests.unit.life_api import Told

ENDPOINTS: dict[Controller, str] = {
    "StatefulSet": "qwen3-tiny",
    "Deployment": "qwen3-tiny",
    "LeaderWorkerSet": "qwen3-tiny-pair",
}
SERVER = """
import http.server, os, signal, threading, time

# A first process that says nothing of a signal does not get it.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
running, lock = 0, threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer([f"running {running}\\n" if self.path == "/metrics" else "fine"])

    def do_POST(self):
        global running
        self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            running += 1
        self.answer(self.pieces())
        with lock:
            running -= 1

    def pieces(self):
        for number in range(20):
            yield f"data: VERSION {number}\\n\\n"
            time.sleep(0.05)
        yield "data: [DONE]\\n\\n"

    def answer(self, pieces):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in [*pieces] if isinstance(pieces, list) else pieces:
            self.wfile.write(f"{len(piece):x}\\r\\n{piece}\\r\\n".encode())
        self.wfile.write(b"0\\r\\n\\r\\n")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size, daemon_threads = 128, True


Server(("", 8000), Handler).serve_forever()
"""
CRASH = "raise SystemExit('no such argument')"


@dataclass
class Stage:
    """One endpoint in a namespace of the real cluster, with a history of its own; runs are driven step by step."""

    cluster: Cluster
    namespace: str
    image: str
    history: History
    controller: Controller = "StatefulSet"
    replicas: int = 1
    runs: int = 0
    last: str = ""

    def plan(self, code: str) -> Plan:
        base = make_plan(read_catalog(), ENDPOINTS[self.controller])
        command = {"command": ["python3", "-c"], "args": [code]}
        small = {
            "image": self.image,
            **command,
            "worker": Process(**command) if self.controller == "LeaderWorkerSet" else None,
            "env": {"PYTHONUNBUFFERED": "1"},
            "requests": {"cpu": "5m", "memory": "32Mi"},
            "limits": {"memory": "96Mi"},
            "running_metric": "running",
            "startup_seconds": 60,
            "drain_seconds": 20,
            "shared_memory": "1Mi",
            "scratch": "1Mi",
        }
        return base.model_copy(
            update={
                "namespace": self.namespace,
                "endpoint": "ramp",
                "object_name": "ramp",
                "controller": self.controller,
                "replicas": self.replicas,
                "api_key": None,
                "tools_image": self.image,
                "server": base.server.model_copy(update=small),
            }
        )

    def pend(self, version: str, *, strategy: Strategy | None = None, code: str = SERVER) -> Release:
        """A release that is resolved and has its lock."""
        self.runs += 1
        plan = self.plan(code.replace("VERSION", version))
        last = self.history.last_good("ramp")
        if last is not None:
            plan = with_port_names(plan, Rendered.from_bytes(last.objects).stages["publication"])
        rendered = render(plan)
        plan = choose_rollout(plan, rendered, last=last, asked=strategy)
        release = self.history.create_pending(
            endpoint="ramp",
            run_id=f"redeploy_endpoint/{self.runs}",
            cluster=plan.cluster,
            namespace=plan.namespace,
            plan=plan.model_dump(mode="json"),
            overrides={},
            objects=rendered.to_bytes(),
            digest=rendered.digest,
            label=rendered.release,
            images=[self.image],
            weights_source="none",
        )
        fencing = lease.acquire(
            self.cluster,
            namespace=self.namespace,
            endpoint_object="ramp",
            holder=release.run_id,
            seconds=900,
        )
        assert fencing is not None
        return self.history.set_fencing(release.id, fencing)

    def step(self, operator: type[Any], release: Release) -> None:
        operator(task_id="step", release=self.reference(release)).execute(self.context(release))

    def apply(self, release: Release) -> None:
        self.step(ApplyOperator, release)

    def wait(self, release: Release, *, seconds: float = 120) -> str:
        """Wait for its workload; the reason why it never will be there, or ""."""
        workload = self.standing().of(release.label)
        assert workload is not None
        verdict = wait_for_workload_sync(
            self.cluster,
            kind=workload.ref.kind,
            namespace=self.namespace,
            name=workload.ref.name,
            release=release.label,
            endpoint="ramp",
            deadline_seconds=seconds,
        )
        return verdict.doom.reason if verdict.doom else ""

    def publish(self, release: Release) -> None:
        """Ask it directly, then publish it."""
        wait_for_answer(self.address(release))
        self.history.record_probe(release.id, through="release", result=PROBED)
        self.step(PublishOperator, release)

    def record(self, release: Release) -> None:
        """The last step, with what the triggerer does in between."""
        operator = RecordOperator(task_id="record", release=self.reference(release))
        try:
            operator.execute(self.context(release))
        except TaskDeferred as deferred:
            assert isinstance(deferred.trigger, PodsGoneTrigger)
            deadline = time.monotonic() + deferred.trigger.seconds
            while left := [name for name, label in self.pods().items() if label != release.label]:
                assert time.monotonic() < deadline, left
                time.sleep(0.5)
            operator.drained(self.context(release), {"left": []})

    def deploy(self, version: str, *, strategy: Strategy | None = None) -> Release:
        """A whole run."""
        release = self.pend(version, strategy=strategy)
        self.apply(release)
        assert self.wait(release) == ""
        self.publish(release)
        wait_for_answer(self.address())
        self.history.record_probe(release.id, through="published", result=PROBED)
        self.record(release)
        return self.history.get(release.id)

    def fail(self, release: Release) -> str:
        self.history.note_failure(release.id, "it is to fail")
        with pytest.raises((AirflowFailException, TaskDeferred)) as ended:
            self.step(RecordOperator, release)
        return str(ended.value)

    def standing(self) -> Any:
        return look(self.cluster, namespace=self.namespace, endpoint="ramp")

    def workloads(self) -> dict[str, str]:
        return {one.ref.name: str(one.release) for one in self.standing().workloads}

    def pods(self) -> dict[str, str]:
        """The release label of each serving pod."""
        labels = {"slipway.io/endpoint": "ramp"}
        found = self.cluster.list(api_version="v1", kind="Pod", namespace=self.namespace, labels=labels)
        return {pod["metadata"]["name"]: pod["metadata"]["labels"]["slipway.io/release"] for pod in found}

    def incarnations(self, release: Release) -> set[tuple[str, int]]:
        """Pods of a release with their restarts: equal before and after means that nobody touched them."""
        labels = {"slipway.io/endpoint": "ramp", "slipway.io/release": release.label}
        found = self.cluster.list(api_version="v1", kind="Pod", namespace=self.namespace, labels=labels)
        return {(pod["metadata"]["uid"], restarts(pod)) for pod in found}

    def address(self, release: Release | None = None) -> str:
        """Of a release's Service, or of the one that clients use; this machine is the node."""
        plan = self.plan("")
        name = service_name(plan, release=release.label if release else None)
        service = self.cluster.get(api_version="v1", kind="Service", namespace=self.namespace, name=name)
        assert service is not None
        return f"http://{service['spec']['clusterIP']}:8000"

    def reference(self, release: Release) -> dict[str, Any]:
        return {"release": release.id, "digest": release.digest}

    def context(self, release: Release) -> Any:
        dag_id, _, run_id = release.run_id.partition("/")
        run = SimpleNamespace(dag_id=dag_id, run_id=run_id)
        ti = SimpleNamespace(task_id="step", xcom_push=lambda key, value: None)
        return {"dag_run": run, "run_id": run_id, "ti": ti, "outlet_events": Told()}


PROBED = {"steps": [], "ttft_seconds": 0.1, "answer": "fine", "served_names": ["ramp"]}


def wait_for_answer(address: str) -> None:
    """As a probe does: a Service that was made a moment ago leads nowhere, or astray, until the node has its rules."""
    deadline = time.monotonic() + 30
    while True:
        try:
            answer = httpx.get(f"{address}/health", timeout=10, trust_env=False)
            if answer.text == "fine":
                return
            why = str(answer)
        except httpx.HTTPError as error:
            why = str(error)
        assert time.monotonic() < deadline, f"{address}: {why}"
        time.sleep(0.2)


def restarts(pod: Object) -> int:
    return sum(one["restartCount"] for one in pod.get("status", {}).get("containerStatuses") or [])


@pytest.fixture
def cluster(slipway: Cluster) -> Cluster:
    """What is tried here acts with Slipway's own rights."""
    return slipway


@pytest.fixture
def stage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cluster: Cluster, namespace: str, image: str
) -> Stage:
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{tmp_path}/history.db")
    monkeypatch.setenv("SLIPWAY_ARTIFACTS", str(tmp_path / "artifacts"))
    for module in ("steps", "rollout"):
        monkeypatch.setattr(f"slipway.operators.{module}.cluster_of", lambda connection: cluster)
    return Stage(cluster=cluster, namespace=namespace, image=image, history=History.open())


@dataclass
class Load:
    """Clients that each stream one answer after the other, on a new connection each time."""

    address: str
    clients: int = 6
    answers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self.answers.append(self.stream())
            except (httpx.HTTPError, AssertionError) as error:
                self.failures.append(f"{time.strftime('%X')} {type(error).__name__} {error}")

    def stream(self) -> str:
        version = ""
        with httpx.stream(
            "POST", f"{self.address}/v1/chat/completions", json={}, timeout=10, trust_env=False
        ) as answer:
            assert answer.status_code == 200, answer.status_code
            lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]" and len(lines) == 21, lines[-1:]
        version = lines[0].split()[1]
        return version


@contextmanager
def load(address: str) -> Iterator[Load]:
    running = Load(address)
    threads = [threading.Thread(target=running.run, daemon=True) for _ in range(running.clients)]
    for thread in threads:
        thread.start()
    try:
        yield running
    finally:
        running.over.set()
        for thread in threads:
            thread.join(timeout=30)


@pytest.mark.parametrize("controller", ENDPOINTS)
def test_no_streamed_answer_fails_while_blue_and_green_take_turns(
    stage: Stage, controller: Controller
) -> None:
    stage.controller = controller
    stage.deploy("first")
    with load(stage.address()) as clients:
        second = stage.deploy("second")
        assert second.plan["rollout"]["strategy"] == "blue-green", second.plan["rollout"]["reason"]
        assert stage.workloads() == {"ramp-green": second.label}
        third = stage.deploy("third")
        assert list(stage.workloads().values()) == [third.label] and "ramp-green" not in stage.workloads()
        seen = len(clients.answers)
        while len(clients.answers) < seen + 12 and not clients.failures:
            time.sleep(0.1)

    print(f"{controller}: {len(clients.answers)} answers, {len(clients.failures)} failures")
    assert clients.failures == []
    assert set(clients.answers) == {"first", "second", "third"} and clients.answers[-1] == "third"
    assert set(stage.pods().values()) == {third.label}


def test_what_does_not_come_up_goes_and_nobody_notices(stage: Stage) -> None:
    good = stage.deploy("good")
    before = stage.incarnations(good)
    with load(stage.address()) as clients:
        bad = stage.pend("bad", code=CRASH)
        stage.apply(bad)
        assert stage.wait(bad) == "CrashLoopBackOff"
        line = stage.fail(bad)

    assert line == "release 2 failed; release 1 was not touched and serves: it is to fail"
    assert (clients.failures, set(clients.answers)) == ([], {"good"})
    assert stage.workloads() == {"ramp": good.label} and stage.incarnations(good) == before


def test_requests_that_had_moved_go_back_without_a_failure(stage: Stage) -> None:
    good = stage.deploy("good")
    before = stage.incarnations(good)
    with load(stage.address()) as clients:
        bad = stage.pend("bad")
        stage.apply(bad)
        assert stage.wait(bad) == ""
        stage.publish(bad)
        while "bad" not in clients.answers:
            time.sleep(0.1)
        stage.fail(bad)
        assert stage.standing().published == good.label
        clients.answers.clear()
        while "good" not in clients.answers:
            time.sleep(0.1)

    assert clients.failures == [] and stage.incarnations(good) == before


@pytest.mark.parametrize("published", [False, True])
def test_two_workloads_of_a_run_that_died_become_one_without_a_failure(stage: Stage, published: bool) -> None:
    good = stage.deploy("good")
    with load(stage.address()) as clients:
        dead = stage.pend("dead")
        stage.apply(dead)
        assert stage.wait(dead) == ""
        if published:
            stage.publish(dead)
        lease.release(stage.cluster, namespace=stage.namespace, endpoint_object="ramp", holder=dead.run_id)
        assert len(stage.workloads()) == 2

        third = stage.deploy("third")

    assert clients.failures == []
    assert list(stage.workloads().values()) == [third.label]
    assert good.label not in stage.pods().values()


def test_a_second_workload_begins_with_the_replicas_that_the_first_was_scaled_to(stage: Stage) -> None:
    stage.deploy("first")
    [workload] = stage.standing().workloads
    stage.cluster.scale(workload.ref, replicas=2)

    second = stage.deploy("second")

    assert list(stage.pods().values()) == [second.label] * 2


@pytest.mark.parametrize("strategy", ["blue-green", "rolling", "recreate"])
def test_an_unchanged_plan_restarts_nothing(stage: Stage, strategy: Strategy) -> None:
    stage.deploy("first")
    same = stage.deploy("second")
    before = stage.incarnations(same)

    again = stage.deploy("second", strategy=strategy)

    assert (again.number, again.label) == (3, same.label)
    assert stage.incarnations(again) == before and stage.workloads() == {"ramp-green": same.label}


def test_replicas_of_a_deployment_change_one_after_another_without_a_failure(stage: Stage) -> None:
    stage.controller, stage.replicas = "Deployment", 2
    stage.deploy("first")
    with load(stage.address()) as clients:
        second = stage.deploy("second", strategy="rolling")

    print(f"rolling: {len(clients.answers)} answers, {len(clients.failures)} failures")
    assert clients.failures == []
    assert stage.workloads() == {"ramp": second.label} and stage.standing().published == second.label
    third = stage.deploy("third", strategy="recreate")
    assert stage.workloads() == {"ramp": third.label}


def test_recreate_ends_the_old_ones_first_and_finishes(stage: Stage) -> None:
    stage.replicas = 2
    stage.deploy("first")

    second = stage.deploy("second", strategy="recreate")

    assert stage.workloads() == {"ramp": second.label}
    assert list(stage.pods().values()) == [second.label] * 2
