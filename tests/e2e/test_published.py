"""Real vLLM for clients outside the cluster: through the Gateway, by its name, over HTTP and HTTPS, streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from slipway.airflow_rest import Outcome
from slipway.cluster.client import Cluster
from slipway.cluster.objects import ref_of
from slipway.releases.store import History
from tests.cluster.gateway import Published, gateway_address
from tests.e2e.conftest import NAMESPACE, Run, Serving

pytestmark = pytest.mark.e2e

ENDPOINT = "qwen3-tiny-published"
LABELS = {"slipway.io/endpoint": ENDPOINT}
PAGE = "https://chat.example"
KINDS = (
    ("apps/v1", "StatefulSet"),
    ("gateway.networking.k8s.io/v1", "HTTPRoute"),
    ("v1", "Service"),
)


@pytest.fixture(scope="module")
def deployed_outside(run: Run, cluster: Cluster, tiny_overrides: dict[str, Any]) -> Iterator[Outcome]:
    """The endpoint, deployed once; afterwards nothing of it runs."""
    yield run("deploy_endpoint", endpoint=ENDPOINT, reason="tests", overrides=tiny_overrides)
    for api_version, kind in KINDS:
        for one in cluster.list(api_version=api_version, kind=kind, namespace=NAMESPACE, labels=LABELS):
            cluster.delete(ref_of(one))


@pytest.fixture(scope="module")
def outside(deployed_outside: Outcome, cluster: Cluster) -> Published:
    """How a client outside finds it: the Gateway's address and the endpoint's name."""
    assert (deployed_outside.state, deployed_outside.failures) == ("success", [])
    return Published(
        namespace=NAMESPACE,
        name=ENDPOINT,
        host="qwen3-tiny.sandbox.example",
        address=gateway_address(cluster),
    )


def chat(**more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello"}]
    return {"model": "qwen3-tiny", "messages": messages, "max_tokens": 8, **more}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_model_answers_a_chat_piece_by_piece(outside: Published, serving: Serving, scheme: str) -> None:
    headers = {"Authorization": f"Bearer {serving.api_key}"}
    with (
        outside.client(scheme) as client,
        client.stream("POST", "/v1/chat/completions", json=chat(stream=True), headers=headers) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert events[-1] == "[DONE]"
    pieces = [json.loads(event)["choices"][0]["delta"].get("content") for event in events[:-1]]
    assert len([piece for piece in pieces if piece]) > 1


def test_another_name_and_another_key_get_nothing(outside: Published, serving: Serving) -> None:
    with outside.client() as client:
        refused = client.post("/v1/chat/completions", json=chat(), headers={"Authorization": "Bearer wrong"})
        assert refused.status_code == 401
    with outside.client(host="nobody.sandbox.example") as client:
        answer = client.post(
            "/v1/chat/completions", json=chat(), headers={"Authorization": f"Bearer {serving.api_key}"}
        )
        assert answer.status_code == 404


def test_vllm_answers_the_preflight_of_any_page_that_the_route_allows(outside: Published) -> None:
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    with outside.client() as client:
        answer = client.options("/v1/chat/completions", headers=asked)
    assert answer.status_code == 200
    assert answer.headers.get_list("Access-Control-Allow-Origin") == ["*"]
    allowed = {word.strip().lower() for word in answer.headers["Access-Control-Allow-Headers"].split(",")}
    assert {"authorization", "content-type"} <= allowed


def test_the_release_was_proven_from_outside_too(outside: Published, history: History) -> None:
    release = history.last_good(ENDPOINT)
    assert release is not None
    [probe] = [one for one in history.probes(release.id) if one.through == "published"]
    steps = [step["name"] for step in probe.result["outside"]]
    assert steps == ["health", "models", "wrong key", "completion", "streamed chat", "still serving"]
