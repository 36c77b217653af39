"""Endpoints of a small server in Airflow's catalog: their runs are real in all but the words that they answer.

The server is the one of the unit tests (``tests/unit/small_runtime.py``) in a pod. Which release it is, it answers to
a completion; a release may also have a fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from sandbox.demo import upload
from slipway.airflow_rest import FINISHED, AirflowRest, Outcome
from slipway.catalog.names import COMPONENT_LABEL, ENDPOINT_LABEL, RELEASE_LABEL
from slipway.cluster import lease
from slipway.cluster.client import Cluster
from slipway.cluster.controllers import Standing, look
from slipway.cluster.objects import Object, labels_of
from slipway.errors import SlipwayError
from slipway.releases.records import Release
from slipway.releases.store import History
from tests.unit import small_runtime

NAMESPACE = "models"
NAME = "small-server"
ENDPOINTS = ("small-chaos", "small-ends", "small-scale")
WEIGHTS = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    # The length of a header, and the header: no tensor.
    "model.safetensors": (2).to_bytes(8, "little") + b"{}",
}
T = TypeVar("T")

_TAIL = """
import os, signal, sys

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
flags = dict(one.lstrip("-").split("=", 1) for one in sys.argv[1:])
KEY, NAME = os.environ["SMALL_API_KEY"], "small-server"
if flags.get("fault") == "crash":
    sys.exit("the weights are damaged")
if flags.get("fault") == "wrong":
    NAME = "another"
body = {"choices": [{"text": flags["answer"]}], "usage": {"completion_tokens": 1} }
one = Runtime(replies={"/v1/completions": lambda asked: Reply(body=body)})
if flags.get("fault") == "hang":
    one.replies["/health"] = lambda asked: Reply(503)
if flags.get("fault") == "tires":
    # From its 16th completion on, every third.
    tired = lambda number: number > 15 and number % 3 == 0
    answer = one.replies["/v1/completions"]
    one.replies["/v1/completions"] = lambda asked: (
        Reply(500, {"error": "tired"}) if tired(one.counts["/v1/completions"]) else answer(asked)
    )
counted = {"2xx": 0, "4xx": 0, "5xx": 0}
# No format string with two braces side by side: the catalog would take it for a template.
one.replies["/metrics"] = lambda asked: Reply(
    body="".join('http_requests_total{status="%s"} %d\\n' % pair for pair in counted.items())
)


class OfOne(Handler):
    runtime = one

    def send_response(self, status, message=None):
        if self.command == "POST":
            counted[f"{status // 100}xx"] += 1
        super().send_response(status, message)


ThreadingHTTPServer(("", 8000), OfOne).serve_forever()
"""


def records() -> dict[str, dict[str, Any]]:
    """Its records of the catalog by file."""
    code = Path(small_runtime.__file__).read_text(encoding="utf-8") + _TAIL
    model = {
        "sources": [f"s3://models/{NAME}"],
        "served_name": NAME,
        "size": "1Mi",
        "parameters": 1000,
        "context_length": 1024,
        "license": "none",
    }
    runtime = {
        "task": "chat",
        "images": {"cpu": {"built": "tools"}},
        "command": ["python3", "-c", code],
        "api_key_env": "SMALL_API_KEY",
        "env": {"PYTHONUNBUFFERED": "1"},
        "startup_seconds": 20,
        "drain_seconds": 1,
        "shared_memory": "1Mi",
        "scratch": "1Mi",
    }
    endpoint = {
        "model": NAME,
        "runtime": NAME,
        "accelerator": "cpu",
        "cluster": "sandbox",
        "namespace": NAMESPACE,
        "resources": {"cpu": "5m", "memory": "96Mi"},
        "volume": {"size": "16Mi"},
        "args": ["--answer=the-first"],
        "api_key": {"secret": "endpoint-api-key"},
        "sizing": "advise",
        "nightly": False,
    }
    endpoints = {f"endpoints/{name}": endpoint for name in ENDPOINTS}
    return {f"models/{NAME}": model, f"runtimes/{NAME}": runtime, **endpoints}


def put_weights(folder: Path, access: dict[str, str]) -> None:
    """Put the model where a run fetches it."""
    weights = folder / "weights"
    weights.mkdir()
    for name, content in WEIGHTS.items():
        (weights / name).write_bytes(content)
    upload(weights, prefix=NAME, access=access)


def patiently(ask: Callable[[], T], *, seconds: float = 180.0) -> T:
    """Ask until there is an answer: Airflow, Kubernetes or the server may be away for a while."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (SlipwayError, httpx.HTTPError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


@dataclass(frozen=True, kw_only=True)
class Small:
    """One endpoint of the small server, as its user, its cluster, the history and Airflow see it."""

    endpoint: str
    airflow: AirflowRest
    cluster: Cluster
    history: History
    api_key: str

    def trigger(self, dag_id: str, *, run_id: str | None = None, **conf: Any) -> str:
        """Start a run; one that has a name may be asked for again."""
        conf = {"endpoint": self.endpoint, **conf}
        return patiently(lambda: self.airflow.trigger(dag_id, conf, run_id=run_id))

    def run(self, dag_id: str, **conf: Any) -> Outcome:
        """Start a run and follow it to its end."""
        return self.follow(dag_id, self.trigger(dag_id, **conf))

    def follow(self, dag_id: str, run_id: str, *, seconds: float = 600.0) -> Outcome:
        """Follow a run to its end, also while Airflow's API server is away."""
        deadline = time.monotonic() + seconds
        while patiently(lambda: self.airflow.run_state(dag_id, run_id)) not in FINISHED:
            assert time.monotonic() < deadline, (
                f"{dag_id} {run_id} does not end: {self.states(dag_id, run_id)}"
            )
            time.sleep(0.5)
        return patiently(lambda: self.airflow.follow(dag_id, run_id, say=lambda line: None))

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """The states of a run's steps."""
        steps = patiently(lambda: self.airflow.steps(dag_id, run_id))
        return {step["task_id"]: step["state"] or "none" for step in steps}

    def wait_for_step(self, dag_id: str, run_id: str, step: str, *, states: tuple[str, ...]) -> bool:
        """Wait until a step is in one of these states; False when the run ends before."""
        deadline = time.monotonic() + 300
        while self.states(dag_id, run_id).get(step) not in states:
            if patiently(lambda: self.airflow.run_state(dag_id, run_id)) in FINISHED:
                return False
            assert time.monotonic() < deadline, f"{step} of {dag_id} {run_id} does not come"
            time.sleep(0.2)
        return True

    def reconcile(self, run: str) -> Release | None:
        """Have ``probe_endpoints`` end the release of a run (``dag/run``) that is gone; returns the release."""
        deadline = time.monotonic() + 600
        while (release := self.history.by_run(self.endpoint, run)) and release.status == "pending":
            assert time.monotonic() < deadline, f"nobody finishes {release.title}: {release.failure}"
            probing = patiently(lambda: self.airflow.trigger("probe_endpoints", {}))
            self.follow("probe_endpoints", probing)
        return release

    def good(self) -> Release:
        """The release that serves; one is deployed where there is none."""
        release = self.history.last_good(self.endpoint)
        if release is None or self.settle(seconds=60):
            outcome = self.run("deploy_endpoint", overrides={"args": [f"--answer=start-{time.time_ns()}"]})
            assert outcome.state == "success", outcome.failures
            release = self.history.last_good(self.endpoint)
        assert release is not None
        return release

    def removed(self) -> None:
        """The endpoint as if it had never been: nothing of it is in the cluster, and no release is good."""
        if self.history.list(endpoint=self.endpoint, limit=1):
            self.run("remove_endpoint", confirm=self.endpoint)
        assert self.history.last_good(self.endpoint) is None and not self.pods()

    def standing(self) -> Standing:
        """How it stands in its cluster."""
        return look(self.cluster, namespace=NAMESPACE, endpoint=self.endpoint)

    def pods(self) -> list[Object]:
        """Its serving pods, also those that are ending."""
        labels = {ENDPOINT_LABEL: self.endpoint, COMPONENT_LABEL: "server"}
        return self.cluster.list(api_version="v1", kind="Pod", namespace=NAMESPACE, labels=labels)

    def holder(self) -> str | None:
        """Who holds its lock."""
        found = lease.holder_of(self.cluster, namespace=NAMESPACE, endpoint_object=self.endpoint)
        return found.holder if found and found.live else None

    def ask(self) -> str:
        """What clients get from the published Service: the name of the release that answers."""
        service = self.cluster.get(api_version="v1", kind="Service", namespace=NAMESPACE, name=self.endpoint)
        if service is None:
            return "no Service"
        answer = httpx.post(
            f"http://{service['spec']['clusterIP']}:8000/v1/completions",
            json={"model": NAME, "prompt": "Who are you?"},
            headers={"Authorization": f"Bearer {self.api_key}"},
            timeout=10,
            trust_env=False,
        )
        return str(answer.raise_for_status().json()["choices"][0]["text"])

    def broken(self) -> list[str]:
        """What is wrong with how the endpoint stands, by the history: one release serves and nothing else is there.

        Where none is good, nothing runs.
        """
        good, standing = self.history.last_good(self.endpoint), self.standing()
        wrong = []
        if holder := self.holder():
            wrong.append(f"{holder} holds the lock")
        running = {one.ref.name: one.release for one in standing.workloads if one.replicas}
        pods = {pod["metadata"]["name"]: pod["metadata"]["labels"].get(RELEASE_LABEL) for pod in self.pods()}
        wanted = {good.label} if good else set()
        if set(running.values()) != wanted or len(running) != len(wanted):
            wrong.append(f"workloads {running} where {wanted or 'nothing'} should be")
        if set(pods.values()) != wanted:
            wrong.append(f"pods {pods} where {wanted or 'nothing'} should be")
        own = {ENDPOINT_LABEL: self.endpoint}
        all_pods = self.cluster.list(api_version="v1", kind="Pod", namespace=NAMESPACE, labels=own)
        steps = [pod["metadata"]["name"] for pod in all_pods if RELEASE_LABEL not in labels_of(pod)]
        if steps:
            wrong.append(f"pods of steps are left: {', '.join(steps)}")
        if good and standing.published != good.label:
            wrong.append(f"the Service leads to {standing.published}, not to {good.label}")
        return wrong + (self._answers_wrong(good) if good else [])

    def _answers_wrong(self, good: Release) -> list[str]:
        wanted = answer_of(good)
        try:
            answer = self.ask()
        except httpx.HTTPError as error:
            return [f"nobody answers at the Service ({type(error).__name__} {error}) where {wanted} should"]
        return [] if answer == wanted else [f"{answer} answers, not {wanted}"]

    def settle(self, *, seconds: float = 120.0) -> list[str]:
        """What is still wrong after pods have had time to end and to come back; empty as soon as nothing is."""
        deadline = time.monotonic() + seconds
        while wrong := patiently(self.broken):
            if time.monotonic() > deadline:
                return wrong
            time.sleep(1)
        return []


def answer_of(release: Release) -> str:
    """What a release answers by which it is known."""
    [answer] = [one for one in release.plan["server"]["args"] if one.startswith("--answer=")]
    return str(answer).removeprefix("--answer=")
