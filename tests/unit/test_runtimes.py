"""What a person who deploys one of the catalog's runtimes and models relies on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from slipway.catalog.quantities import quantity_bytes
from slipway.catalog.read import read_catalog
from slipway.catalog.records import Runtime
from slipway.manifests.arguments import Filled, argument_faults, fill, flag_of, version_faults

CATALOG = read_catalog()
PLAIN: dict[str, Any] = {
    "RUN_TIME": "mine",
    "MODEL_NAME": "ds",
    "MODEL_ID": "deepseek-ai/DeepSeek-R1",
    "MODEL_PATH": "/data/serving-model",
    "CLUSTER": "sandbox",
    "NAMESPACE": "models",
    "TP_SIZE": 8,
    "PP_SIZE": 1,
    "MODEL_HOST": "0.0.0.0",
    "MODEL_PORT": 8000,
    "RAY_PORT": 6379,
    "CONTEXT_LENGTH": 4096,
    "NODES": 1,
    "MEMORY_UTILIZATION": 0.9,
    "TOOL_CALL_PARSER": None,
    "REASONING_PARSER": None,
    "IS_DISTRIBUTED": False,
    "IS_LEADER": True,
}
PARSERS = {"TOOL_CALL_PARSER": "deepseek_v3", "REASONING_PARSER": "deepseek_r1"}
GROUP = {"IS_DISTRIBUTED": True, "NODES": 2, "PP_SIZE": 2}
SIZES = {"float32": 4, "bfloat16": 2, "float16": 2, "fp8": 1, "int8": 1, "int4": 0.5}
NAMED = {
    "vllm",
    "vllm-0.12",
    "vllm-cpu",
    "vllm-cpu-0.8.5",
    "vllm-ascend",
    "vllm-ray",
    "sglang",
    "mindie",
    "image-gen",
}


def filled(runtime: Runtime, *custom: str, **variables: Any) -> Filled:
    return fill(runtime, {**PLAIN, **variables}, custom_args=list(custom))


def flags(runtime: Runtime, **variables: Any) -> dict[str, str]:
    return {flag_of(one): one.partition("=")[2] for one in filled(runtime, **variables).args}


def test_the_catalog_has_the_runtimes_that_the_documents_name_and_one_for_each_kind_of_card() -> None:
    kinds = {kind for runtime in CATALOG.runtimes.values() for kind in runtime.images}

    assert set(CATALOG.runtimes) >= NAMED
    assert kinds == {"cpu", "nvidia", "ascend", "cambricon", "hygon", "iluvatar", "metax", "mthreads", "ppu"}


@pytest.mark.parametrize("name", sorted(CATALOG.runtimes))
@pytest.mark.parametrize("variables", [{}, PARSERS, {**GROUP, **PARSERS}, {**GROUP, "IS_LEADER": False}])
def test_a_runtime_says_only_what_its_version_knows(name: str, variables: dict[str, Any]) -> None:
    runtime = CATALOG.runtimes[name]
    if variables.get("IS_DISTRIBUTED") and not runtime.distributed:
        variables = {**variables, "IS_DISTRIBUTED": False}
    process = filled(runtime, "--max-num-seqs=4", **variables)

    program = CATALOG.programs.get(runtime.program or "")
    assert list(version_faults(process.args, runtime=runtime, program=program)) == []
    assert not any("=None" in one for one in [*process.command, *process.args])


@pytest.mark.parametrize("name", sorted(CATALOG.runtimes))
def test_no_runtime_lets_an_endpoint_move_its_port_run_foreign_code_or_show_its_key(name: str) -> None:
    runtime = CATALOG.runtimes[name]
    trust = "--trustRemoteCode=true" if runtime.program == "mindie" else "--trust-remote-code"
    arguments = ["--port=1", trust, "--api-key=x"]

    faults = argument_faults(arguments, runtime=runtime, program=CATALOG.programs[runtime.program or ""])

    assert [fault.field for fault in faults] == ["args"] * len(arguments)


DEAD = ["--swap-space=16", "--disable-log-requests", "--max-paddings=256"]
KNOWN = [("vllm", 3), ("vllm-cpu", 3), ("vllm-0.12", 1), ("vllm-cpu-0.8.5", 1), ("vllm-ascend", 3)]


@pytest.mark.parametrize(("name", "dead"), KNOWN)
def test_the_documents_dead_flags_are_named_for_the_versions_that_lost_them(name: str, dead: int) -> None:
    runtime = CATALOG.runtimes[name]

    faults = list(version_faults(DEAD, runtime=runtime, program=CATALOG.programs["vllm"]))

    assert len(faults) == dead
    assert all("Leave it out" in fault.message for fault in faults)


def test_todays_vllm_serves_from_several_pods_without_ray() -> None:
    runtime = CATALOG.runtimes["vllm"]
    leader, worker = (flags(runtime, **GROUP, IS_LEADER=one) for one in (True, False))

    assert filled(runtime).args[0] == "/data/serving-model"
    assert worker.pop("--headless") == ""
    assert leader == worker
    assert leader["--nnodes"] == "2" and leader["--pipeline-parallel-size"] == "2"
    assert leader["--node-rank"] == "$(LWS_WORKER_INDEX)"
    assert leader["--master-addr"] == "$(LWS_LEADER_ADDRESS)"
    assert not {"--nnodes", "--headless", "--pipeline-parallel-size"} & set(flags(runtime))


PARSER_NAMES = [
    ("hermes", "qwen3", "qwen", "qwen3"),
    ("deepseek_v3", "deepseek_r1", "deepseekv3", "deepseek-r1"),
    ("llama3", None, "llama3", None),
]


@pytest.mark.parametrize(("tool", "reasoning", "sglang_tool", "sglang_reasoning"), PARSER_NAMES)
def test_sglang_gets_its_own_names_of_the_parsers(
    tool: str, reasoning: str | None, sglang_tool: str, sglang_reasoning: str | None
) -> None:
    asked = flags(CATALOG.runtimes["sglang"], TOOL_CALL_PARSER=tool, REASONING_PARSER=reasoning)

    assert asked["--tool-call-parser"] == sglang_tool
    assert asked.get("--reasoning-parser") == sglang_reasoning


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Stand-ins for ray and vllm that say how they were called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("ray", "vllm"):
        (folder / name).write_text(
            '#!/bin/sh\nfor word in "${0##*/}" "$@"; do printf "%s|" "$word"; done; echo\n'
        )
        (folder / name).chmod(0o755)
    return folder


RAY = [
    ({"TP_SIZE": 1}, ["vllm|serve|/data/serving-model|"]),
    (GROUP, ["ray|start|--head|--port=6379|", "vllm|serve|/data/serving-model|"]),
    ({**GROUP, "IS_LEADER": False}, ["ray|start|--block|--address=lws-0:6379|"]),
]


@pytest.mark.parametrize(("variables", "called"), RAY)
def test_with_ray_the_leader_serves_and_the_workers_join(
    programs: Path, variables: dict[str, Any], called: list[str]
) -> None:
    process = filled(CATALOG.runtimes["vllm-ray"], "--x=a; b", **{**PARSERS, **variables})
    script = process.args[0].replace("$(LWS_LEADER_ADDRESS)", "lws-0")

    done = subprocess.run(
        [*process.command, script],
        capture_output=True,
        text=True,
        timeout=20,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        check=True,
    )

    lines = done.stdout.splitlines()
    assert [line.startswith(expected) for line, expected in zip(lines, called, strict=True)] == [True] * len(
        lines
    )
    if lines[-1].startswith("vllm"):
        assert lines[-1].endswith("|--reasoning-parser=deepseek_r1|--x=a; b|")


MINDIE = {
    "ServerConfig": {"ipAddress": "127.0.0.1", "port": 1, "httpsEnabled": True, "openAiSupport": "vllm"},
    "BackendConfig": {
        "npuDeviceIds": [[0]],
        "ModelDeployConfig": {"maxSeqLen": 2560, "ModelConfig": [{"modelName": "x", "worldSize": 1}]},
        "ScheduleConfig": {"maxBatchSize": 200, "maxPrefillTokens": 8192},
    },
}


@pytest.fixture
def mindie(tmp_path: Path) -> Path:
    """A folder as MindIE's image has it, with a daemon that only waits."""
    service = tmp_path / "mindie" / "latest" / "mindie-service"
    for folder in ("conf", "bin"):
        (service / folder).mkdir(parents=True)
    (service / "conf" / "config.json").write_text(json.dumps(MINDIE))
    (service / "bin" / "mindieservice_daemon").write_text("#!/bin/sh\necho ready\nexec sleep 30\n")
    (service / "bin" / "mindieservice_daemon").chmod(0o755)
    return service


def started(mindie: Path, *custom: str, name: str = "ds") -> subprocess.Popen[str]:
    process = filled(CATALOG.runtimes["mindie"], *custom, MODEL_NAME=name, MODEL_PORT=1025)
    script = process.args[0].replace("/usr/local/Ascend", str(mindie.parents[2]))
    return subprocess.Popen(
        [*process.command, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "MIES_CONTAINER_IP": "10.0.0.7"},
    )


def test_mindie_gets_its_configuration_and_ends_when_it_is_asked_to(mindie: Path) -> None:
    daemon = started(mindie, "--maxBatchSize=64", "--openAiSupport=x;touch y", name="a'b")
    assert daemon.stdout is not None and daemon.stdout.readline() == "ready\n"
    daemon.send_signal(signal.SIGTERM)
    daemon.communicate(timeout=10)

    path = mindie / "conf" / "config.json"
    config = json.loads(path.read_text())
    server, backend = config["ServerConfig"], config["BackendConfig"]
    assert (server["ipAddress"], server["port"], server["httpsEnabled"]) == ("10.0.0.7", 1025, False)
    assert server["openAiSupport"] == "x;touch y"
    assert backend["npuDeviceIds"] == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert backend["ModelDeployConfig"]["ModelConfig"][0]["modelName"] == "a'b"
    assert backend["ModelDeployConfig"]["maxSeqLen"] == 4096
    assert backend["ScheduleConfig"]["maxBatchSize"] == 64
    assert path.stat().st_mode & 0o777 == 0o640
    assert not (mindie / "y").exists()


def test_mindie_does_not_start_with_a_key_that_it_does_not_know(mindie: Path) -> None:
    _, error = (daemon := started(mindie, "--max-num-seqs=4")).communicate(timeout=10)

    assert daemon.returncode == 1
    assert "--max-num-seqs=4: MindIE has no such key in config.json" in error


MODELS = [
    ("qwen3-0.6b", "hermes", "qwen3"),
    ("qwen3-235b-a22b-instruct-2507", "hermes", None),
    ("qwq-32b", "hermes", "deepseek_r1"),
    ("deepseek-r1-distill-qwen-32b", None, "deepseek_r1"),
    ("deepseek-r1-distill-llama-70b", None, "deepseek_r1"),
    ("deepseek-r1", "deepseek_v3", "deepseek_r1"),
    ("qwen3-tiny", None, None),
    ("qwen-image", None, None),
]


@pytest.mark.parametrize(("name", "tool", "reasoning"), MODELS)
def test_a_model_comes_with_its_parsers_and_names_in_both_languages(
    name: str, tool: str | None, reasoning: str | None
) -> None:
    model = CATALOG.models[name]

    assert (model.tool_call_parser, model.reasoning_parser) == (tool, reasoning)
    assert set(model.vendor) == set(model.display_name) == {"enUS", "zhCN"}
    assert model.random_words or model.sources[0] == f"modelscope://{model.id}"


@pytest.mark.parametrize("name", sorted(CATALOG.models))
def test_a_models_size_holds_all_of_its_parameters_and_little_more(name: str) -> None:
    model = CATALOG.models[name]
    weight_type = model.architecture.weight_type if model.architecture else "bfloat16"
    weights = model.parameters * SIZES[weight_type]

    # A tied output layer may lie there twice, and R1 has a layer for multi-token prediction besides.
    assert weights <= quantity_bytes(model.size) < weights * 1.5 + 2**24


def dense_parameters(name: str, *, intermediate: int, tied: bool, biases: bool, norms: bool) -> int:
    shape = CATALOG.models[name].architecture
    assert shape is not None
    queries, keys = shape.attention_heads * shape.head_dimension, shape.kv_heads * shape.head_dimension
    attention = 2 * shape.hidden_size * queries + 2 * shape.hidden_size * keys
    attention += (queries + 2 * keys) * biases + 2 * shape.head_dimension * norms
    layer = attention + 3 * shape.hidden_size * intermediate + 2 * shape.hidden_size
    return shape.layers * layer + shape.vocabulary * shape.hidden_size * (2 - tied) + shape.hidden_size


SHAPES = [
    ("qwen3-tiny", 512, False, False, True),
    ("qwen3-0.6b", 3072, True, False, True),
    ("qwq-32b", 27648, False, True, False),
    ("deepseek-r1-distill-qwen-32b", 27648, False, True, False),
    ("deepseek-r1-distill-llama-70b", 28672, False, False, False),
]


@pytest.mark.parametrize(("name", "intermediate", "tied", "biases", "norms"), SHAPES)
def test_a_models_parameters_follow_from_its_shape(
    name: str, intermediate: int, tied: bool, biases: bool, norms: bool
) -> None:
    counted = dense_parameters(name, intermediate=intermediate, tied=tied, biases=biases, norms=norms)

    assert CATALOG.models[name].parameters == counted


def test_shell_strings_of_the_catalog_take_hostile_values_as_words() -> None:
    hostile = "a'; touch pwned; '$(touch pwned)`touch pwned`"
    for runtime in CATALOG.runtimes.values():
        if runtime.in_shell:
            text = filled(runtime, f"--x={hostile}", MODEL_NAME=hostile).args[0].replace("$$", "$")
            assert shlex.quote(hostile) in text and shlex.quote(f"--x={hostile}") in text
