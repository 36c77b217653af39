"""What a person relies on who takes a runtime to Hydra: Go makes of it what Slipway does, or a line says why not."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.catalog.images import image_tag
from slipway.catalog.read import include_directory, read_catalog
from slipway.catalog.records import Runtime
from slipway.hydra import Exported, HydraError, export_runtime, import_runtimes
from slipway.hydra.tree import VARIABLES, Kind
from slipway.manifests.arguments import fill
from tests.unit.test_hydra.hydra_known import DOCUMENTS, Go

FIXED = {
    "CONTEXT_LENGTH": "4096",
    "NODES": "2",
    "MEMORY_UTILIZATION": "0.9",
    "TOOL_CALL_PARSER": "hermes",
    "REASONING_PARSER": "qwen3",
}
# No shell has a meaning for any of these, so that quoting changes nothing.
PLAIN = st.text(alphabet="aB3-_./:=,@%+", min_size=1, max_size=8)
VALUES = {
    Kind.TEXT: PLAIN,
    Kind.NUMBER: st.integers(0, 9),
    Kind.TRUTH: st.booleans(),
    Kind.LIST: st.lists(
        PLAIN.map("--a{}".format), max_size=3, unique_by=lambda one: one.split("=")[0].lower()
    ),
}
variables = st.fixed_dictionaries({name: VALUES[kind] for name, kind in VARIABLES.items()})


def runtime(**changed: Any) -> Runtime:
    data = {"name": "own", "task": "chat", "images": {"cpu": "registry.example.com/own/own:v1"}, **changed}
    return Runtime.model_validate(data)


def container(exported: Exported) -> dict[str, Any]:
    template = yaml.safe_load(exported.config_map["data"]["config.yaml"])["templates"][0]
    made: dict[str, Any] = template.get("podTemplate", {}).get("containerTemplate", {})
    return made


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> list[Runtime]:
    """The runtimes of the documents."""
    folder = tmp_path_factory.mktemp("runtimes")
    files = [DOCUMENTS / name for name in ("config.yaml", "agent.yaml", "full.yaml")]
    return [one.runtime for one in import_runtimes(files, into=folder)]


def test_a_runtime_that_went_to_hydra_and_back_is_the_same(documented: list[Runtime], tmp_path: Path) -> None:
    files = []
    for number, one in enumerate(documented):
        files.append(tmp_path / f"{number}.yaml")
        files[-1].write_text(export_runtime(one).to_yaml(), encoding="utf-8")
    (tmp_path / "second").mkdir()

    assert [one.runtime for one in import_runtimes(files, into=tmp_path / "second")] == documented


def test_the_config_map_is_the_one_that_hydra_reads() -> None:
    exported = export_runtime(runtime(display_name={"zhCN": "自定义", "enUS": "Own"}), namespace="hydra")

    assert exported.config_map["kind"] == "ConfigMap"
    assert exported.config_map["metadata"] == {"name": "hydra-runtime-template", "namespace": "hydra"}
    assert yaml.safe_load(exported.config_map["data"]["config.yaml"]) == {
        "templates": [{"runtime": "own", "runtimeZH": "自定义"}]
    }
    assert list(yaml.safe_load_all(exported.to_yaml())) == [exported.config_map, exported.agent]


@settings(deadline=None)
@given(values=variables)
def test_go_makes_of_an_exported_runtime_what_slipway_makes_of_it(
    go: Go, documented: list[Runtime], values: dict[str, Any]
) -> None:
    for one in documented:
        made = container(export_runtime(one))
        ours = fill(one, values, custom_args=values["CUSTOM_ARGS"])
        custom = [] if one.in_shell else values["CUSTOM_ARGS"]
        theirs = [go(text, values)["text"] for text in made.get("argsTemplate", [])]

        assert [go(text, values)["text"] for text in made.get("commandTemplate", [])] == ours.command
        assert [text for text in theirs if text] + custom == ours.args


@pytest.mark.parametrize("name", sorted(read_catalog().runtimes))
def test_every_runtime_of_the_catalog_can_be_exported(go: Go, name: str) -> None:
    one = read_catalog().runtimes[name]
    made = container(export_runtime(one, fixed=FIXED, registry="registry.example.com/slipway"))
    values = {
        **{name: "a" for name, kind in VARIABLES.items() if kind is Kind.TEXT},
        **{name: 2 for name, kind in VARIABLES.items() if kind is Kind.NUMBER},
        **{name: True for name, kind in VARIABLES.items() if kind is Kind.TRUTH},
    }
    ours = fill(
        one,
        {**values, **FIXED, "CONTEXT_LENGTH": 4096, "NODES": 2},
        custom_args=["--b=c"],
    )
    theirs = [go(text, {**values, "CUSTOM_ARGS": ["--b=c"]}) for text in made["argsTemplate"]]

    if one.in_shell:
        assert [shlex.split(made["text"]) for made in theirs] == [shlex.split(text) for text in ours.args]
    else:
        assert [made["text"] for made in theirs if made["text"]] + ["--b=c"] == ours.args


def test_the_environment_and_every_image_go_to_the_agent() -> None:
    images = {
        "nvidia": "own/own:v1",
        "ascend": "registry.example.com:5000/a/b/own:v2@sha256:" + "0" * 64,
        "hygon": "own",
    }
    items = export_runtime(runtime(images=images, env={"A": "b"})).agent["deployment_templates"]

    assert [item["match_gpu_types"] for item in items] == [
        ["nvidia-gpu", "nvidia-vgpu"],
        ["ascend-gpu-910", "ascend-gpu-910b"],
        ["hygon"],
    ]
    assert [item["container_template"]["image"] for item in items] == [
        {"registry": "docker.io", "repository": "own/own", "tag": "v1"},
        {"registry": "registry.example.com:5000", "repository": "a/b/own", "tag": "v2@sha256:" + "0" * 64},
        {"registry": "docker.io", "repository": "library/own", "tag": "latest"},
    ]
    assert all(item["container_template"]["env"] == [{"name": "A", "value": "b"}] for item in items)


def test_an_image_that_is_built_here_needs_a_registry() -> None:
    built = runtime(images={"cpu": {"built": "vllm-cpu"}})
    with pytest.raises(HydraError, match="Push it to a registry"):
        export_runtime(built)

    image = export_runtime(built, registry="registry.example.com/slipway").agent["deployment_templates"][0]
    package = Path(__file__).resolve().parents[3] / "plugins" / "slipway"
    assert image["container_template"]["image"] == {
        "registry": "registry.example.com",
        "repository": "slipway/vllm-cpu",
        "tag": image_tag("vllm-cpu", include=include_directory(), package=package),
    }


def test_what_hydra_cannot_be_told_is_in_the_notes_and_in_the_file() -> None:
    shell = runtime(
        command=["sh", "-c"],
        args=["serve {{ MODEL_NAME }}{% for a in CUSTOM_ARGS %} {{ a }}{% endfor %}"],
        health_path="/ready",
        startup_seconds=1200,
        display_name={"enUS": "Own"},
        images={"hygon": "registry.example.com/own:v1"},
    )
    exported = export_runtime(shell)

    for expected in (
        "Hydra does not quote for the shell what Slipway quotes: CUSTOM_ARGS, MODEL_NAME.",
        "Hydra has nothing for health_path (/ready).",
        "Hydra has nothing for startup_seconds (1200).",
        "Hydra has nothing for display_name (enUS).",
        "Hydra brings no GPU type for hygon: make it in hydra-gpu-configs under that name.",
    ):
        assert expected in exported.notes
        assert expected in exported.to_yaml().replace("\n#  ", "")


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        (
            {"args": ["--len={{ CONTEXT_LENGTH }}", "--nodes={{ NODES }}"]},
            {},
            "Hydra has no variable CONTEXT_LENGTH, NODES (runtime own). Give each a fixed value",
        ),
        (
            {"args": ["--len={{ CONTEXT_LENGTH }}"]},
            {"fixed": {"CONTEXT_LENGTH": "long"}},
            "CONTEXT_LENGTH=long cannot be fixed",
        ),
        ({}, {"fixed": {"MODEL_NAME": "a"}}, "MODEL_NAME=a cannot be fixed"),
        (
            {"args": ["--a", "\n{{ MODEL_NAME | upper }}"]},
            {},
            "'filter' in a template (runtime own, args.1, line 2)",
        ),
        ({"command": ["{% set a = 1 %}"]}, {}, "runtime own, command.0, line 1"),
        ({"args": ["{{ MODEL_NAME | nothing }}"]}, {}, "'filter' in a template"),
        ({"args": ["{% if %}"]}, {}, "not a Jinja template (runtime own, args.0, line 1)"),
        (
            {"port": 9000},
            {},
            "port 9000 has no counterpart (runtime own): Hydra's MODEL_PORT is always 8000, and",
        ),
        ({"images": {"cpu": "a.io/b@sha256:" + "0" * 64}}, {}, "an image without a tag"),
        (
            {
                "command": ["sh", "-c"],
                "args": ["'{{ MODEL_NAME }}' {% for a in CUSTOM_ARGS %}{{ a }}{% endfor %}"],
            },
            {},
            "a value inside single quotes in a shell string (runtime own, args.0, line 1)",
        ),
    ],
)
def test_what_hydra_does_not_have_is_refused(
    changed: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(HydraError) as caught:
        export_runtime(runtime(**changed), **options)

    assert message in str(caught.value) and "\n" not in str(caught.value)
