"""Measure an endpoint with vLLM's client, and take the result only when it is valid.

The client ends with status 0 when every request failed, and a latency of no request is 0.0, the best there
is: so what it wrote is checked before anybody compares it with other nights.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slipway.benchmark.client import client_command, client_flags, run_client
from slipway.benchmark.orders import BenchmarkOrder, BenchmarkResult
from slipway.errors import BenchmarkError, UsageError
from slipway.pods import LONGEST_RESULT

RAW_LINE = "slipway-benchmark-raw "
"""Starts the line of the pod's log that holds the client's whole JSON."""


def _print(line: str) -> None:
    print(line, flush=True)


def benchmark(
    order: BenchmarkOrder,
    *,
    command: Sequence[str] | None = None,
    say: Callable[[str], None] = _print,
) -> BenchmarkResult:
    """Run the workload against the endpoint.

    Args:
        order: the endpoint and the load.
        command: the client's program; None is vLLM's in this interpreter.
        say: takes one line of the log.

    Raises:
        BenchmarkError: the client failed, or its result is not valid.
        UsageError: the tokenizer is not there.
    """
    if not Path(order.tokenizer).is_dir():
        raise UsageError(
            "the tokenizer is not there",
            about=order.tokenizer,
            remedy="is the model's volume mounted in this pod?",
        )
    with tempfile.TemporaryDirectory(prefix="slipway-benchmark-") as directory:
        result = Path(directory) / "result.json"
        flags = client_flags(order, result=result)
        run_client(
            [*(command or client_command()), *flags],
            directory=Path(directory),
            timeout_seconds=order.timeout_seconds,
            say=say,
        )
        raw = _read(result)
    check_valid(raw, order=order)
    say(RAW_LINE + canonical(raw))
    return make_result(raw)


def check_valid(raw: Mapping[str, Any], *, order: BenchmarkOrder) -> None:
    """Refuse a result that must not be compared with others.

    Raises:
        BenchmarkError: requests failed or are missing, nothing was generated, or a number is none.
    """
    about = f"{order.workload.name} on {order.served_name}"
    wanted, completed, failed = order.workload.requests, raw.get("completed"), raw.get("failed") or 0
    if completed != wanted or failed:
        raise BenchmarkError(
            "not every request of the benchmark succeeded",
            about=about,
            why=f"{completed} of {wanted} completed, {failed} failed",
            remedy="look at the endpoint's log: were requests refused, too long for the model, or cut off?",
        )
    for key in ("total_output_tokens", "duration", "total_input_tokens"):
        if not (isinstance(raw.get(key), int | float) and raw[key] > 0):
            raise BenchmarkError(
                "the benchmark measured nothing",
                about=about,
                why=f"{key} is {raw.get(key)}",
                remedy="does the endpoint answer with text? The probe's answer shows it",
            )
    odd = [key for key, value in raw.items() if isinstance(value, float) and not math.isfinite(value)]
    if odd:
        raise BenchmarkError("the benchmark has numbers that are none", about=about, why=", ".join(odd[:5]))


def make_result(raw: dict[str, Any]) -> BenchmarkResult:
    """Make the result; what has a value for each request stays in the log when the message would be too long.

    vLLM 0.32.0 writes ``latencies`` and ``queue_times`` with one number a request even without
    ``--save-detailed``: about 45 requests fit.
    """
    digest = hashlib.sha256(canonical(raw).encode()).hexdigest()
    whole = BenchmarkResult(raw=raw, raw_sha256=digest)
    # As pods.run_order writes it: {"result": …}.
    if len(canonical({"result": whole.model_dump(mode="json")}).encode()) <= LONGEST_RESULT:
        return whole
    long = sorted(key for key, value in raw.items() if isinstance(value, list))
    kept = {key: value for key, value in raw.items() if key not in long}
    return BenchmarkResult(raw=kept, in_log=long, raw_sha256=digest)


def whole_raw(result: BenchmarkResult, *, log: str) -> dict[str, Any]:
    """The client's JSON with nothing left out, from the result and the pod's log.

    Raises:
        BenchmarkError: the log does not have the line, or another one.
    """
    if not result.in_log:
        return result.raw
    for line in reversed(log.splitlines()):
        _, found, text = line.partition(RAW_LINE)
        if found and hashlib.sha256(text.strip().encode()).hexdigest() == result.raw_sha256:
            raw: dict[str, Any] = json.loads(text)
            return raw
    raise BenchmarkError(
        "the benchmark's whole result is not in the pod's log",
        why=f"no line with {', '.join(result.in_log)} fits the digest",
        remedy="read the log before the pod is deleted",
    )


def canonical(value: Any) -> str:
    """JSON without spaces, keys in their order, as the result and the log have it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _read(result: Path) -> dict[str, Any]:
    try:
        raw = json.loads(result.read_bytes())
    except (OSError, ValueError) as error:
        raise BenchmarkError(
            "the benchmark client wrote no result", why=str(error), remedy="look at the pod's log"
        ) from error
    if not isinstance(raw, dict):
        raise BenchmarkError("the benchmark client's result has another form than expected")
    return raw
