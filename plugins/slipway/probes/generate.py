"""The steps that make the model work: a completion, a tool call, an embedding, a picture."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx

from slipway.errors import bounded
from slipway.probes.client import UnavailableError
from slipway.probes.shared import LONGEST_ANSWER, Run, demand_ok, died, is_down, not_understood

PROMPT = "A slipway is a ramp on the shore by which ships"
TOKENS = 32
_PARSER = "is tool_call_parser of the model's record the one for this model's format?"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "tide_at",
        "description": "Says how high the tide is in a harbour",
        "parameters": {
            "type": "object",
            "properties": {"harbour": {"type": "string"}},
            "required": ["harbour"],
        },
    },
}
TOOL_QUESTION = "How high is the tide in Bremen now? Call the tool tide_at to find out."
TOOL_TOKENS = 256
PICTURE = "a ship on a slipway, pencil drawing"
PICTURE_SIZE = "512x512"


def completion(run: Run) -> str:
    """Ask for a completion; text or at least one token counts."""
    body = {"model": run.order.served_name, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0}
    answer = first_request("completion", "/v1/completions", body, run=run)
    text, tokens = completion_text(answer, run=run)
    run.answer = run.answer or bounded(text, limit=LONGEST_ANSWER)
    return f"{tokens} tokens"


def tool_call(run: Run) -> str:
    """Offer a tool: a call must come back as a call with arguments in JSON, and not as text.

    A model may answer without the tool, which says nothing against the endpoint. A call that stands in the text is
    the fault that a wrong parser makes, and clients meet it long after the deployment.
    """
    path = "/v1/chat/completions"
    body = {
        "model": run.order.served_name,
        "messages": [{"role": "user", "content": TOOL_QUESTION}],
        "tools": [TOOL],
        "tool_choice": "auto",
        "max_tokens": TOOL_TOKENS,
        "temperature": 0,
    }
    answer = first_request("tool call", path, body, run=run)
    try:
        message = answer.json()["choices"][0]["message"]
        calls, text = message.get("tool_calls") or [], str(message.get("content") or "")
        called = [(call["function"]["name"], call["function"]["arguments"]) for call in calls]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise not_understood("tool call", path, answer, run=run) from error
    name = TOOL["function"]["name"]
    if not called and re.search(rf"[\"'<]{name}[\"'>]", text):
        why = f"the call stands in the answer's text: {bounded(text, limit=120)}"
        raise run.client.error("tool call", path=path, status=answer.status_code, why=why, remedy=_PARSER)
    for called_name, arguments in called:
        if called_name != name or not _is_json_object(arguments):
            said = bounded(f"{called_name} {arguments}", limit=120)
            why = f"the call is not one of {name} with a JSON object: {said}"
            raise run.client.error("tool call", path=path, status=answer.status_code, why=why, remedy=_PARSER)
    return f"called {name}" if called else "taken; the model answered without the tool"


def _is_json_object(text: Any) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (TypeError, ValueError):
        return False


def embedding(run: Run) -> str:
    """Ask for an embedding; a vector that is not all zeros counts."""
    body = {"model": run.order.served_name, "input": PROMPT}
    answer = first_request("embedding", "/v1/embeddings", body, run=run)
    try:
        vector = answer.json()["data"][0]["embedding"]
        length = len(vector)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise not_understood("embedding", "/v1/embeddings", answer, run=run) from error
    if not length or not any(vector):
        raise run.client.error("embedding", path="/v1/embeddings", why="the vector is empty or all zeros")
    return f"{length} dimensions"


def image(run: Run) -> str:
    """Ask for a small picture; bytes of a picture or an address count."""
    path = "/v1/images/generations"
    body = {"model": run.order.served_name, "prompt": PICTURE, "n": 1, "size": PICTURE_SIZE}
    answer = first_request("image", path, body, run=run)
    try:
        picture = answer.json()["data"][0]
        coded, address = picture.get("b64_json"), picture.get("url")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise not_understood("image", path, answer, run=run) from error
    if coded:
        return f"{len(coded) * 3 // 4} bytes"
    if not address:
        raise run.client.error("image", path=path, why="the answer has neither a picture nor its address")
    return "an address"


def first_request(step: str, path: str, body: dict[str, Any], *, run: Run) -> httpx.Response:
    """Send what makes the model work; tell a server that dies at it from one that is starting."""

    def once() -> httpx.Response:
        try:
            return run.client.post(path, body)
        except UnavailableError as error:
            if run.was_healthy and is_down(run):
                raise died(step, path=path, why=error.why, run=run) from error
            raise

    answer = run.client.until_deadline(step, once)
    demand_ok(step, answer, path=path, run=run)
    run.first_request_done = True
    return answer


def completion_text(answer: httpx.Response, *, run: Run) -> tuple[str, int]:
    """The text and the number of tokens of a completion."""
    path = "/v1/completions"
    try:
        content = answer.json()
        text = str(content["choices"][0].get("text") or "")
        tokens = int((content.get("usage") or {}).get("completion_tokens") or 0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise not_understood("completion", path, answer, run=run) from error
    if not text.strip() and tokens < 1:
        raise run.client.error(
            "completion",
            path=path,
            status=answer.status_code,
            why="the answer has no text and no tokens",
            remedy="look at the runtime's log for this request",
        )
    return text, tokens
