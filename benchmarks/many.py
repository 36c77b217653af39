"""Fifty endpoints deployed at once: how long it takes, and how much memory Airflow takes for it.

``python -m benchmarks.many`` prints one JSON object. Needs a sandbox with kwok (``make up``), the tiny model in its S3
(``make demo`` puts it there), and root.

What is real: Airflow with its LocalExecutor as the sandbox has it, each run with all its steps, the API server and
Kubernetes' controllers, Services and their rules on the node, the volume, and the pods of the steps (download, probes).
What is simulated: the serving pods. kwok says that they run on a node that it also simulates, so no image is started
and Ready comes at once. Their addresses are of a range that is routed to this machine, where one small server answers
for all of them as vLLM would; so each probe asks through its endpoint's own Service and gets real answers. How long
a model takes to load is in none of the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select

from benchmarks.watch import EVENTS, SECONDS_AN_ANSWER, TOKENS
from sandbox import credentials, gobuild, kwok, s3, settings, supervisor
from sandbox.airflow import airflow_environment
from sandbox.catalog import with_records
from sandbox.cluster import Cluster as Sandbox
from sandbox.demo import put_model
from sandbox.settings import Settings
from slipway.airflow_rest import AirflowRest
from slipway.checks.permissions import rbac_objects, user_subject
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Ref
from slipway.releases.store import History
from slipway.releases.tables import DriftRow, HourRow, ReleaseRow, StateRow

ENDPOINTS = 50
NAMESPACE = "slipway-bench-many"
POD_CIDR, PORT = ipaddress.ip_network("10.98.64.0/24"), 18000
MODEL = "qwen3-tiny"
LONGEST = 1800.0


def main() -> int:
    """Deploy them and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=ENDPOINTS)
    count = parser.parse_args().endpoints
    config = settings.load(recorded=True)
    if not any(part.name == kwok.NAME and part.state == "RUNNING" for part in supervisor.parts(config)):
        print(json.dumps({"benchmark": "many", "not_measured": "kwok does not run; make up starts it"}))
        return 0
    os.environ.update(airflow_environment(config))
    overrides = put_model("", endpoint=MODEL, access=s3.connection(config))
    cluster = Cluster.from_kubeconfig(config.admin_kubeconfig)
    kubectl = Sandbox(
        kubectl_path=gobuild.program(config, gobuild.KUBERNETES, "kubectl"),
        kubeconfig=config.admin_kubeconfig,
    )
    key = credentials.kept(config, "endpoint-api-key")
    rest, names = AirflowRest.from_environment(), [f"simulated-{number:02}" for number in range(count)]
    nodes = kwok.fake_nodes(
        kubectl, 1, images=_images(cluster), pod_cidr=str(POD_CIDR), resources={"pods": str(2 * count)}
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        namespace(cluster, NAMESPACE),
        _answering(key, 2 * count),
        nodes,
        with_records(config, _records(names), folder=Path(folder)),
    ):
        _wait_until_known(rest, names)
        try:
            figures = _deploy(rest, config, names, overrides)
        finally:
            forget(History.open(), NAMESPACE)
    print(json.dumps({"benchmark": "many", "endpoints": count, **figures}))
    return 0 if figures["failed"] == 0 else 1


def _deploy(
    rest: AirflowRest, config: Settings, names: list[str], overrides: dict[str, Any]
) -> dict[str, Any]:
    peak = Peak(str(config.home / "airflow"))
    idle, began = peak.look(), time.monotonic()
    runs = {}
    for name in names:
        conf = {"endpoint": name, "reason": "benchmarks/many", "overrides": overrides}
        runs[name] = rest.trigger("deploy_endpoint", conf)
    triggered = time.monotonic() - began
    with peak.watching():
        ended = _follow(rest, runs)
    took = sorted(_seconds(run["queued_at"], run["end_date"]) for run in ended.values())
    ran = sorted(_seconds(run["start_date"], run["end_date"]) for run in ended.values())
    failed = [name for name, run in ended.items() if run["state"] != "success"]
    for name in failed[:3]:
        print(f"{name}: {rest.failures('deploy_endpoint', runs[name])}", file=sys.stderr)
    return {
        "failed": len(failed),
        "triggered_s": round(triggered, 2),
        "all_s": round(time.monotonic() - began, 1),
        "trigger_to_end_p50_s": round(statistics.median(took), 1),
        "trigger_to_end_max_s": round(took[-1], 1),
        "run_p50_s": round(statistics.median(ran), 1),
        "run_max_s": round(ran[-1], 1),
        "airflow_idle_mib": round(idle),
        "airflow_peak_mib": round(peak.most),
        "airflow_processes_most": peak.processes,
        "parallelism": int(os.environ["AIRFLOW__CORE__PARALLELISM"]),
        "load_of_machine": round(os.getloadavg()[0], 1),
    }


def _follow(rest: AirflowRest, runs: dict[str, str]) -> dict[str, dict[str, Any]]:
    ended: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + LONGEST
    while len(ended) < len(runs):
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(runs) - len(ended)} runs did not end in {LONGEST:.0f} s")
        time.sleep(2)
        listed = rest.get(
            "/api/v2/dags/deploy_endpoint/dagRuns", params={"limit": 100, "order_by": "-run_after"}
        )["dag_runs"]
        states = {run["dag_run_id"]: run for run in listed}
        for name, run_id in runs.items():
            run = states.get(run_id) or rest.get(f"/api/v2/dags/deploy_endpoint/dagRuns/{run_id}")
            if run["state"] in ("success", "failed"):
                ended[name] = run
    return ended


def _seconds(begin: str, end: str) -> float:
    first, last = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (begin, end))
    return (last - first).total_seconds()


class Peak:
    """The memory of all of Airflow's processes together, each page that they share counted once (PSS)."""

    def __init__(self, home: str) -> None:
        self.home, self.most, self.processes, self._stop = home, 0.0, 0, threading.Event()

    def look(self) -> float:
        """Sum it up now, in MiB."""
        import psutil

        total, count = 0, 0
        for process in psutil.process_iter():
            try:
                if process.environ().get("AIRFLOW_HOME") == self.home:
                    smaps = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="utf-8")
                    total += next(
                        int(line.split()[1]) for line in smaps.splitlines() if line.startswith("Pss:")
                    )
                    count += 1
            except (psutil.Error, OSError, StopIteration):
                continue
        self.most, self.processes = max(self.most, total / 1024), max(self.processes, count)
        return total / 1024

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look every few seconds."""

        def run() -> None:
            while not self._stop.wait(4):
                self.look()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield
        self._stop.set()
        thread.join()


# -- what is there for the endpoints
# ---------------------------------------------------------------------------------------------


def _records(names: list[str]) -> dict[str, dict[str, Any]]:
    """Records of the endpoints and of a runtime that nobody starts."""
    runtime = {
        "task": "chat",
        "images": {"cpu": {"built": "tools"}},
        "command": ["python3"],
        "args": ["-m", "simulated"],
        "api_key_env": "API_KEY",
        "port": PORT,
    }
    records: dict[str, dict[str, Any]] = {"runtimes/simulated": runtime}
    for name in names:
        records[f"endpoints/{name}"] = {
            "model": MODEL,
            "runtime": "simulated",
            "accelerator": "cpu",
            "cluster": "sandbox",
            "namespace": NAMESPACE,
            "resources": {"cpu": "100m", "memory": "3Gi"},
            "volume": {"size": "64Mi", "storage_class": "shared", "access_mode": "ReadWriteMany"},
            "context_length": 1024,
            "api_key": {"secret": "endpoint-api-key"},
            "placement": {
                "node_selector": {kwok.ANNOTATION: kwok.VALUE},
                "tolerations": [{"key": kwok.ANNOTATION, "operator": "Exists", "effect": "NoSchedule"}],
            },
            "nightly": False,
        }
    return records


def _wait_until_known(rest: AirflowRest, names: list[str]) -> None:
    """Wait until Airflow's DAG processor has read the records."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        details = rest.get("/api/v2/dags/deploy_endpoint/details")
        if set(names) <= set(details["params"]["endpoint"]["schema"]["enum"]):
            return
        time.sleep(1)
    raise SystemExit("Airflow does not know the endpoints after 180 s: does `slipway validate` complain?")


@contextmanager
def namespace(cluster: Cluster, name: str) -> Iterator[None]:
    """A namespace with Slipway's rights and the Secrets of the sandbox's own; in the end it is gone."""
    space = Ref(apiVersion="v1", kind="Namespace", name=name)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    secrets = ("endpoint-api-key", "s3-credentials")
    try:
        for secret in secrets:
            found = cluster.get(api_version="v1", kind="Secret", namespace="models", name=secret)
            assert found is not None  # the sandbox makes it
            metadata = {"name": secret, "namespace": name}
            kept = {"apiVersion": "v1", "kind": "Secret", "data": found["data"], "type": found["type"]}
            cluster.apply({**kept, "metadata": metadata})
        for one in rbac_objects(subject=user_subject("slipway"), namespaces={name: secrets}):
            if one["metadata"].get("namespace") == name:
                cluster.apply(one)
        yield
    finally:
        cluster.delete(space)
        deadline = time.monotonic() + LONGEST
        while cluster.get(api_version="v1", kind="Namespace", name=name) and time.monotonic() < deadline:
            time.sleep(1)


def forget(history: History, namespace: str) -> None:
    """Delete a benchmark's endpoints from the sandbox's history, where the regular probes would go on asking them."""
    with history.database.writing() as session:
        of_namespace = select(ReleaseRow.endpoint).where(ReleaseRow.namespace == namespace)
        endpoints = set(session.scalars(of_namespace))
        for table in (StateRow, DriftRow, HourRow, ReleaseRow):
            session.execute(delete(table).where(table.endpoint.in_(endpoints)))


def _images(cluster: Cluster) -> list[str]:
    """What the real node has: a simulated one says that it has the same."""
    [node] = [
        node
        for node in cluster.list(api_version="v1", kind="Node")
        if kwok.ANNOTATION not in (node["metadata"].get("annotations") or {})
    ]
    return [name for image in node["status"].get("images") or [] for name in image.get("names") or []]


@contextmanager
def _answering(key: str, count: int) -> Iterator[None]:
    """One server on the addresses that the simulated pods will have."""
    subprocess.run(["ip", "route", "replace", "local", str(POD_CIDR), "dev", "lo"], check=True)
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(key, count), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()
        subprocess.run(["ip", "route", "delete", "local", str(POD_CIDR), "dev", "lo"], check=True)


def _serve(key: str, count: int) -> None:
    import uvicorn

    hosts = [str(POD_CIDR[number]) for number in range(min(count + 10, POD_CIDR.num_addresses))]
    sockets = [socket.create_server((host, PORT)) for host in hosts]
    server = uvicorn.Server(uvicorn.Config(_Answers(key), log_level="error", access_log=False))
    asyncio.run(server.serve(sockets=sockets))


class _Answers:
    """What a probe asks of a server, answered as vLLM does."""

    def __init__(self, key: str) -> None:
        self.key = key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        allowed = dict(scope["headers"]).get(b"authorization") == f"Bearer {self.key}".encode()
        status, text = await _answer(scope["path"], body, allowed=allowed)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": text})


async def _answer(path: str, body: bytes, *, allowed: bool) -> tuple[int, bytes]:
    if path == "/health":
        return 200, b""
    if path == "/metrics":
        return 200, b"vllm:num_requests_running 0\n"
    if not allowed:
        return 401, b""
    if path == "/v1/models":
        return 200, json.dumps({"data": [{"id": MODEL}]}).encode()
    await asyncio.sleep(SECONDS_AN_ANSWER)
    if json.loads(body).get("stream"):
        lines = b"".join(b"data: %s\n\n" % json.dumps(one).encode() for one in EVENTS)
        return 200, lines + b"data: [DONE]\n\n"
    done = {"choices": [{"text": "words"}], "usage": {"completion_tokens": TOKENS}}
    return 200, json.dumps(done).encode()


if __name__ == "__main__":
    sys.exit(main())
