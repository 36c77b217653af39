"""The proof that an endpoint serves: the requests that a client sends, in the order in which they tell most.

A runtime that answers ``/health`` may still be of no use: another model behind the address, a key that nobody
checks, a chat template that is missing, a worker that dies at the first request (vLLM on a CPU with AMX and
``--enforce-eager``: Ready, then SIGILL; SANDBOX.md, item 9). Each of these has its own error here.
"""

from __future__ import annotations

import math
import os
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from slipway.errors import ProbeError
from slipway.probes.client import Client, server_message
from slipway.probes.generate import (
    PROMPT,
    completion,
    completion_text,
    embedding,
    first_request,
    image,
    tool_call,
)
from slipway.probes.orders import Outside, ProbeOrder, ProbeResult, ProbeStep
from slipway.probes.shared import API_KEY, Run, demand_ok
from slipway.probes.streamed import streamed_chat, streamed_completion

_SAMPLE = re.compile(
    r"^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^\n]*\})? [0-9.eE+-]+|^[a-zA-Z_:][^\n]* (NaN|[+-]Inf)", re.MULTILINE
)


def _print(line: str) -> None:
    print(line, flush=True)


def probe(
    order: ProbeOrder,
    *,
    say: Callable[[str], None] = _print,
    sleep: Callable[[float], None] = time.sleep,
) -> ProbeResult:
    """Send the requests, and again from where clients outside the cluster come in; the first that fails ends it.

    Raises:
        ProbeError: with the step, the address, the status, the server's own message and what to do.
    """
    result = _ask(order, outside=None, say=say, sleep=sleep)
    if order.outside is None:
        return result
    say(f"from outside: {order.outside.base_url} at {order.outside.address}")
    # Health and metrics are not for clients: the list of models stands for the first.
    published = {
        "base_url": order.outside.base_url,
        "health_path": "/v1/models",
        "metrics_path": None,
    }
    seen = _ask(order.model_copy(update=published), outside=order.outside, say=say, sleep=sleep)
    return result.model_copy(update={"outside": seen.steps})


def _ask(
    order: ProbeOrder,
    *,
    outside: Outside | None,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> ProbeResult:
    began = time.monotonic()
    client = Client(
        base_url=order.base_url,
        api_key=api_key_of(order),
        request_seconds=order.request_seconds,
        deadline=began + order.deadline_seconds,
        end=began + (order.longest_seconds or math.inf),
        outside=outside,
        sleep=sleep,
    )
    run = Run(order=order, client=client, say=say)
    generates = order.task in ("chat", "completion")
    steps: list[tuple[str, Callable[[Run], str], bool]] = [
        ("health", _health, True),
        ("models", _models, True),
        ("wrong key", _wrong_key, order.expect_api_key),
        ("completion", completion, generates),
        ("embedding", embedding, order.task == "embedding"),
        ("image", image, order.task == "image"),
        ("streamed chat", streamed_chat, order.task == "chat"),
        ("streamed completion", streamed_completion, order.task == "completion"),
        ("tool call", tool_call, order.task == "chat" and order.tool_calls),
        ("metrics", _metrics, order.metrics_path is not None),
        ("still serving", _still_serving, True),
    ]
    try:
        for name, step, wanted in steps:
            if wanted:
                _take(name, step, run=run)
    finally:
        client.close()
    return ProbeResult(
        steps=run.steps, ttft_seconds=run.ttft, answer=run.answer, served_names=run.served_names
    )


def api_key_of(order: ProbeOrder) -> str | None:
    """The endpoint's key, from the environment or from a file.

    Raises:
        ProbeError: there is none, and the endpoint should ask for one.
    """
    if order.api_key_file is None:
        key, where = os.environ.get(API_KEY, ""), API_KEY
    else:
        file = Path(order.api_key_file)
        key, where = file.read_text(encoding="utf-8").strip() if file.is_file() else "", str(file)
    if order.expect_api_key and not key:
        raise ProbeError(
            "the probe has no API key, and the endpoint should ask for one",
            about=order.base_url,
            why=f"{where} is empty or not there",
            remedy="is the endpoint's Secret there, and has it that key?",
        )
    return key or None


def _take(name: str, step: Callable[[Run], str], *, run: Run) -> None:
    started = time.monotonic()
    detail = step(run)
    seconds = round(time.monotonic() - started, 4)
    run.steps.append(ProbeStep(name=name, seconds=seconds, detail=detail))
    run.say(f"{name}: {detail} ({seconds:.2f} s)")


def _health(run: Run) -> str:
    path = run.order.health_path
    answer = run.client.until_deadline("health", lambda: run.client.get(path))
    if answer.status_code != httpx.codes.OK:
        raise run.client.error(
            "health",
            path=path,
            status=answer.status_code,
            why=server_message(answer),
            remedy="is health_path right for this runtime?",
        )
    run.was_healthy = True
    return "200"


def _models(run: Run) -> str:
    path = "/v1/models"
    answer = run.client.until_deadline("models", lambda: run.client.get(path))
    demand_ok("models", answer, path=path, run=run)
    try:
        run.served_names = [str(model["id"]) for model in answer.json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise run.client.error(
            "models",
            path=path,
            status=answer.status_code,
            why="the answer is not a list of models",
            remedy="does the address belong to an OpenAI-compatible runtime?",
        ) from error
    if run.order.served_name not in run.served_names:
        raise run.client.error(
            "models",
            path=path,
            status=answer.status_code,
            why=f"it serves {', '.join(run.served_names) or 'nothing'}, not {run.order.served_name}",
            remedy="correct the served name, or the Service that the address leads to",
        )
    return ", ".join(run.served_names[:5])


def _wrong_key(run: Run) -> str:
    """A key that is wrong must be refused, or anybody who reaches the Service can use the model."""
    path = "/v1/models"
    wrong = f"wrong-{secrets.token_hex(8)}"
    answer = run.client.until_deadline("wrong key", lambda: run.client.get(path, key=wrong))
    if answer.status_code not in {401, 403}:
        raise run.client.error(
            "wrong key",
            path=path,
            status=answer.status_code,
            why="a wrong API key was accepted",
            remedy="give the runtime its key (vLLM: VLLM_API_KEY from the endpoint's Secret)",
        )
    return f"refused with {answer.status_code}"


def _metrics(run: Run) -> str:
    path = run.order.metrics_path or ""
    answer = run.client.until_deadline("metrics", lambda: run.client.get(path))
    demand_ok("metrics", answer, path=path, run=run)
    samples = sum(1 for _ in _SAMPLE.finditer(answer.text))
    if not samples:
        raise run.client.error(
            "metrics",
            path=path,
            status=answer.status_code,
            why="the answer has no Prometheus samples",
            remedy="set metrics_path to null for a runtime without metrics",
        )
    own = next((name for name in ("vllm", "sglang") if f"{name}:" in answer.text), None)
    return f"{samples} samples" + (f" of {own}" if own else "")


def _still_serving(run: Run) -> str:
    """Ask again at the end: a worker that the requests killed shows only now."""
    if run.order.task in ("embedding", "image"):
        answer = run.client.until_deadline("still serving", lambda: run.client.get(run.order.health_path))
        demand_ok("still serving", answer, path=run.order.health_path, run=run)
        return "healthy"
    body = {"model": run.order.served_name, "prompt": PROMPT, "max_tokens": 4, "temperature": 0}
    answer = first_request("still serving", "/v1/completions", body, run=run)
    _, tokens = completion_text(answer, run=run)
    return f"{tokens} tokens"
