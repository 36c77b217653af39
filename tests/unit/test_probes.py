"""Probes against servers that fail in every way that a runtime does: each has its own words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from slipway.errors import ProbeError
from slipway.probes import ProbeOrder, ProbeResult, probe
from slipway.probes.shared import API_KEY
from tests.unit.small_runtime import KEY, NAME, Reply, Runtime, serve


def run(runtime: Runtime, **more: Any) -> ProbeResult:
    with serve(runtime) as base_url:
        order = ProbeOrder(
            base_url=base_url, served_name=NAME, deadline_seconds=more.pop("deadline_seconds", 1.5), **more
        )
        return probe(order, say=lambda line: None, sleep=lambda seconds: None)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY, KEY)


def test_a_serving_endpoint_passes_every_step_in_order() -> None:
    result = run(Runtime())
    assert [step.name for step in result.steps] == [
        "health",
        "models",
        "wrong key",
        "completion",
        "streamed chat",
        "metrics",
        "still serving",
    ]
    assert result.answer == "A slipway."
    assert result.ttft_seconds is not None
    assert result.served_names == [NAME]
    assert all(step.seconds >= 0 for step in result.steps)


@pytest.mark.parametrize(
    ("task", "wanted"),
    [("completion", "streamed completion"), ("embedding", "embedding"), ("image", "image")],
)
def test_other_tasks_get_the_requests_that_fit_them(task: Any, wanted: str) -> None:
    runtime = Runtime()
    result = run(runtime, task=task)
    assert wanted in [step.name for step in result.steps]
    assert "/v1/chat/completions" not in [path for _, path in runtime.requests]


def test_without_a_key_nothing_is_asked_about_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY)
    runtime = Runtime()
    runtime.answer = lambda path, body, key: (  # type: ignore[method-assign]
        runtime.standard(path, body) if path.startswith("/v1") else Reply()
    )
    result = run(runtime, expect_api_key=False, metrics_path=None)
    assert "wrong key" not in [step.name for step in result.steps]
    assert set(runtime.seen_keys) == {""}


def test_a_missing_key_is_said_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY)
    runtime = Runtime()
    with pytest.raises(ProbeError, match="no API key"):
        run(runtime)
    assert runtime.requests == []


def dies(body: dict[str, Any]) -> Reply:
    return Reply(die=True)


def always(reply: Reply) -> Callable[[dict[str, Any]], Reply]:
    return lambda body: reply


def events(*choices: dict[str, Any], done: bool = True) -> Callable[[dict[str, Any]], Reply]:
    lines = [json.dumps(choice) for choice in choices] + (["[DONE]"] if done else [])
    return always(Reply(events=lines))


CHAT = "/v1/chat/completions"
PIECE = {"choices": [{"delta": {"content": "a"}}]}
FINISH = {"choices": [{"delta": {}, "finish_reason": "stop"}]}


def unless_stream(reply: Reply) -> Callable[[dict[str, Any]], Reply | None]:
    return lambda body: None if body.get("stream") else reply


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        ("/health", always(Reply(503)), r"step 'health'.*status 503"),
        ("/health", always(Reply(404)), r"step 'health'.*status 404.*is health_path right"),
        ("/v1/models", always(Reply(200, {"data": [{"id": "other"}]})), r"it serves other, not qwen3-tiny"),
        ("/v1/models", always(Reply(200, "<html>")), r"not a list of models"),
        (
            "/v1/models",
            always(Reply(200, {"data": [{"id": NAME}]})),
            r"a wrong API key was accepted.*VLLM_API_KEY",
        ),
        (
            "/v1/completions",
            always(Reply(401, {"error": "Unauthorized"})),
            r"status 401.*Unauthorized.*started with",
        ),
        (
            "/v1/completions",
            always(Reply(404, {"error": {"message": "no such model"}})),
            r"404.*no such model",
        ),
        (
            "/v1/completions",
            always(Reply(200, {"choices": [{"text": " "}], "usage": {"completion_tokens": 0}})),
            r"no text and no tokens",
        ),
        ("/v1/completions", always(Reply(200, "hello")), r"not understood: hello"),
        ("/v1/completions", dies, r"it was healthy and died at its first request"),
        (CHAT, dies, r"step 'streamed chat'.*it was healthy and died later, under requests"),
        (
            CHAT,
            always(Reply(400, {"error": {"message": "the model has no chat template " + "x" * 900}})),
            r"status 400.*no chat template.*chat_template\.jinja",
        ),
        (CHAT, events(FINISH), r"no piece with text came"),
        (CHAT, events(PIECE), r"no finish reason came"),
        (CHAT, events(PIECE, FINISH, done=False), r"without \[DONE\]"),
        (CHAT, events({"error": {"message": "engine is dead"}}), r"an error in the stream: engine is dead"),
        (CHAT, always(Reply(events=["{"])), r"an event that is not understood"),
        (
            "/metrics",
            always(Reply(200, "<html>not found</html>")),
            r"no Prometheus samples.*metrics_path to null",
        ),
        ("/metrics", always(Reply(404, "")), r"step 'metrics'.*status 404"),
    ],
)
def test_each_failure_has_its_own_words(path: str, change: Any, message: str) -> None:
    with pytest.raises(ProbeError, match=message) as caught:
        run(Runtime(replies={path: change}))
    assert len(str(caught.value)) < 1000
    assert KEY not in str(caught.value)


def test_a_server_that_answers_500_and_dies_is_not_called_starting() -> None:
    """vLLM answers the request that killed its engine with 500; a moment later nothing listens."""
    runtime = Runtime()

    def kill(body: dict[str, Any]) -> Reply:
        runtime.dead = True
        return Reply(500, {"error": {"message": "EngineCore encountered an issue"}})

    runtime.replies["/v1/completions"] = kill
    with pytest.raises(ProbeError, match=r"died at its first request.*EngineCore"):
        run(runtime)


def test_a_server_that_dies_of_the_chat_is_found_at_the_end() -> None:
    runtime = Runtime()

    def last_words(body: dict[str, Any]) -> Reply:
        reply = runtime.standard(CHAT, body)
        runtime.dead = True
        return reply

    runtime.replies[CHAT] = last_words
    with pytest.raises(ProbeError, match=r"step 'still serving'.*died later, under requests"):
        run(runtime, metrics_path=None)


def test_a_server_that_is_still_starting_is_asked_again() -> None:
    runtime = Runtime()

    def starting(body: dict[str, Any]) -> Reply | None:
        return Reply(503, "loading") if runtime.counts["/health"] < 3 else None

    runtime.replies["/health"] = starting
    result = run(runtime, deadline_seconds=30)
    assert runtime.counts["/health"] == 3
    assert result.steps[0].name == "health"


def test_nobody_listening_is_said_at_the_deadline() -> None:
    with serve(Runtime()) as base_url:
        gone = base_url
    order = ProbeOrder(base_url=gone, served_name=NAME, deadline_seconds=1.2)
    with pytest.raises(ProbeError, match=r"step 'health'.*refused.*still loading"):
        probe(order, say=lambda line: None, sleep=lambda seconds: None)


def test_a_long_answer_is_bounded() -> None:
    runtime = Runtime(replies={CHAT: events(*[PIECE] * 1000, FINISH)})
    assert len(run(runtime).answer) == 300


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert run(Runtime()).answer == "A slipway."


def chat(message: dict[str, Any]) -> Callable[[dict[str, Any]], Reply | None]:
    """Answers a chat with tools; other chats go on as they are."""

    def answer(body: dict[str, Any]) -> Reply | None:
        return Reply(body={"choices": [{"message": message}]}) if "tools" in body else None

    return answer


CALL = {"function": {"name": "tide_at", "arguments": '{"harbour": "Bremen"}'}}
CALLS = [
    ({"tool_calls": [CALL]}, "called tide_at"),
    ({"content": "I cannot know that."}, "taken; the model answered without the tool"),
]


@pytest.mark.parametrize(("message", "detail"), CALLS)
def test_a_tool_call_is_tried_where_the_runtime_has_a_parser(message: dict[str, Any], detail: str) -> None:
    result = run(Runtime(replies={"/v1/chat/completions": chat(message)}), tool_calls=True)
    assert [step.detail for step in result.steps if step.name == "tool call"] == [detail]


WRONG_CALLS = [
    (
        {"content": '<tool_call>\n{"name": "tide_at"}\n</tool_call>'},
        r"stands in the answer's text.*tool_call_parser",
    ),
    (
        {"tool_calls": [{"function": {"name": "tide_at", "arguments": "{'a'"}}]},
        "not one of tide_at with a JSON object",
    ),
    ({"tool_calls": [{"function": {"name": "", "arguments": "{}"}}]}, "not one of tide_at"),
    ({"tool_calls": [{"nothing": 1}]}, "not understood"),
]


@pytest.mark.parametrize(("message", "error"), WRONG_CALLS)
def test_a_tool_call_that_clients_could_not_use_fails(message: dict[str, Any], error: str) -> None:
    with pytest.raises(ProbeError, match=error):
        run(Runtime(replies={"/v1/chat/completions": chat(message)}), tool_calls=True)


def test_a_runtime_that_takes_no_tools_is_named_as_that() -> None:
    message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    refuse = {
        "/v1/chat/completions": lambda body: Reply(400, {"error": message}) if "tools" in body else None
    }
    with pytest.raises(ProbeError, match="takes no tools"):
        run(Runtime(replies=refuse), tool_calls=True)
