"""The benchmark step's own logic: what counts as a result, what fits, and what people see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from slipway.benchmark import (
    BenchmarkOrder,
    BenchmarkResult,
    Workload,
    benchmark,
    check_valid,
    format_table,
    whole_raw,
)
from slipway.benchmark.client import CONVERSATIONS, client_environment, client_flags
from slipway.benchmark.run import canonical, make_result
from slipway.errors import BenchmarkError, UsageError
from slipway.pods import LONGEST_RESULT, parse_result

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def raw(*, requests: int = 20, **changes: Any) -> dict[str, Any]:
    """A result as vLLM 0.32.0 writes it without --save-detailed."""
    result: dict[str, Any] = {
        "date": "20261121-120000",
        "endpoint_type": "openai-chat",
        "backend": "openai-chat",
        "label": None,
        "model_id": "qwen3-tiny",
        "tokenizer_id": "/models/qwen3-tiny/0123456789ab",
        "num_prompts": requests,
        "request_rate": 4.0,
        "burstiness": 1.0,
        "max_concurrency": None,
        "duration": 5.123456789012345,
        "completed": requests,
        "failed": 0,
        "total_input_tokens": 1234,
        "total_output_tokens": 640,
        "request_throughput": 3.9036123456789,
        "request_goodput": None,
        "output_throughput": 124.915561234567,
        "total_token_throughput": 365.76931234567,
        "latencies": [0.123456789012345 + n / 7 for n in range(requests)],
        "queue_times": [0.000123456789012 + n / 9999 for n in range(requests)],
        "max_output_tokens_per_s": 210.0,
        "max_concurrent_requests": 7,
        "rtfx": 0.0,
    }
    for metric in ("ttft", "tpot", "itl", "e2el"):
        for name in ("mean", "median", "std", "p50", "p90", "p95", "p99"):
            result[f"{name}_{metric}_ms"] = 12.345678901234567
    return result | changes


@pytest.fixture
def order(tmp_path: Path) -> BenchmarkOrder:
    load = Workload(name="short", requests=20, rate=4, seed=3)
    return BenchmarkOrder(
        base_url="http://x.models.svc:8000/", served_name="qwen3-tiny", tokenizer=str(tmp_path), workload=load
    )


def fake_client(tmp_path: Path, body: str) -> list[str]:
    """A client program that gets the real flags; ``body`` decides what it writes."""
    script = tmp_path / "client.py"
    start = """
        import json, os, sys, time
        flags = dict(zip(sys.argv[1::1], sys.argv[2::1]))
        target = os.path.join(flags["--result-dir"], flags["--result-filename"])
        def write(value):
            with open(target, "w") as file:
                json.dump(value, file)
    """
    script.write_text(textwrap.dedent(start) + textwrap.dedent(body))
    return [sys.executable, str(script)]


def writes(value: dict[str, Any]) -> str:
    return f"write(json.loads({json.dumps(value)!r}))"


def test_a_valid_result_is_given_unmodified_and_its_output_is_in_the_log(
    tmp_path: Path, order: BenchmarkOrder
) -> None:
    said: list[str] = []
    result = benchmark(
        order, command=fake_client(tmp_path, "print('hello')\n" + writes(raw())), say=said.append
    )
    assert result.raw == raw()
    assert list(result.raw) == list(raw())
    assert result.in_log == []
    assert said[0] == "hello"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"completed": 19, "failed": 1}, r"not every request.*19 of 20 completed, 1 failed"),
        ({"completed": 0, "failed": 20}, r"0 of 20 completed"),
        ({"completed": None}, r"None of 20 completed"),
        ({"failed": 1}, r"1 failed"),
        ({"total_output_tokens": 0}, r"measured nothing.*total_output_tokens is 0"),
        ({"total_output_tokens": None}, r"measured nothing"),
        ({"duration": 0.0}, r"measured nothing.*duration"),
        ({"mean_tpot_ms": float("nan")}, r"numbers that are none.*mean_tpot_ms"),
    ],
)
def test_an_invalid_result_is_an_error_though_the_client_ended_well(
    tmp_path: Path, order: BenchmarkOrder, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BenchmarkError, match=message):
        benchmark(order, command=fake_client(tmp_path, writes(raw(**changes))), say=lambda line: None)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", r"wrote no result"),
        ("open(target, 'w').write('{')", r"wrote no result"),
        ("write([1])", r"another form"),
        (
            "print('noise'); sys.exit('ValueError: Initial test run failed: Unauthorized')",
            r"failed.*status 1.*Unauthorized",
        ),
        ("raise RuntimeError('no server')", r"RuntimeError: no server"),
        ("os.kill(os.getpid(), 9)", r"exit status -9.*printed nothing"),
    ],
)
def test_a_client_that_fails_is_quoted(
    tmp_path: Path, order: BenchmarkOrder, body: str, message: str
) -> None:
    with pytest.raises(BenchmarkError, match=message):
        benchmark(order, command=fake_client(tmp_path, body), say=lambda line: None)


def test_a_program_that_is_not_there_and_a_tokenizer_that_is_not_there(
    tmp_path: Path, order: BenchmarkOrder
) -> None:
    with pytest.raises(BenchmarkError, match="could not start"):
        benchmark(order, command=["/not/there"], say=lambda line: None)
    with pytest.raises(UsageError, match="tokenizer is not there"):
        benchmark(order.model_copy(update={"tokenizer": "/not/there"}), say=lambda line: None)


def test_a_benchmark_that_takes_too_long_is_ended_with_all_that_it_started(
    tmp_path: Path, order: BenchmarkOrder
) -> None:
    pid_file = tmp_path / "pid"
    body = f"""
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(pid_file)!r}, "w").write(str(child.pid))
        time.sleep(600)
    """
    slow = order.model_copy(update={"timeout_seconds": 2.0})
    with pytest.raises(BenchmarkError, match="took too long"):
        benchmark(slow, command=fake_client(tmp_path, body), say=lambda line: None)
    assert_ends(int(pid_file.read_text()))


def assert_ends(pid: int) -> None:
    """The process is gone or only waits to be reaped."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} still runs")


def test_a_pod_that_is_told_to_stop_leaves_no_client_behind(tmp_path: Path, order: BenchmarkOrder) -> None:
    client = fake_client(tmp_path, "print('started', os.getpid(), flush=True)\ntime.sleep(600)")
    script = (
        "import functools, json, sys; from slipway.pods import run_order; "
        "from slipway.benchmark import BenchmarkOrder, benchmark; "
        f"run_order(BenchmarkOrder, functools.partial(benchmark, command={client!r}))"
    )
    message = tmp_path / "message"
    environment = os.environ | {
        "PYTHONPATH": str(PLUGINS),
        "SLIPWAY_ORDER": order.model_dump_json(),
        "SLIPWAY_RESULT": str(message),
    }
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
    ) as pod:
        assert pod.stdout is not None
        started = pod.stdout.readline().split()
        pod.send_signal(signal.SIGTERM)
        assert pod.wait(timeout=20) == 143
    assert_ends(int(started[1]))
    with pytest.raises(Exception, match="terminated"):
        parse_result(message.read_text(), BenchmarkResult)


@given(requests=st.integers(min_value=1, max_value=3000))
def test_any_number_of_requests_fits_and_nothing_is_lost(requests: int) -> None:
    value = raw(requests=requests)
    result = make_result(value)
    message = canonical({"result": result.model_dump(mode="json")})
    assert len(message.encode()) <= LONGEST_RESULT
    log = (
        "noise\nslipway-benchmark-raw {}\n"
        + f"2026-11-21T12:00:00Z slipway-benchmark-raw {canonical(value)}\nmore"
    )
    assert whole_raw(parse_result(message, BenchmarkResult), log=log) == value


def test_a_log_without_the_line_is_said() -> None:
    with pytest.raises(BenchmarkError, match=r"latencies, queue_times"):
        whole_raw(make_result(raw(requests=500)), log="slipway-benchmark-raw {}")


def test_flags_follow_the_workload(order: BenchmarkOrder) -> None:
    flags = client_flags(order, result=Path("/tmp/r/result.json"))
    pairs = dict(pairwise(flags))
    assert pairs["--base-url"] == "http://x.models.svc:8000"
    assert (pairs["--backend"], pairs["--endpoint"]) == ("openai-chat", "/v1/chat/completions")
    assert (pairs["--request-rate"], pairs["--burstiness"], pairs["--seed"]) == ("4", "1", "3")
    assert (pairs["--dataset-name"], pairs["--dataset-path"]) == ("sharegpt", str(CONVERSATIONS))
    assert "--max-concurrency" not in flags
    assert "--ignore-eos" not in flags
    fixed = order.workload.model_copy(update={"output_tokens": 32, "rate": None, "concurrency": 2})
    flags = client_flags(order.model_copy(update={"workload": fixed}), result=Path("/tmp/r/result.json"))
    pairs = dict(pairwise(flags))
    assert pairs["--sharegpt-output-len"] == "32"
    assert "--ignore-eos" in flags
    assert "--request-rate" not in flags
    assert "client_queue_time" in pairs["--percentile-metrics"]
    random = order.workload.model_copy(update={"data": "random", "input_tokens": 64, "output_tokens": 16})
    flags = client_flags(order.model_copy(update={"workload": random}), result=Path("/tmp/r/result.json"))
    pairs = dict(pairwise(flags))
    assert (pairs["--backend"], pairs["--endpoint"]) == ("openai", "/v1/completions")
    assert (pairs["--random-input-len"], pairs["--random-output-len"]) == ("64", "16")
    assert "--dataset-path" not in flags


def test_the_key_is_in_the_clients_environment_and_not_in_its_arguments(
    order: BenchmarkOrder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_API_KEY", "sk-secret")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    environment = client_environment()
    assert environment["OPENAI_API_KEY"] == "sk-secret"
    assert not [name for name in environment if name.startswith("SLIPWAY_") or "proxy" in name.lower()]
    assert "sk-secret" not in " ".join(client_flags(order, result=Path("/tmp/r/result.json")))


def test_the_table_reads_as_vllm_prints_it() -> None:
    table = format_table(raw(max_concurrency=4, p99_9_ttft_ms=1.0))
    lines = table.splitlines()
    assert lines[0] == "============ Serving Benchmark Result ============"
    assert "Successful requests:                     20        " in lines
    assert "Request rate configured (RPS):           4.00      " in lines
    assert "Peak concurrent requests:                7.00      " in lines
    assert "---------------Time to First Token----------------" in lines
    assert "P99 TTFT (ms):                           12.35     " in lines
    assert lines[-1] == "=" * 50
    order_of = [line.split(" ")[0] for line in lines if "TTFT" in line]
    assert order_of == ["Mean", "Median", "P50", "P90", "P95", "P99"]
    assert "RPS" not in format_table(raw(request_rate="inf"))


def test_a_table_of_little_is_a_table() -> None:
    assert format_table({"completed": 1}).count("\n") == 2


def test_the_conversations_are_what_the_client_takes() -> None:
    data = json.loads(CONVERSATIONS.read_text(encoding="utf-8"))
    assert len(data) >= 60
    assert CONVERSATIONS.stat().st_size < 60_000
    assert len({entry["id"] for entry in data}) == len(data)
    for entry in data:
        asked, answered = entry["conversations"]
        assert (asked["from"], answered["from"]) == ("human", "gpt")
        # vLLM drops what has fewer than 4 tokens, prompts of more than 1024, both of more than 2048.
        assert min(len(asked["value"]), len(answered["value"])) >= 7
        assert len((asked["value"] + answered["value"]).encode()) < 1024
    assert sum(any("\u4e00" <= letter <= "\u9fff" for letter in str(entry)) for entry in data) >= 8


@pytest.mark.parametrize(
    "change",
    [
        {"requests": 0},
        {"rate": 0},
        {"rate": -1},
        {"percentiles": []},
        {"percentiles": [101]},
        {"dta": "random"},
    ],
)
def test_a_load_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Workload.model_validate({"name": "x", "requests": 1} | change)


def test_check_valid_takes_whole_numbers_as_rates(order: BenchmarkOrder) -> None:
    check_valid(raw(duration=5), order=order)
