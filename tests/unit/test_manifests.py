"""What a deployment relies on when a plan is made and rendered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.catalog.names import RELEASE_LABEL
from slipway.catalog.quantities import quantity_bytes
from slipway.catalog.read import read_catalog
from slipway.errors import SlipwayError, UsageError
from slipway.manifests.arguments import merge_arguments
from slipway.manifests.overrides import Overrides, parse_overrides
from slipway.manifests.plan import Plan
from slipway.manifests.planning import make_plan
from slipway.manifests.render import Rendered, render, render_one, service_url

CATALOG = read_catalog()
PLAN = make_plan(CATALOG, "qwen3-tiny")


def objects(plan: Plan, kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in render(plan).objects() if manifest["kind"] == kind]


@pytest.mark.parametrize("name", sorted(CATALOG.endpoints))
def test_the_same_plan_gives_the_same_bytes(name: str) -> None:
    first, second = (render(make_plan(read_catalog(), name)) for _ in range(2))

    assert first.to_bytes() == second.to_bytes()
    assert Rendered.from_bytes(first.to_bytes()) == first


def test_only_pods_of_the_release_are_behind_its_services() -> None:
    rendered = render(PLAN)
    pods = objects(PLAN, "StatefulSet")[0]["spec"]["template"]["metadata"]["labels"]
    selectors = {m["metadata"]["name"]: m["spec"]["selector"] for m in objects(PLAN, "Service")}

    assert pods[RELEASE_LABEL] == rendered.release
    assert selectors["qwen3-tiny"][RELEASE_LABEL] == rendered.release
    assert selectors[f"qwen3-tiny-r-{rendered.release[:8]}"] == selectors["qwen3-tiny"]
    assert all(selector.items() <= pods.items() for selector in selectors.values())


def test_a_changed_plan_is_another_release_and_an_unchanged_one_is_not() -> None:
    changed = make_plan(CATALOG, "qwen3-tiny", Overrides(args=["--max-num-seqs=4"]))

    assert render(changed).release != render(PLAN).release
    assert render(make_plan(CATALOG, "qwen3-tiny", Overrides())).release == render(PLAN).release


def test_the_published_service_moves_in_a_stage_of_its_own() -> None:
    stages = render(PLAN).stages

    assert [m["metadata"]["name"] for m in stages["publication"]] == ["qwen3-tiny"]
    assert [m["kind"] for m in stages["storage"]] == ["PersistentVolumeClaim"]
    assert "StatefulSet" in {m["kind"] for m in stages["workload"]}


def test_serving_pods_meet_pod_security_restricted_and_know_no_service_links() -> None:
    pod = objects(PLAN, "StatefulSet")[0]["spec"]["template"]["spec"]
    container = pod["containers"][0]["securityContext"]

    assert pod["enableServiceLinks"] is False and pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"]
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_api_key_is_a_reference_and_never_an_argument() -> None:
    container = objects(PLAN, "StatefulSet")[0]["spec"]["template"]["spec"]["containers"][0]
    key = next(entry for entry in container["env"] if entry["name"] == "VLLM_API_KEY")

    assert key["valueFrom"] == {"secretKeyRef": {"name": "endpoint-api-key", "key": "api-key"}}
    assert not any("api-key" in argument for argument in container["args"])


def test_cards_are_asked_for_as_requests_and_limits() -> None:
    container = objects(make_plan(CATALOG, "qwen3-0.6b"), "StatefulSet")[0]["spec"]["template"]["spec"][
        "containers"
    ][0]

    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["resources"]["requests"]["nvidia.com/gpu"] == "1"


REFUSED = [
    ({"repicas": 2}, r"no such override \(repicas\)\. Overrides are: image, args, replicas"),
    ({"replicas": -1}, r"\(replicas\): Input should be greater than or equal to 0"),
    ({"args": ["--port=1"]}, r"may not set this flag \(--port\)"),
    ({"args": ["--Trust_Remote_Code"]}, r"may not set this flag \(--trust-remote-code\)"),
    ({"args": ["--api_key=x"]}, r"may not set this flag \(--api-key\)"),
    ({"args": ["rm -rf /"]}, r"is not a flag"),
    ({"image": "docker.io/evil/image:1"}, r"cluster sandbox allows images from: localhost/slipway/"),
    ({"image": "localhost/slipway-evil/x:1"}, r"the image may not be used here"),
    ({"image": "not an image"}, r"\(image\): String should match pattern"),
    ({"context_length": 4096}, r"was made for 2048 tokens at most"),
    ({"source": "file:///etc"}, r"\(source\): a source starts with one of"),
]


@pytest.mark.parametrize(("overrides", "message"), REFUSED)
def test_overrides_that_would_be_dangerous_or_wrong_are_refused(
    overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        make_plan(CATALOG, "qwen3-tiny", parse_overrides(overrides))


def test_overrides_change_what_they_name() -> None:
    plan = make_plan(
        CATALOG,
        "qwen3-tiny",
        parse_overrides(
            {
                "image": "localhost/slipway/vllm-cpu:other",
                "args": ["--max-num-seqs=2", "--seed=3"],
                "replicas": 2,
                "context_length": 512,
                "source": "s3://models/other",
                "revision": "v2",
            }
        ),
    )

    assert plan.server.image == "localhost/slipway/vllm-cpu:other"
    assert {"--max-num-seqs=2", "--seed=3", "--max-model-len=512"} <= set(plan.server.args)
    assert "--max-num-seqs=8" not in plan.server.args
    assert (plan.replicas, plan.weights.source, plan.weights.revision) == (2, "s3://models/other", "v2")


def test_another_source_or_revision_is_another_directory() -> None:
    asked: list[dict[str, Any]] = [{}, {"revision": "v2"}, {"source": "s3://models/b"}]
    paths = {make_plan(CATALOG, "qwen3-tiny", parse_overrides(data)).weights.path for data in asked}

    assert len(paths) == 3
    assert all(path.startswith("qwen3-tiny/") for path in paths)


def test_a_cluster_without_an_object_store_takes_no_s3_source(
    include: Path, change: Callable[..., None]
) -> None:
    change("clusters/sandbox", object_store=None)

    with pytest.raises(UsageError, match="names no object_store"):
        make_plan(read_catalog(include), "qwen3-tiny", include=include)


def test_an_unknown_variable_of_a_runtime_is_named(include: Path, change: Callable[..., None]) -> None:
    change("runtimes/vllm-cpu", args=["--model={{ MODEL_PAHT }}"])

    with pytest.raises(UsageError, match=r"runtime vllm-cpu.*'MODEL_PAHT' is undefined.*MODEL_PATH"):
        make_plan(read_catalog(include), "qwen3-tiny", include=include)


def test_a_template_with_an_unknown_value_is_an_error_and_not_an_empty_string(include: Path) -> None:
    (include / "templates" / "pvc.yaml.j2").write_text("kind: {{ plan.no_such }}\n")

    with pytest.raises(SlipwayError, match=r"include/templates/pvc\.yaml\.j2"):
        render(PLAN, include=include)


HOSTILE = st.text(min_size=1, max_size=200) | st.sampled_from(
    ['"', "'", "\n- evil: true", "{{ 7*7 }}", "{% raw %}", "!!python/object:os.system", "a: b", "x" * 10_000]
)


@settings(deadline=None)
@given(value=HOSTILE)
def test_no_value_breaks_out_of_its_field(value: str) -> None:
    server = PLAN.server.model_copy(update={"args": [value], "env": {"A": value}, "image": value})
    plan = PLAN.model_copy(update={"server": server})

    manifest = render_one("statefulset.yaml.j2", plan=plan, release="r")

    container = manifest["spec"]["template"]["spec"]["containers"][0]
    assert (container["args"], container["image"]) == ([value], value)
    assert container["env"][0] == {"name": "A", "value": value}
    assert set(manifest["spec"]["template"]["spec"]) == set(
        objects(PLAN, "StatefulSet")[0]["spec"]["template"]["spec"]
    )


def test_the_service_url_is_the_one_that_pods_use() -> None:
    assert service_url(PLAN, release=None) == "http://qwen3-tiny.models.svc:8000"


@pytest.mark.parametrize(
    ("text", "number"),
    [("16Mi", 16 * 2**20), ("1.5G", 1_500_000_000), ("7", 7), ("2Ti", 2 * 2**40), ("3k", 3000)],
)
def test_quantities_are_read_as_kubernetes_reads_them(text: str, number: int) -> None:
    assert quantity_bytes(text) == number


def test_a_later_flag_takes_the_place_of_an_earlier_one() -> None:
    assert merge_arguments(["--a=1", "--b"], ["--a=2"], ["--c_d=3", "--c-d=4"]) == ["--a=2", "--b", "--c-d=4"]
