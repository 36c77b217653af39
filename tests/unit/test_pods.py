"""A pod's order and result: nothing is lost, nothing too long is written, every failure says what it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from slipway import pods
from slipway.errors import ClusterError, ProbeError, SlipwayError, UsageError, WeightsError

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str
    times: int = 1


class Result(BaseModel):
    text: str


def repeat(order: Order) -> Result:
    return Result(text=order.text * order.times)


@pytest.fixture(autouse=True)
def quiet_signals() -> object:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "termination-log"
    monkeypatch.setenv(pods.RESULT, str(path))
    monkeypatch.setenv(pods.ORDER, '{"text": "ab", "times": 2}')
    monkeypatch.delenv(pods.CODE, raising=False)
    monkeypatch.delenv(pods.DEBUG, raising=False)
    return path


def test_a_result_comes_back_as_it_was_given(message: Path) -> None:
    assert pods.carry_out(Order, repeat) == 0
    assert json.loads(message.read_text()) == {"result": {"text": "abab"}}
    assert pods.parse_result(message.read_text(), Result) == Result(text="abab")


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (None, "SLIPWAY_ORDER is not set"),
        ("{", "Invalid JSON"),
        ('{"text": "a", "tims": 2}', "tims: Extra inputs are not permitted"),
        ('{"times": 2}', "text: Field required"),
    ],
)
def test_an_order_that_cannot_be_read_is_a_users_mistake(
    message: Path, monkeypatch: pytest.MonkeyPatch, order: str | None, said: str
) -> None:
    if order is None:
        monkeypatch.delenv(pods.ORDER)
    else:
        monkeypatch.setenv(pods.ORDER, order)
    assert pods.carry_out(Order, repeat) == 2
    with pytest.raises(UsageError, match=said):
        pods.parse_result(message.read_text(), Result)


@pytest.mark.parametrize("error_type", [WeightsError, ProbeError, ClusterError, UsageError, SlipwayError])
def test_a_typed_error_is_raised_again_on_the_other_side(
    message: Path, capsys: pytest.CaptureFixture[str], error_type: type[SlipwayError]
) -> None:
    def fail(order: Order) -> Result:
        raise error_type("it failed", about="a thing", why="a reason", remedy="a remedy")

    assert pods.carry_out(Order, fail) == error_type.exit_status
    assert capsys.readouterr().err == "slipway: it failed (a thing): a reason. a remedy\n"
    with pytest.raises(SlipwayError) as caught:
        pods.parse_result(message.read_text(), Result)
    assert type(caught.value) is error_type
    assert str(caught.value) == "it failed (a thing): a reason. a remedy"


def test_a_result_that_kubernetes_would_cut_is_refused_by_its_bytes(
    message: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = len('{"result":{"text":""}}')
    fits = "é" * ((4096 - frame) // 2)
    monkeypatch.setenv(pods.ORDER, json.dumps({"text": fits}))
    assert pods.carry_out(Order, repeat) == 0
    assert len(message.read_bytes()) <= 4096
    monkeypatch.setenv(pods.ORDER, json.dumps({"text": fits + "é"}))
    assert pods.carry_out(Order, repeat) == 1
    with pytest.raises(SlipwayError, match="too long for the termination message"):
        pods.parse_result(message.read_text(), Result)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(parts=st.tuples(*[st.text(max_size=3000)] * 4))
def test_an_error_always_fits_whatever_is_in_it(message: Path, parts: tuple[str, str, str, str]) -> None:
    what, about, why, remedy = parts

    def fail(order: Order) -> Result:
        raise WeightsError(what, about=about, why=why, remedy=remedy)

    assert pods.carry_out(Order, fail) == 1
    assert len(message.read_bytes()) <= 4096
    with pytest.raises(WeightsError):
        pods.parse_result(message.read_bytes().decode(), Result)


def test_an_unexpected_fault_is_one_line_and_a_trace_only_on_request(
    message: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(order: Order) -> Result:
        raise ZeroDivisionError("divided\nby " + "x" * 5000)

    assert pods.carry_out(Order, fail) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "ZeroDivisionError" in said
    assert len(said) < 1000
    monkeypatch.setenv(pods.DEBUG, "1")
    pods.carry_out(Order, fail)
    assert "Traceback" in capsys.readouterr().err


def test_other_code_than_planned_refuses_to_work(message: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from slipway.catalog.images import code_digest

    monkeypatch.setenv(pods.CODE, code_digest(PLUGINS / "slipway"))
    assert pods.carry_out(Order, repeat) == 0
    monkeypatch.setenv(pods.CODE, "0" * 64)
    assert pods.carry_out(Order, repeat) == 1
    with pytest.raises(SlipwayError, match=r"other code than the release was planned with.*000000000000"):
        pods.parse_result(message.read_text(), Result)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it wrote nothing"),
        ("Traceback\nModuleNotFoundError: No module named 'boto3'\n", "No module named 'boto3'"),
        ('{"other": 1}', "without a result"),
        ("[1]", "without a result"),
        ('{"result": {"text": 5}}', "another form than expected"),
        ('{"error": "?"}', "the pod failed"),
        ('{"error": {"kind": "bounded", "what": "w"}}', "w"),
    ],
)
def test_what_is_no_result_is_quoted(text: str, said: str) -> None:
    with pytest.raises(SlipwayError, match=said):
        pods.parse_result(text, Result)


def test_sigterm_lets_the_work_clean_up_and_ends_with_143(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import threading, time
        from pydantic import BaseModel
        from slipway.pods import run_order
        class Order(BaseModel):
            pass
        def work(order):
            threading.Thread(target=time.sleep, args=(600,)).start()  # a worker that does not listen
            try:
                print("working", flush=True)
                threading.Event().wait()
            finally:
                print("cleaned up", flush=True)
        run_order(Order, work)
        """
    )
    message = tmp_path / "message"
    environment = os.environ | {
        "PYTHONPATH": str(PLUGINS),
        "SLIPWAY_ORDER": "{}",
        "SLIPWAY_RESULT": str(message),
    }
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.terminate()
        out, said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert out == "cleaned up\n"
    assert "terminated" in said
    with pytest.raises(SlipwayError, match="terminated"):
        pods.parse_result(message.read_text(), Result)
