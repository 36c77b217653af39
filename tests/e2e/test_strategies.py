"""A new release takes the place of the one that serves while clients stream chats all the time, with real vLLM."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from slipway.airflow_rest import AirflowRest, Outcome
from slipway.catalog.names import RELEASE_LABEL
from slipway.cluster.objects import Object, labels_of
from slipway.releases.records import Release
from slipway.releases.store import History
from tests.e2e.clients import Load, chat_of, load
from tests.e2e.conftest import ENDPOINT, Run, Serving

pytestmark = pytest.mark.e2e

# Tokens: some seconds for this model on a busy machine, fewer than its pods have to drain.
LONG = 200


@dataclass
class Chat:
    """A long chat: how many tokens its usage says, and what its last line was."""

    began: float
    ended: float
    tokens: int
    last: str


@dataclass
class LongChats:
    """One long chat after the other, straight with one pod, until the pod is told to end.

    Attributes:
        chats: in order; the last is the one that was being answered then.
        told: when the pod was told to end.
    """

    serving: Serving
    pod: Object
    chats: list[Chat] = field(default_factory=list)
    told: float | None = None
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Begin when clients of the published Service go to another release, so that these are all that it has."""
        while self.published() == labels_of(self.pod)[RELEASE_LABEL] and not self.over.wait(0.2):
            pass
        watching = threading.Thread(target=self.watch, daemon=True)
        watching.start()
        while self.told is None and not self.over.is_set():
            self.chats.append(self.chat())
        watching.join(timeout=60)

    def published(self) -> str:
        return str(self.serving.services()[ENDPOINT]["spec"]["selector"][RELEASE_LABEL])

    def watch(self) -> None:
        uid = self.pod["metadata"]["uid"]
        while self.told is None and not self.over.wait(0.1):
            live = [one["metadata"] for one in self.serving.pods() if one["metadata"]["uid"] == uid]
            if not live or live[0].get("deletionTimestamp"):
                self.told = time.monotonic()

    def chat(self) -> Chat:
        began, lines = time.monotonic(), list[str]()
        url = f"http://{self.pod['status']['podIP']}:8000/v1/chat/completions"
        headers = {"Authorization": f"Bearer {self.serving.api_key}"}
        length = {"max_tokens": LONG, "min_tokens": LONG, "stream_options": {"include_usage": True}}
        try:
            with httpx.stream(
                "POST", url, json={**chat_of(LONG), **length}, headers=headers, timeout=120, trust_env=False
            ) as answer:
                for line in answer.iter_lines():
                    lines += [line] if line else []
        except httpx.HTTPError as error:
            lines.append(f"{type(error).__name__} {error}")
        usage = [json.loads(line.removeprefix("data: "))["usage"] for line in lines if '"usage":{' in line]
        tokens = usage[-1]["completion_tokens"] if usage else 0
        return Chat(began, time.monotonic(), tokens, lines[-1] if lines else "nothing")


@contextmanager
def long_chats(serving: Serving) -> Iterator[LongChats]:
    [pod] = serving.pods()
    chats = LongChats(serving=serving, pod=pod)
    thread = threading.Thread(target=chats.run, daemon=True)
    thread.start()
    try:
        yield chats
    finally:
        chats.over.set()
        thread.join(timeout=120)
    print(f"told {chats.told}: {chats.chats}")


@dataclass(frozen=True)
class Replaced:
    """A release that took the place of another under load, and what its clients saw."""

    old: Release
    outcome: Outcome
    clients: Load
    long: LongChats


@pytest.fixture(scope="module")
def replaced(deployed: Outcome, run: Run, serving: Serving, history: History) -> Replaced:
    """Done once."""
    old = history.last_good(ENDPOINT)
    assert old is not None
    with (
        load(serving.cluster, endpoint=ENDPOINT, api_key=serving.api_key) as clients,
        long_chats(serving) as long,
    ):
        outcome = run(
            "redeploy_endpoint",
            endpoint=ENDPOINT,
            strategy="blue-green",
            overrides={"args": ["--max-num-seqs=6"]},
        )
        after = len(clients.seconds)
        while len(clients.seconds) < after + 4 and not clients.failures:
            time.sleep(0.2)
    return Replaced(old, outcome, clients, long)


def test_no_chat_fails_while_a_release_takes_the_place_of_another(
    replaced: Replaced, airflow: AirflowRest, serving: Serving, history: History
) -> None:
    assert (replaced.outcome.state, replaced.outcome.failures) == ("success", [])
    assert replaced.clients.failures == []
    new = history.last_good(ENDPOINT)
    assert new is not None and new.label != replaced.old.label
    pods = serving.pods()
    assert [labels_of(pod)[RELEASE_LABEL] for pod in pods] == [new.label]
    log = airflow.log("redeploy_endpoint", replaced.outcome.run_id, "apply")
    assert "strategy blue-green: the run says so" in log


def test_a_chat_that_is_being_answered_when_its_pod_is_told_to_end_comes_to_its_end(
    replaced: Replaced,
) -> None:
    told, last = replaced.long.told, replaced.long.chats[-1]

    assert told is not None and last.began < told < last.ended
    assert {chat.last for chat in replaced.long.chats} == {"data: [DONE]"}
    assert last.tokens == LONG


@pytest.mark.full  # tests/cluster/test_rollouts_live.py shows the same with a small server
def test_a_release_that_cannot_start_is_never_noticed(
    deployed: Outcome, run: Run, serving: Serving, history: History
) -> None:
    good = history.last_good(ENDPOINT)
    before = {pod["metadata"]["uid"] for pod in serving.pods()}
    with load(serving.cluster, endpoint=ENDPOINT, api_key=serving.api_key) as clients:
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
