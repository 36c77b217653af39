"""What the steps of a probe share: the state, and the errors that say why an answer is not good enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from slipway.errors import ProbeError, bounded
from slipway.probes.client import Client, UnavailableError, server_message
from slipway.probes.orders import ProbeOrder, ProbeStep

API_KEY = "SLIPWAY_API_KEY"
LONGEST_ANSWER = 300


@dataclass
class Run:
    """A probe under way: what was seen so far, for the result and for telling how a server died."""

    order: ProbeOrder
    client: Client
    say: Callable[[str], None]
    steps: list[ProbeStep] = field(default_factory=list)
    served_names: list[str] = field(default_factory=list)
    answer: str = ""
    ttft: float | None = None
    was_healthy: bool = False
    first_request_done: bool = False


def is_down(run: Run) -> bool:
    """Whether a server that was healthy is not any more; where there is no time to ask, nobody knows that it is."""
    if run.client.is_over:
        return False
    try:
        return run.client.get(run.order.health_path).status_code != httpx.codes.OK
    except UnavailableError:
        return True


def died(step: str, *, path: str, why: str, run: Run) -> ProbeError:
    """The error for a server that was healthy and is gone, which its own readiness check never showed."""
    when = "later, under requests" if run.first_request_done else "at its first request"
    return run.client.error(
        step,
        path=path,
        why=f"it was healthy and died {when}: {why}",
        remedy="read the previous container's log; with AMX, --enforce-eager and bfloat16 do this on a CPU "
        "(--dtype float32 works)",
    )


def demand_ok(step: str, answer: httpx.Response, *, path: str, run: Run) -> None:
    """Raise the step's error unless the answer is a 200."""
    if answer.status_code != httpx.codes.OK:
        message = server_message(answer)
        raise run.client.error(
            step,
            path=path,
            status=answer.status_code,
            why=message,
            remedy=remedy_for(answer.status_code, message),
        )


def not_understood(step: str, path: str, answer: httpx.Response, *, run: Run) -> ProbeError:
    """The error for an answer of 200 in a form that no OpenAI-compatible runtime gives."""
    return run.client.error(
        step,
        path=path,
        status=answer.status_code,
        why=f"the answer is not understood: {bounded(answer.text, limit=120)}",
        remedy="does the address belong to an OpenAI-compatible runtime?",
    )


def remedy_for(status: int, message: str) -> str:
    """What to do about a refusal."""
    if "chat template" in message.lower():
        return "give the model a chat_template.jinja beside its tokenizer, or set its task to completion"
    if "tool" in message.lower() and status == 400:
        return "the runtime takes no tools: start it with its tool-call parser, or take the parser out of the record"
    return {
        400: "the runtime refuses the request: does the model's task fit?",
        401: f"the key in {API_KEY} is not the one that the runtime was started with",
        403: f"the key in {API_KEY} is not the one that the runtime was started with",
        404: "the runtime does not know this path or this model name",
    }.get(status, "look at the runtime's log")
