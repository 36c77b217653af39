"""A new release takes the place of the one that serves while clients stream chats all the time, with real vLLM."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from slipway.airflow_rest import AirflowRest, Outcome
from slipway.releases.store import History
from tests.e2e.conftest import ENDPOINT, Run, Serving

pytestmark = pytest.mark.e2e

CHAT: dict[str, Any] = {
    "model": ENDPOINT,
    "messages": [{"role": "user", "content": "Tell me about ramps."}],
    "max_tokens": 16,
    "min_tokens": 16,
    "stream": True,
}


@dataclass
class Load:
    """Clients that each stream one chat after the other, on a new connection each time.

    Attributes:
        seconds: how long each answer took.
        failures: what went wrong, with the time of day.
    """

    url: str
    api_key: str
    clients: int = 2
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(0.5):
            started = time.monotonic()
            try:
                self.chat()
                self.seconds.append(time.monotonic() - started)
            except (httpx.HTTPError, AssertionError) as error:
                self.failures.append(f"{time.strftime('%X')} {type(error).__name__} {error}")

    def chat(self) -> None:
        headers = {"Authorization": f"Bearer {self.api_key}"}
        with httpx.stream(
            "POST", self.url, json=CHAT, headers=headers, timeout=120, trust_env=False
        ) as answer:
            assert answer.status_code == 200, answer.status_code
            lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]", lines[-1:]
        assert not [line for line in lines if '"error"' in line], lines


@contextmanager
def load(serving: Serving) -> Iterator[Load]:
    address = serving.services()[ENDPOINT]["spec"]["clusterIP"]
    clients = Load(url=f"http://{address}:8000/v1/chat/completions", api_key=serving.api_key)
    threads = [threading.Thread(target=clients.run, daemon=True) for _ in range(clients.clients)]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        clients.over.set()
        for thread in threads:
            thread.join(timeout=120)
        print(f"{len(clients.seconds)} chats, {len(clients.failures)} failed: {clients.failures[:3]}")


def test_no_chat_fails_while_a_release_takes_the_place_of_another(
    deployed: Outcome, run: Run, airflow: AirflowRest, serving: Serving, history: History
) -> None:
    old = history.last_good(ENDPOINT)
    assert old is not None
    with load(serving) as clients:
        outcome = run(
            "redeploy_endpoint",
            endpoint=ENDPOINT,
            strategy="blue-green",
            overrides={"args": ["--max-num-seqs=6"]},
        )
        after = len(clients.seconds)
        while len(clients.seconds) < after + 4 and not clients.failures:
            time.sleep(0.2)

    assert (outcome.state, outcome.failures) == ("success", [])
    assert clients.failures == []
    new = history.last_good(ENDPOINT)
    assert new is not None and new.label != old.label
    pods = serving.pods()
    assert [pod["metadata"]["labels"]["slipway.io/release"] for pod in pods] == [new.label]
    assert "strategy blue-green: the run says so" in airflow.log("redeploy_endpoint", outcome.run_id, "apply")


@pytest.mark.full  # tests/cluster/test_rollouts_live.py shows the same with a small server
def test_a_release_that_cannot_start_is_never_noticed(
    deployed: Outcome, run: Run, serving: Serving, history: History
) -> None:
    good = history.last_good(ENDPOINT)
    before = {pod["metadata"]["uid"] for pod in serving.pods()}
    with load(serving) as clients:
        outcome = run(
            "redeploy_endpoint",
            endpoint=ENDPOINT,
            strategy="blue-green",
            overrides={"args": ["--no-such-flag"]},
        )

    assert outcome.state == "failed" and clients.failures == []
    assert any("was not touched and serves" in line for line in outcome.failures)
    assert history.last_good(ENDPOINT) == good
    left = {pod["metadata"]["uid"] for pod in serving.pods() if not pod["metadata"].get("deletionTimestamp")}
    assert left == before
