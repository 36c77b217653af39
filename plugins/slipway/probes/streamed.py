"""The streamed steps: a chat or a completion as server-sent events, and the time to its first text."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from slipway.errors import bounded
from slipway.probes.client import RefusedError, UnavailableError
from slipway.probes.generate import PROMPT, TOKENS
from slipway.probes.shared import LONGEST_ANSWER, Run, died, is_down, remedy_for

_QUESTION = "What is a slipway? Answer in one sentence."


def streamed_chat(run: Run) -> str:
    """Ask a question by the chat API, streamed."""
    body = {
        "model": run.order.served_name,
        "messages": [{"role": "user", "content": _QUESTION}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
    }
    return _streamed("streamed chat", "/v1/chat/completions", body, run=run)


def streamed_completion(run: Run) -> str:
    """Ask for a completion, streamed."""
    body = {
        "model": run.order.served_name,
        "prompt": PROMPT,
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
    }
    return _streamed("streamed completion", "/v1/completions", body, run=run)


@dataclass
class _Streamed:
    ttft: float | None = None
    pieces: list[str] = field(default_factory=list)
    finish: str | None = None
    done: bool = False


def _streamed(step: str, path: str, body: dict[str, Any], *, run: Run) -> str:
    def once() -> _Streamed:
        try:
            return _read_stream(step, path, body, run=run)
        except UnavailableError as error:
            if is_down(run):
                raise died(step, path=path, why=error.why, run=run) from error
            raise

    seen = run.client.until_deadline(step, once)
    faults = [
        text
        for fault, text in (
            (not seen.pieces, "no piece with text came"),
            (seen.finish is None, "no finish reason came"),
            (not seen.done, "the stream ended without [DONE]"),
        )
        if fault
    ]
    if faults:
        raise run.client.error(
            step,
            path=path,
            status=200,
            why="; ".join(faults),
            remedy="look at the runtime's log for this request",
        )
    run.ttft = round(seen.ttft, 4) if seen.ttft is not None else None
    run.answer = bounded("".join(seen.pieces), limit=LONGEST_ANSWER)
    return f"{len(seen.pieces)} pieces, first after {seen.ttft:.3f} s, finish {seen.finish}"


def _read_stream(step: str, path: str, body: dict[str, Any], *, run: Run) -> _Streamed:
    seen = _Streamed()
    started = time.monotonic()
    try:
        for data in run.client.stream(path, body):
            if data == "[DONE]":
                seen.done = True
                break
            _read_event(step, path, data, seen=seen, started=started, run=run)
    except RefusedError as error:
        raise run.client.error(
            step,
            path=path,
            status=error.status,
            why=error.message,
            remedy=remedy_for(error.status, error.message),
        ) from error
    return seen


def _read_event(step: str, path: str, data: str, *, seen: _Streamed, started: float, run: Run) -> None:
    try:
        event = json.loads(data)
        failure = event.get("error")
        choice = event["choices"][0] if event.get("choices") else {}
        delta = choice.get("delta") or {}
        # Reasoning models put their first words elsewhere: they are words of the answer all the same.
        text = (
            choice.get("text")
            or delta.get("content")
            or delta.get("reasoning_content")
            or delta.get("reasoning")
        )
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise run.client.error(
            step, path=path, why=f"an event that is not understood: {bounded(data, limit=120)}"
        ) from error
    if failure:
        message = failure.get("message") if isinstance(failure, dict) else failure
        raise run.client.error(
            step, path=path, why=f"an error in the stream: {bounded(str(message), limit=200)}"
        )
    if text:
        if seen.ttft is None:
            seen.ttft = time.monotonic() - started
        seen.pieces.append(str(text))
    seen.finish = choice.get("finish_reason") or seen.finish
