"""Clients of the tiny model that stream chats all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from slipway.cluster.client import Cluster
from tests.e2e.conftest import NAMESPACE


def chat_of(tokens: int) -> dict[str, Any]:
    """What a client asks: an answer of just so many tokens, streamed."""
    return {
        "model": "qwen3-tiny",
        "messages": [{"role": "user", "content": "Tell me about ramps."}],
        "max_tokens": tokens,
        "min_tokens": tokens,
        "stream": True,
    }


@dataclass
class Load:
    """Clients that each stream one chat after the other, on a new connection each time.

    Attributes:
        tokens: of each answer.
        seconds: how long each answer took.
        failures: what went wrong, with the time of day.
    """

    url: str
    api_key: str
    tokens: int
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Be one client until it is over."""
        while not self.over.wait(0.5):
            started = time.monotonic()
            try:
                self.chat()
                self.seconds.append(time.monotonic() - started)
            except (httpx.HTTPError, AssertionError) as error:
                self.failures.append(f"{time.strftime('%X')} {type(error).__name__} {error}")

    def chat(self) -> None:
        """Stream one answer to its end."""
        headers = {"Authorization": f"Bearer {self.api_key}"}
        with httpx.stream(
            "POST", self.url, json=chat_of(self.tokens), headers=headers, timeout=120, trust_env=False
        ) as answer:
            assert answer.status_code == 200, answer.status_code
            lines = [line for line in answer.iter_lines() if line]
        assert lines[-1] == "data: [DONE]", lines[-1:]
        assert not [line for line in lines if '"error"' in line], lines


@contextmanager
def load(
    cluster: Cluster, *, endpoint: str, api_key: str, clients: int = 2, tokens: int = 16
) -> Iterator[Load]:
    """Have clients of an endpoint's published Service, until the end."""
    service = cluster.get(api_version="v1", kind="Service", namespace=NAMESPACE, name=endpoint)
    assert service is not None
    url = f"http://{service['spec']['clusterIP']}:8000/v1/chat/completions"
    load = Load(url=url, api_key=api_key, tokens=tokens)
    threads = [threading.Thread(target=load.run, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.over.set()
        for thread in threads:
            thread.join(timeout=120)
        print(f"{len(load.seconds)} chats, {len(load.failures)} failed: {load.failures[:3]}")
