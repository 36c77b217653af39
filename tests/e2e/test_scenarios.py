"""Failures, each through a whole run of the real Airflow on the real cluster: the line that is told, and what is left.

The serving pods are a small server with one fault each; the runs go on side by side, those of one endpoint one after
the other. Only those scenarios are played whose tests were selected.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from sandbox.demo import wait_for_dag
from slipway.airflow_rest import FINISHED, AirflowRest
from slipway.cluster import lease
from slipway.cluster.client import Cluster
from slipway.cluster.controllers import Standing, look
from slipway.cluster.objects import RELEASE_LABEL, Object
from slipway.releases.records import Release
from slipway.releases.store import History
from tests.e2e.own_catalog import catalog_with
from tests.e2e.scenarios import FULL, GOOD, LINES, SCENARIOS, Scenario
from tests.e2e.small import patiently
from tests.e2e.stage import Stage, ask, cluster_objects, namespaces, new_prefix, registry

pytestmark = pytest.mark.e2e

JOBS = ("deploy_endpoint", "redeploy_endpoint", "rollback_endpoint", "scale_endpoint", "remove_endpoint")
RUNS_AT_ONCE = 8
LONGEST_RUN = 600


@dataclass(frozen=True)
class Seen:
    """What a run said, and what was there when it had ended."""

    state: str
    lines: list[str]
    release: Release | None
    good: Release | None
    standing: Standing
    pods: dict[str, Object]
    before: frozenset[str]
    lock: lease.Holder | None
    answer: int | None


@pytest.fixture(scope="module")
def stage(
    cluster: Cluster,
    airflow: AirflowRest,
    history: History,
    bucket: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """Catalog, namespaces, weights and registry; afterwards nothing of it is left."""
    for dag_id in JOBS:
        wait_for_dag(airflow, dag_id)
    with registry() as address:
        made = Stage(cluster=cluster, airflow=airflow, history=history, prefix=new_prefix(), registry=address)
        put_weights(bucket, made.prefix)
        with namespaces(made), cluster_objects(made):
            folder = tmp_path_factory.mktemp("catalog")
            with catalog_with(records(made), airflow=airflow, folder=folder):
                yield made
        remove_weights(bucket, made.prefix)


def filled(value: Any, stage: Stage) -> Any:
    """A scenario's value with the run's own words in it."""
    text = json.dumps(value)
    for word, found in stage.words.items():
        text = text.replace(f"<{word}>", found)
    return json.loads(text)


def records(stage: Stage) -> dict[str, dict[str, Any]]:
    """The catalog's further records: clusters, models, and an endpoint with a runtime for each scenario."""
    cluster = {
        "connection": "slipway_sandbox",
        "registry": "localhost/slipway",
        "repositories": ["localhost/slipway/", f"{stage.registry}/", "registry.invalid/"],
        "storage": {"storage_class": "local-path", "access_mode": "ReadWriteOnce"},
        "object_store": {
            "endpoint": "http://s3.slipway-sandbox.svc.cluster.local:7070",
            "secret": "s3-credentials",
        },
        "accelerators": {"cpu": {}, "nvidia": {}},
    }
    strangers = {**cluster, "object_store": {**cluster["object_store"], "secret": "wrong-credentials"}}
    model = {
        "sources": [f"s3://models/{stage.prefix}/tiny"],
        "served_name": "tiny",
        "size": "1Mi",
        "parameters": 1000,
        "context_length": 2048,
        "license": "Apache-2.0",
    }
    made: dict[str, dict[str, Any]] = {
        "clusters/scenarios": cluster,
        "clusters/scenarios-strangers": strangers,
        "clusters/scenarios-open": {**cluster, "pod_security": "privileged"},
        "models/tiny": model,
        "models/large": {**model, "size": "400Gi", "parameters": 200_000_000_000},
    }
    endpoints = {one: Scenario() for one in GOOD} | {
        name: one for name, one in SCENARIOS.items() if one.of is None
    }
    for name, one in endpoints.items():
        made[f"runtimes/{name}"] = {**RUNTIME, **filled(one.runtime, stage)}
        made[f"endpoints/{name}"] = {
            "model": "tiny",
            "runtime": name,
            "accelerator": "cpu",
            "cluster": "scenarios",
            "namespace": stage.namespaces[one.namespace],
            "resources": {"cpu": "10m", "memory": "96Mi"},
            "volume": {"size": "16Mi"},
            "sizing": "advise",
            "api_key": {"secret": "api-key"},
            "nightly": False,
            **filled(one.endpoint, stage),
        }
    return made


RUNTIME: dict[str, Any] = {
    "task": "chat",
    "images": {"cpu": {"built": "tools"}, "nvidia": {"built": "tools"}},
    "api_key_env": "SERVER_API_KEY",
    "command": ["python3", "-B", "-u", "/server/failing_server.py"],
    "args": ["--port={{ MODEL_PORT }}", "--served-model-name={{ MODEL_NAME }}"],
    "startup_seconds": 60,
    "shared_memory": "1Mi",
    "scratch": "8Mi",
    "drain_seconds": 0,
    "protected": ["--port", "--served-model-name"],
    "volumes": [{"name": "server", "configMap": {"name": "server"}}],
    "volume_mounts": [{"name": "server", "mountPath": "/server"}],
}


def put_weights(bucket: Any, prefix: str) -> None:
    """A model of one tensor, and others that lack something."""
    header = json.dumps({"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    whole = struct.pack("<Q", len(header)) + header + bytes(8)
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": whole}
    stated = {**files, "model.safetensors": b"?"}
    wrong = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in stated.items()).encode()
    folders = {
        "tiny": files,
        "no-config": {name: data for name, data in files.items() if name != "config.json"},
        "cut-short": {**files, "model.safetensors": whole[:-4]},
        "wrong-sum": {**files, "SHA256SUMS": wrong},
    }
    for folder, content in folders.items():
        for name, data in content.items():
            bucket.put_object(Bucket="models", Key=f"{prefix}/{folder}/{name}", Body=data)


def remove_weights(bucket: Any, prefix: str) -> None:
    for one in bucket.list_objects_v2(Bucket="models", Prefix=f"{prefix}/")["Contents"]:
        bucket.delete_object(Bucket="models", Key=one["Key"])


@pytest.fixture(scope="module")
def played(stage: Stage, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Seen]]]:
    """The selected scenarios, each as the future of what was seen of it; what serves is removed at the end."""
    items = [
        item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")
    ]
    chosen = {item.callspec.params["name"] for item in items}
    futures: dict[str, Future[Seen]] = {name: Future() for name in SCENARIOS if name in chosen}
    stories = [[name for name in futures if SCENARIOS[name].of == good] for good in GOOD]
    stories += [[name] for name in futures if SCENARIOS[name].of is None]
    stories = [story for story in stories if story]
    threads = ThreadPoolExecutor(RUNS_AT_ONCE)
    for story in stories:
        threads.submit(play, stage, story, futures)
    yield futures
    threads.shutdown(cancel_futures=True)
    for good in {SCENARIOS[story[0]].of for story in stories} - {None}:
        follow(stage, "remove_endpoint", {"endpoint": good, "confirm": good})


def play(stage: Stage, story: list[str], futures: dict[str, Future[Seen]]) -> None:
    """Play the scenarios of one endpoint."""
    try:
        of = SCENARIOS[story[0]].of
        if of:
            state, lines, _ = follow(stage, "deploy_endpoint", {"endpoint": of, "reason": "scenarios"})
            assert state == "success", lines
        for name in story:
            futures[name].set_result(play_one(stage, name))
    except BaseException as error:
        for name in story:
            if not futures[name].done():
                futures[name].set_exception(error)
        raise


def play_one(stage: Stage, name: str) -> Seen:
    one = SCENARIOS[name]
    endpoint, namespace = one.of or name, stage.namespaces[one.namespace]
    before = stage.history.last_good(endpoint)
    pods = frozenset(pods_of(stage, endpoint, namespace))
    conf = {"endpoint": endpoint, **filled(one.conf, stage)}
    state, lines, run_id = follow(stage, one.dag, conf)
    good = stage.history.last_good(endpoint)
    standing = look(stage.cluster, namespace=namespace, endpoint=endpoint)
    assert good == before, "nothing of this is a good release"
    return Seen(
        state=state,
        lines=lines,
        release=stage.history.by_run(endpoint, f"{one.dag}/{run_id}"),
        good=good,
        standing=standing,
        pods=pods_of(stage, endpoint, namespace),
        before=pods,
        lock=lease.holder_of(stage.cluster, namespace=namespace, endpoint_object=endpoint),
        answer=ask(stage, namespace=namespace, endpoint=endpoint)
        if one.left in ("untouched", "back")
        else None,
    )


def follow(stage: Stage, dag_id: str, conf: dict[str, Any]) -> tuple[str, list[str], str]:
    """Trigger a run and wait for its end.

    Seldom, one request at a time, and again where there was no answer: a crowd of writers is more than Airflow's API
    server does on SQLite.
    """
    run_id = f"scenario-{uuid.uuid4()}"
    with stage.turn:
        patiently(lambda: stage.airflow.trigger(dag_id, conf, run_id=run_id))
    deadline, state = time.monotonic() + LONGEST_RUN, ""
    while state not in FINISHED:
        assert time.monotonic() < deadline, f"{dag_id} {conf} does not end"
        time.sleep(3)
        with stage.turn:
            state = patiently(lambda: stage.airflow.run_state(dag_id, run_id))
    with stage.turn:
        return state, patiently(lambda: stage.airflow.failures(dag_id, run_id)), run_id


def pods_of(stage: Stage, endpoint: str, namespace: str) -> dict[str, Object]:
    """The endpoint's serving pods that are to stay, by their uid."""
    labels = {"slipway.io/endpoint": endpoint}
    found = stage.cluster.list(api_version="v1", kind="Pod", namespace=namespace, labels=labels)
    return {
        pod["metadata"]["uid"]: pod
        for pod in found
        if RELEASE_LABEL in pod["metadata"]["labels"] and not pod["metadata"].get("deletionTimestamp")
    }


def test_each_scenario_has_its_line_and_forty_are_always_played() -> None:
    assert set(LINES) == set(SCENARIOS)
    assert set(SCENARIOS) >= FULL and len(SCENARIOS) - len(FULL) >= 40


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if name in FULL else []) for name in SCENARIOS]
)
def test_a_failure_is_told_in_one_line_and_leaves_what_it_should(
    name: str, stage: Stage, played: dict[str, Future[Seen]]
) -> None:
    one, seen = SCENARIOS[name], played[name].result(timeout=2 * LONGEST_RUN)

    assert seen.state == "failed"
    assert_line(seen.lines[0], LINES[name], stage=stage, namespace=one.namespace)
    assert seen.lock is None, "the endpoint is free for the next run"
    LEFT[one.left](seen)
    if one.record == "none":
        assert seen.release is None
        return
    assert seen.release is not None and seen.release.status == one.record
    failure = seen.release.failure or ""
    assert failure.partition(" | ")[0] == seen.lines[0], "the history keeps the same line"
    returning = seen.good.number if seen.good and one.left == "back" else None
    assert seen.release.returning_to == returning


def assert_line(line: str, wanted: str, *, stage: Stage, namespace: str) -> None:
    """The line is the wanted one, word for word but for what only a run knows."""
    assert "\n" not in line
    words = {**stage.words, "namespace": stage.namespaces[namespace]}
    pattern = re.escape(wanted)
    for word, found in words.items():
        pattern = pattern.replace(re.escape(f"<{word}>"), re.escape(found))
    for word, found in {
        "number": r"\d+",
        "pod": r"[a-z0-9]+-[a-z0-9]{5}",
        "restarts": r"restarted (once|\d+ times)",
        "free": r"cpu \d+m free, memory [\d.]+Gi free",
        "label": r"[0-9a-f]{8}",
        "seconds": r"\d+",
        "nameserver": r"[\d.]+:53",
        "cut": r"\S*",
        "classes": r"[a-z0-9, -]+",
        "generated": r"[a-z0-9]{5,8}",
    }.items():
        pattern = pattern.replace(re.escape(f"<{word}>"), found)
    assert re.fullmatch(pattern, line), f"\n  told:   {line}\n  wanted: {wanted}"


def nothing(seen: Seen) -> None:
    assert (seen.standing.workloads, seen.standing.published, seen.pods) == ([], None, {})


def stopped(seen: Seen) -> None:
    assert seen.release is not None
    left = [(one.release, one.replicas) for one in seen.standing.workloads]
    assert (left, seen.standing.published, seen.pods) == ([(seen.release.label, 0)], None, {})
    assert seen.release.evidence, "what it looked like is kept"


def untouched(seen: Seen) -> None:
    serving(seen)
    assert frozenset(seen.pods) == seen.before


def serving(seen: Seen) -> None:
    assert seen.good is not None
    assert [one.release for one in seen.standing.workloads] == [seen.good.label]
    assert seen.standing.published == seen.good.label
    assert {pod["metadata"]["labels"][RELEASE_LABEL] for pod in seen.pods.values()} == {seen.good.label}
    assert seen.answer == 200


def back(seen: Seen) -> None:
    serving(seen)
    assert seen.before.isdisjoint(seen.pods), "its pods had made room"
    assert f"{seen.good.title} serves again" in seen.lines[-1] if seen.good else False


LEFT = {"nothing": nothing, "stopped": stopped, "untouched": untouched, "back": back}
