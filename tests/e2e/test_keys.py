"""An endpoint's API key is rotated under clients that ask all the time, with real vLLM: none fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from sandbox.settings import load
from slipway.airflow_rest import Outcome
from slipway.cli import main
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Ref
from tests.e2e.conftest import NAMESPACE, Run

# Three starts of vLLM, two of them beside another.
pytestmark = [pytest.mark.e2e, pytest.mark.full]

ENDPOINT = "qwen3-tiny-keys"
SECRET = Ref(apiVersion="v1", kind="Secret", namespace=NAMESPACE, name=ENDPOINT)


@dataclass
class Client:
    """Asks with one key, one completion after the other."""

    address: str
    key: str
    statuses: list[int] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> int:
        body = {"model": "qwen3-tiny", "prompt": "Hello", "max_tokens": 2}
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.post(
            f"{self.address}/v1/completions", json=body, headers=headers, timeout=60, trust_env=False
        ).status_code

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self.statuses.append(self.ask())
            except httpx.HTTPError:
                self.statuses.append(0)
            time.sleep(0.2)


def key(what: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run `slipway key` as the cluster's administrator; returns the last line on standard output."""
    capsys.readouterr()
    status = main(["key", what, ENDPOINT, "--kubeconfig", str(load().admin_kubeconfig), *arguments])
    streams = capsys.readouterr()
    assert status == 0, streams.out + streams.err
    return streams.out.strip().splitlines()[-1] if streams.out.strip() else ""


@pytest.fixture
def no_secret(cluster: Cluster, run: Run) -> Iterator[None]:
    before = cluster.get(api_version="v1", kind="Secret", namespace=NAMESPACE, name=ENDPOINT)
    cluster.delete(SECRET)
    yield
    run("remove_endpoint", endpoint=ENDPOINT, confirm=ENDPOINT)
    cluster.delete(SECRET)
    if before:
        metadata = {
            "name": ENDPOINT,
            "namespace": NAMESPACE,
            "labels": before["metadata"].get("labels") or {},
        }
        cluster.create({**before, "metadata": metadata})


def test_a_key_is_rotated_and_no_request_with_either_key_fails(
    deployed: Outcome,
    no_secret: None,
    run: Run,
    cluster: Cluster,
    tiny_overrides: dict[str, Any],
    environment: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = key("create", capsys)
    first = run("deploy_endpoint", endpoint=ENDPOINT, overrides=tiny_overrides)
    assert (first.state, first.failures) == ("success", [])
    service = cluster.get(api_version="v1", kind="Service", name=ENDPOINT, namespace=NAMESPACE)
    assert service is not None
    client = Client(f"http://{service['spec']['clusterIP']}:8000", old)
    thread = threading.Thread(target=client.run, daemon=True)
    thread.start()

    new = key("rotate", capsys, "--strategy", "blue-green")

    renewed = Client(client.address, new)
    assert (client.ask(), renewed.ask()) == (200, 200), "both keys are accepted"
    client.over.set()
    thread.join(timeout=60)
    assert set(client.statuses) == {200}, client.statuses
    thread = threading.Thread(target=renewed.run, daemon=True)
    thread.start()
    key("retire", capsys, "--strategy", "blue-green")
    renewed.over.set()
    thread.join(timeout=60)
    assert set(renewed.statuses) == {200}, renewed.statuses
    assert (client.ask(), renewed.ask()) == (401, 200), "the old key is refused"
    for one in cluster.list(api_version="v1", kind="ConfigMap", namespace=NAMESPACE):
        assert old not in str(one) and new not in str(one)
