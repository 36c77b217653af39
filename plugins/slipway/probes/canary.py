"""``python -m slipway.probes.canary``: watching a release while it gets a part of the requests.

It is probed first. Then counted are requests of our own, one a second, and what the server itself counts of
everybody's: the counter ``http_requests_total`` with the label ``status`` that vLLM and SGLang have from
prometheus-fastapi-instrumentator. A refusal of a wrong request (4xx) is its sender's fault and none of the server's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable

import httpx
from pydantic import BaseModel, ConfigDict, Field

from slipway.pods import run_order
from slipway.probes.client import Client, UnavailableError
from slipway.probes.generate import PROMPT
from slipway.probes.orders import ProbeOrder
from slipway.probes.probe import api_key_of, probe

PAUSE_SECONDS = 1.0
_COUNTER = re.compile(r'^http_requests_total\{[^}]*status="(\dxx|\d{3})"[^}]*\} ([0-9.eE+]+)', re.MULTILINE)


class CanaryOrder(ProbeOrder):
    """Prove that an endpoint serves, and then watch it.

    Attributes:
        seconds: for how long.
        counters: addresses of the metrics of each of its pods.
    """

    seconds: float = Field(gt=0)
    counters: list[str] = Field(default=[])


class CanaryResult(BaseModel):
    """What was seen.

    Attributes:
        requests, failures: our own.
        first_failure: why the first of them failed, or "".
        served, errors: requests that the pods counted meanwhile, everybody's, and how many of them the server failed.
    """

    model_config = ConfigDict(extra="forbid")

    requests: int
    failures: int
    first_failure: str
    served: int
    errors: int

    @property
    def own_percent(self) -> float:
        """Of our own requests, how many failed."""
        return percent(self.failures, of=self.requests)

    @property
    def counted_percent(self) -> float:
        """Of those that the pods counted, how many they failed."""
        return percent(self.errors, of=self.served)

    @property
    def errors_percent(self) -> float:
        """The larger of the two."""
        return max(self.own_percent, self.counted_percent)


def percent(failed: int, *, of: int) -> float:
    """A share in percent; of no requests none failed."""
    return 100.0 * failed / of if of else 0.0


def watch(order: CanaryOrder, *, sleep: Callable[[float], None] = time.sleep) -> CanaryResult:
    """Probe, then send requests until the time is over.

    Raises:
        ProbeError: the probe failed.
    """
    probe(order)
    before = counted(order.counters)
    client = Client(
        base_url=order.base_url,
        api_key=api_key_of(order),
        request_seconds=order.request_seconds,
        deadline=time.monotonic() + order.seconds,
        sleep=sleep,
    )
    requests, failures = 0, list[str]()
    deadline = time.monotonic() + order.seconds
    try:
        while time.monotonic() < deadline or not requests:
            requests += 1
            why = failure_of(client, order)
            if why:
                failures.append(why)
                print(f"request {requests} failed: {why}", flush=True)
            sleep(PAUSE_SECONDS)
    finally:
        client.close()
    served, errors = (now - then for now, then in zip(counted(order.counters), before, strict=True))
    return CanaryResult(
        requests=requests,
        failures=len(failures),
        first_failure=failures[0] if failures else "",
        # A pod that was made anew counts from 0 again.
        served=max(0, served),
        errors=max(0, errors),
    )


def failure_of(client: Client, order: CanaryOrder) -> str:
    """Send one small request of the endpoint's task; why it failed, or ""."""
    path, body = "/v1/completions", {"model": order.served_name, "prompt": PROMPT, "max_tokens": 4}
    if order.task == "embedding":
        path, body = "/v1/embeddings", {"model": order.served_name, "input": PROMPT}
    try:
        # A picture takes a card for many seconds; that the server is up has to do.
        answer = client.get(order.health_path) if order.task == "image" else client.post(path, body)
    except UnavailableError as error:
        return error.why
    return "" if answer.status_code == httpx.codes.OK else f"status {answer.status_code}"


def counted(addresses: Iterable[str]) -> tuple[int, int]:
    """How many requests the pods have answered, and how many of them with the server's own failure."""
    served = errors = 0
    for address in addresses:
        try:
            text = httpx.get(address, timeout=5, trust_env=False).text
        except httpx.HTTPError as error:
            print(f"{address}: no metrics: {error}", flush=True)
            continue
        for status, number in _COUNTER.findall(text):
            served += int(float(number))
            errors += int(float(number)) if status.startswith("5") else 0
    return served, errors


if __name__ == "__main__":
    run_order(CanaryOrder, watch)
