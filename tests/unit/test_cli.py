"""What a person at the terminal relies on: output, exit status, one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.catalog.read import read_catalog
from slipway.catalog.records import Chart
from slipway.cli import main
from slipway.manifests.cluster_objects import render_cluster


@pytest.fixture(autouse=True)
def no_airflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No address of a real Airflow, and a history of the test's own."""
    for name in ("URL", "USER", "PASSWORD"):
        monkeypatch.delenv(f"SLIPWAY_AIRFLOW_{name}", raising=False)
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{tmp_path}/history.db")


def test_render_prints_the_objects_as_yaml_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "qwen3-tiny"]) == 0

    kinds = [document["kind"] for document in yaml.safe_load_all(capsys.readouterr().out)]
    assert kinds == ["PersistentVolumeClaim", "Service", "Service", "StatefulSet", "Service"]


def test_validate_is_silent_on_standard_error_when_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"]) == 0
    assert capsys.readouterr().err == ""


def test_validate_lists_every_problem_and_ends_with_2(
    include: Path, change: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    change("endpoints/qwen3-tiny", replicas=-1)
    (include / "catalog/models/qwen3-0.6b.yaml").write_text("name: [\n")

    assert main(["--include", str(include), "validate"]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("include/catalog/endpoints/qwen3-tiny.yaml:") for line in lines)
    assert any(line.startswith("include/catalog/models/qwen3-0.6b.yaml:") for line in lines)


MISTAKES: list[tuple[list[str], str]] = [
    (["render", "no-such"], "slipway: no such endpoint (no-such). The catalog has: "),
    (["render"], "slipway: say what to render. Name either an endpoint or --cluster NAME"),
    (["render", "qwen3-tiny", "--cluster", "sandbox"], "slipway: say what to render"),
    (["render", "qwen3-tiny", "--values", "hami"], "slipway: --values goes with --cluster (hami)"),
    (["render", "--cluster", "no-such"], "slipway: no such cluster (no-such). The catalog has: "),
    (["render", "--cluster", "sandbox", "--values", "no-such"], "slipway: no such chart (sandbox: no-such)"),
    (["render", "--cluster", "sandbox", "--overrides", "{}"], "slipway: a cluster takes no overrides"),
    (["import", "hydra", "/no/file"], "slipway: a file cannot be read (/no/file)"),
    (["import", "hydra", "x", "--rename", "=x"], "slipway: --rename takes NAME=VALUE (=x)"),
    (["export", "hydra", "no-such"], "slipway: no such runtime (no-such). The catalog has: "),
    (["export", "hydra", "vllm-cpu", "--set", "x"], "slipway: --set takes NAME=VALUE (x)"),
    (["diff", "no-such"], "slipway: no such endpoint (no-such)"),
    (["diff", "qwen3-tiny", "--overrides", "[" * 100_000], "slipway: the overrides are not JSON"),
    (["render", "../clusters/sandbox"], "slipway: no such endpoint (../clusters/sandbox)"),
    (["--include", "/nowhere", "render", "qwen3-tiny"], "nowhere/catalog:1: cannot be read: No such file"),
    (["render", "qwen3-tiny", "--overrides", "{"], "slipway: the overrides are not JSON ({)"),
    (["render", "qwen3-tiny", "--overrides", '{"repicas": 2}'], "slipway: no such override (repicas)"),
    (["render", "qwen3-tiny", "--overrides", "[1]"], "slipway: an override cannot be used (overrides)"),
    (
        ["deploy", "qwen3-tiny"],
        "slipway: Airflow's address or login is not known: not set: SLIPWAY_AIRFLOW_URL",
    ),
    (["fetch", "ftp://x/y", "/tmp/x/y"], "slipway: a source of unknown kind (ftp://x/y)"),
    (["fetch", "s3://bucket/m", "/x"], "slipway: this cannot be fetched (s3://bucket/m): destination: "),
    (["fetch", "s3://bucket/m", "/x/y/z", "--revision", "v1"], "slipway: a revision is for a hub's model"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line_and_exit_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2

    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith(message) and streams.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["no-such-command"], ["diff"], ["schemas"], ["history", "x", "--limit", "many"]]
)
def test_a_wrong_call_ends_with_2_and_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: slipway")


@pytest.mark.parametrize("name", sorted(read_catalog().clusters))
def test_what_a_cluster_needs_is_printed_as_yaml(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "--cluster", name]) == 0

    documents = [one for one in yaml.safe_load_all(capsys.readouterr().out) if one]
    assert documents == render_cluster(read_catalog(), name)


CHARTS = [(name, one) for name, cluster in read_catalog().clusters.items() for one in cluster.setup.charts]


@pytest.mark.parametrize(("name", "chart"), CHARTS, ids=lambda one: getattr(one, "name", one))
def test_the_values_of_a_chart_are_what_helm_takes(
    name: str, chart: Chart, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", "--cluster", name, "--values", chart.name]) == 0

    assert yaml.safe_load(capsys.readouterr().out) == chart.values


HYDRA = Path(__file__).resolve().parents[1] / "data" / "hydra" / "full.yaml"


def test_runtimes_of_hydra_become_records_that_validate_takes(
    include: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(read_catalog(include).runtimes)

    assert main(["--include", str(include), "import", "hydra", str(HYDRA), "--task", "chat"]) == 0

    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    catalog = read_catalog(include)
    assert {Path(line).stem for line in printed} == set(catalog.runtimes) - before != set()
    assert catalog.problems == []

    assert main(["--include", str(include), "import", "hydra", str(HYDRA)]) == 2
    assert main(["--include", str(include), "import", "hydra", str(HYDRA), "--replace"]) == 0


def test_a_runtime_goes_to_hydra_and_comes_back(
    tmp_path: Path, include: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--include", str(include), "import", "hydra", str(HYDRA)]) == 0
    name = Path(capsys.readouterr().out.splitlines()[0]).stem

    assert main(["--include", str(include), "export", "hydra", name, "--namespace", "elsewhere"]) == 0

    text = capsys.readouterr().out
    assert next(yaml.safe_load_all(text))["metadata"]["namespace"] == "elsewhere"
    (tmp_path / "exported.yaml").write_text(text)
    arguments = ["import", "hydra", str(tmp_path / "exported.yaml"), "--into", str(tmp_path)]
    assert main([*arguments, "--rename", f"{name}=back"]) == 0
    assert (tmp_path / "back.yaml").is_file()


@pytest.mark.parametrize("command", [["render", "qwen3-tiny"], ["validate"]])
def test_a_reader_that_has_enough_is_no_error(command: list[str]) -> None:
    """The pipe is closed before anything is written, as `head` may do."""
    process = subprocess.Popen(
        [sys.executable, "-m", "slipway.cli", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    process.stdout.close()

    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 141
    process.stderr.close()


def test_yaml_is_utf_8_whatever_the_terminal_speaks(include: Path, change: Callable[..., None]) -> None:
    change("endpoints/qwen3-tiny", annotations={"note": "通义"})

    done = subprocess.run(
        [sys.executable, "-m", "slipway.cli", "--include", str(include), "render", "qwen3-tiny"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )

    assert "note: 通义" in done.stdout.decode("utf-8")


def test_an_airflow_that_is_not_there_is_named_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    for name, value in (("URL", url), ("USER", "admin"), ("PASSWORD", "x")):
        monkeypatch.setenv(f"SLIPWAY_AIRFLOW_{name}", value)

    assert main(["deploy", "qwen3-tiny"]) == 1

    error = capsys.readouterr().err
    assert error.startswith(f"slipway: Airflow cannot be reached ({url})") and "make status" in error


def test_an_endpoint_without_a_release_has_an_empty_history(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "qwen3-tiny"]) == 0
    assert capsys.readouterr().out == "no release of qwen3-tiny\n"


@pytest.fixture
def unused_tcp_port() -> int:
    """A port of the loopback on which nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Airflow:
    """A stand-in that answers as Airflow's API does, for our own logic of following a run."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.states = ["queued", "running", "failed"]
        self.refuses = refuses
        self.tokens = 0
        self.triggered: list[dict[str, Any]] = []

    def __call__(self, request: Any) -> Any:
        import httpx

        path = request.url.path
        if path == "/auth/token":
            self.tokens += 1
            return httpx.Response(201, json={"access_token": str(self.tokens)})
        if request.headers["Authorization"] == "Bearer 1" and len(self.states) == 2:
            return httpx.Response(401, json={"detail": "expired"})
        if request.method == "POST":
            self.triggered.append(json.loads(request.content))
            if len(self.triggered) > 1:
                return httpx.Response(409, json={"detail": "exists"})
            return httpx.Response(200, json={"dag_run_id": "key-1"})
        if path.endswith("/taskInstances"):
            steps = [
                {"task_id": "check", "state": "success", "start_date": "1", "map_index": -1, "duration": 1.0},
                {
                    "task_id": "download",
                    "state": "failed",
                    "start_date": "2",
                    "map_index": -1,
                    "duration": 2.0,
                },
            ]
            return httpx.Response(200, json={"task_instances": steps})
        if path.endswith("/xcomEntries/failure"):
            return httpx.Response(200, json={"value": "the bucket is missing"})
        if path.endswith("/xcomEntries/refused"):
            return httpx.Response(200, json={"value": True}) if self.refuses else httpx.Response(404)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return httpx.Response(200, json={"state": state})


Session = Callable[..., Any]


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Callable[[Airflow], Session]:
    """Have the terminal speak to a stand-in; returns how it opens a session with it."""
    import httpx

    from slipway.airflow_rest import AirflowRest

    def with_airflow(airflow: Airflow) -> Session:
        def opened(*_: object) -> AirflowRest:
            rest = AirflowRest(url="http://airflow", user="admin", password="x")
            rest.client = httpx.Client(base_url="http://airflow", transport=httpx.MockTransport(airflow))
            return rest

        monkeypatch.setattr(AirflowRest, "from_environment", staticmethod(opened))
        return opened

    return with_airflow


def test_a_run_that_refuses_what_it_was_asked_for_is_the_askers_mistake(
    session: Callable[[Airflow], Session], capsys: pytest.CaptureFixture[str]
) -> None:
    session(Airflow(refuses=True))

    assert main(["scale", "qwen3-tiny", "2"]) == 2

    assert capsys.readouterr().err == "slipway: download: the bucket is missing\n"


def test_a_run_is_followed_through_an_expired_login_and_its_failure_is_told(
    session: Callable[[Airflow], Session], capsys: pytest.CaptureFixture[str]
) -> None:
    airflow = Airflow()
    opened = session(airflow)

    assert main(["redeploy", "qwen3-tiny", "--key", "key-1", "--overrides", '{"replicas": 2}']) == 1

    streams = capsys.readouterr()
    assert airflow.triggered[0]["dag_run_id"] == "key-1"
    assert airflow.triggered[0]["conf"]["overrides"] == {"replicas": 2}
    assert airflow.tokens == 2
    assert "  check: success 1.0 s\n" in streams.out
    assert streams.err == "slipway: download: the bucket is missing\n"
    with opened() as rest:
        again = rest.trigger("redeploy_endpoint", {}, run_id="key-1")
    assert again == "key-1", "the same key twice makes one run"
