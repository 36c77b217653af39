"""The catalog's vLLM arguments, parsed by the very vLLM that the sandbox serves with: what its authors rely on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from sandbox import images
from slipway.catalog.read import read_catalog
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from slipway.manifests.arguments import fill, flag_of, parsed_by, version_faults
from slipway.manifests.planning import make_plan
from slipway.manifests.serving import KEYS_FILE

pytestmark = pytest.mark.cluster

CATALOG = read_catalog()
PROGRAM = CATALOG.programs["vllm"]
PARSED = sorted(name for name, one in CATALOG.runtimes.items() if parsed_by(one, PROGRAM))
DEAD = ["--swap-space=16", "--disable-log-requests", "--max-paddings=256"]
VARIABLES: dict[str, Any] = {
    "RUN_TIME": "vllm",
    "MODEL_NAME": "a b'c",
    "MODEL_ID": "org/name",
    "MODEL_PATH": "/data/serving-model",
    "CLUSTER": "sandbox",
    "NAMESPACE": "models",
    "TP_SIZE": 8,
    "PP_SIZE": 2,
    "MODEL_HOST": "0.0.0.0",
    "MODEL_PORT": 8000,
    "RAY_PORT": 6379,
    "CONTEXT_LENGTH": 4096,
    "NODES": 2,
    "MEMORY_UTILIZATION": 0.9,
}

CODE = """
import contextlib, io, json, os
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.version import __version__

parser = make_arg_parser(FlexibleArgumentParser())
with open("/tmp/keys.yaml", "w") as keys:
    keys.write('{"api-key": ["sk-old", "sk-new"]}')
said = {
    "keys": parser.parse_args(["--config", "/tmp/keys.yaml", "--port=8000"]).api_key,
    "version": __version__,
    "flags": sorted(flag for action in parser._actions for flag in action.option_strings),
    "tool": sorted(ToolParserManager.list_registered()),
    "reasoning": sorted(ReasoningParserManager.list_registered()),
}
for key, value in said.items():
    print("SAID", json.dumps([key, value]), flush=True)
for name, arguments in json.loads(os.environ["ORDER"]).items():
    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal):
            parser.parse_args(arguments)
        answer = ""
    except SystemExit:
        answer = refusal.getvalue().strip().splitlines()[-1]
    print("SAID", json.dumps([name, answer]), flush=True)
"""


@dataclass(frozen=True)
class Parser:
    """What the sandbox's vLLM said."""

    version: str
    flags: set[str]
    tool: set[str]
    reasoning: set[str]
    keys: list[str]
    refusals: dict[str, str]


def as_vllm_gets_them(arguments: list[str]) -> list[str]:
    """Arguments as Kubernetes and ``vllm serve`` hand them on, in a pod of a group."""
    known = {"$(LWS_WORKER_INDEX)": "1", "$(LWS_LEADER_ADDRESS)": "leader", KEYS_FILE: "/tmp/keys.yaml"}
    for variable, value in known.items():
        arguments = [one.replace(variable, value) for one in arguments]
    return [one.replace("$$", "$") for one in arguments[arguments[0] == "serve" :]]


def asked() -> dict[str, list[str]]:
    """All argument lists that are parsed, by a name that says where they are from."""
    lists = {f"flag {one}": ["/m", one] for one in DEAD}
    for name, endpoint in CATALOG.endpoints.items():
        if endpoint.runtime in PARSED:
            server = make_plan(CATALOG, name).server
            lists[f"endpoint {name}"] = server.args
            if server.worker:
                lists[f"endpoint {name}, worker"] = server.worker.args
    for name in PARSED:
        for model in CATALOG.models.values():
            for distributed, leader in ((False, True), (True, True), (True, False)):
                variables = {
                    **VARIABLES,
                    "IS_DISTRIBUTED": distributed,
                    "IS_LEADER": leader,
                    "TOOL_CALL_PARSER": model.tool_call_parser,
                    "REASONING_PARSER": model.reasoning_parser,
                }
                place = f"runtime {name}, {model.name}, {distributed=}, {leader=}"
                lists[place] = fill(CATALOG.runtimes[name], variables, custom_args=["--seed=1"]).args
    return {name: as_vllm_gets_them(arguments) for name, arguments in lists.items()}


@pytest.fixture(scope="module")
def parser(
    cluster: Cluster, make_namespace: Callable[..., str], pod_template: Callable[..., Object]
) -> Parser:
    """One pod of the serving image that parses everything."""
    namespace = make_namespace(level="restricted")
    template = pod_template(
        {"slipway.io/test": "arguments"},
        CODE,
        image=images.reference("vllm-cpu"),
        resources={"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}},
        env=[
            {"name": "ORDER", "value": json.dumps(asked())},
            {"name": "HOME", "value": "/tmp"},
            {"name": "VLLM_NO_USAGE_STATS", "value": "1"},
            {"name": "VLLM_LOGGING_LEVEL", "value": "ERROR"},
        ],
    )
    spec = {**template["spec"], "restartPolicy": "Never"}
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "arguments", "namespace": namespace},
            "spec": spec,
        }
    )
    said = dict(_lines(cluster, namespace))
    return Parser(
        **{key: said.pop(key) for key in ("version", "keys")},
        **{key: set(said.pop(key)) for key in ("flags", "tool", "reasoning")},
        refusals=said,
    )


def _lines(cluster: Cluster, namespace: str) -> list[Any]:
    deadline = time.monotonic() + 240
    phase = ""
    while time.monotonic() < deadline:
        live = cluster.get(api_version="v1", kind="Pod", name="arguments", namespace=namespace)
        phase = (live or {}).get("status", {}).get("phase", "")
        if phase in ("Succeeded", "Failed"):
            log = cluster.logs(namespace=namespace, pod="arguments", tail=2000)
            assert phase == "Succeeded", log[-4000:]
            lines = [line for line in log.splitlines() if line.startswith("SAID ")]
            return [json.loads(line.removeprefix("SAID ")) for line in lines]
        time.sleep(1)
    raise AssertionError(f"the pod that parses does not end: {phase}")


def test_the_sandbox_has_the_version_that_the_catalog_says_is_parsed(parser: Parser) -> None:
    assert parser.version.split("+")[0] == PROGRAM.parsed_version
    assert {"vllm", "vllm-cpu"} <= set(PARSED)


def test_vllm_takes_all_that_the_catalog_renders_for_its_version(parser: Parser) -> None:
    refused = {name: why for name, why in parser.refusals.items() if why and not name.startswith("flag ")}

    assert refused == {}


@pytest.mark.parametrize("argument", DEAD)
def test_the_documents_dead_flags_are_refused_by_vllm_and_before_by_the_catalog(
    parser: Parser, argument: str
) -> None:
    faults = list(version_faults([argument], runtime=CATALOG.runtimes["vllm"], program=PROGRAM))

    assert f"unrecognized arguments: {argument}" in parser.refusals[f"flag {argument}"]
    assert [fault.message.partition(":")[0] for fault in faults] == [flag_of(argument)]


def test_vllm_reads_several_keys_from_a_file(parser: Parser) -> None:
    assert parser.keys == ["sk-old", "sk-new"]


def test_every_rule_of_the_catalog_is_true_for_the_version_that_is_parsed(parser: Parser) -> None:
    runtime = CATALOG.runtimes["vllm"]
    said = {
        rule.flag: not list(version_faults([rule.flag], runtime=runtime, program=PROGRAM))
        for rule in PROGRAM.arguments
    }

    assert said == {flag: flag in parser.flags for flag in said}


def test_every_protected_flag_is_one_that_vllm_has(parser: Parser) -> None:
    assert set(PROGRAM.protected) - parser.flags == set()


def test_vllm_has_the_parsers_that_the_models_name(parser: Parser) -> None:
    models = CATALOG.models.values()

    assert {one.tool_call_parser for one in models if one.tool_call_parser} <= parser.tool
    assert {one.reasoning_parser for one in models if one.reasoning_parser} <= parser.reasoning
