"""What a person who writes catalog files relies on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.catalog.names import LONGEST_OBJECT_NAME, object_name
from slipway.catalog.read import read_catalog, usable
from slipway.errors import CatalogError, UsageError

MINIMUM = {
    "models": {"qwen3-tiny", "qwen3-0.6b"},
    "runtimes": {"vllm-cpu", "vllm"},
    "accelerators": {"cpu", "nvidia"},
    "clusters": {"sandbox"},
}


def test_the_projects_own_catalog_has_no_problem() -> None:
    assert [problem.render() for problem in read_catalog().problems] == []


@pytest.mark.parametrize(("folder", "names"), MINIMUM.items())
def test_the_projects_catalog_holds_what_the_readme_names(folder: str, names: set[str]) -> None:
    assert names <= set(getattr(read_catalog(), folder))


BROKEN = [
    ("replicas: 1\nreplica: 2\n", "replica", "no such key"),
    ("replicas: many\n", "replicas", "valid integer"),
    ("namespace: Models\n", "namespace", "match pattern"),
    ("model: qwen9\n", "model", "no usable record 'qwen9'"),
    ("accelerator: tpu\n", "accelerator", "no usable record 'tpu'"),
    ("cards: 2\n", "cards", "takes no cards"),
    ("context_length: 999999\n", "context_length", "2048 tokens at most"),
    ("source: ftp://host/dir\n", "source", "starts with one of"),
    ("source: s3://models/../etc\n", "source", "looks like"),
]


@pytest.mark.parametrize(("text", "field", "message"), BROKEN)
def test_a_fault_is_named_with_file_line_and_field(
    include: Path, text: str, field: str, message: str
) -> None:
    path = include / "catalog" / "endpoints" / "qwen3-tiny.yaml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith(text.split(":")[0] + ":")]
    path.write_text("\n".join(kept) + "\n" + text)
    expected_line = len(kept) + text.count("\n")

    problems = [problem for problem in read_catalog(include).problems if "qwen3-tiny" in problem.file]

    assert [(problem.line, problem.field) for problem in problems] == [(expected_line, field)]
    assert message in problems[0].message
    assert (
        problems[0]
        .render()
        .startswith(f"include/catalog/endpoints/qwen3-tiny.yaml:{expected_line}: {field}: ")
    )


@pytest.mark.parametrize(
    ("text", "line"), [("name: [qwen3-tiny\nmodel: x\n", 2), ("\tname: x\n", 1), ("- a\n- b\n", 1), ("", 1)]
)
def test_malformed_yaml_is_one_problem_with_its_line(include: Path, text: str, line: int) -> None:
    (include / "catalog" / "models" / "qwen3-tiny.yaml").write_text(text)

    problems = [p for p in read_catalog(include).problems if p.file.endswith("models/qwen3-tiny.yaml")]

    assert len(problems) == 1
    assert abs(problems[0].line - line) <= 1


def test_every_problem_is_found_in_one_run(include: Path, change: Callable[..., None]) -> None:
    change("endpoints/qwen3-tiny", replicas=-1, namespace="UPPER")
    change("models/qwen3-0.6b", size="big")

    fields = {(Path(p.file).stem, p.field) for p in read_catalog(include).problems}

    assert {("qwen3-tiny", "replicas"), ("qwen3-tiny", "namespace"), ("qwen3-0.6b", "size")} <= fields


def test_a_record_must_be_named_like_its_file(include: Path, change: Callable[..., None]) -> None:
    change("runtimes/vllm", name="vllm-new")

    assert "named 'vllm.yaml'" in read_catalog(include).problems[0].message


def test_endpoints_whose_objects_would_meet_are_refused(include: Path) -> None:
    text = (include / "catalog/endpoints/qwen3-0.6b.yaml").read_text()
    (include / "catalog/endpoints/qwen3-0-6b.yaml").write_text(
        text.replace("name: qwen3-0.6b", "name: qwen3-0-6b")
    )

    problems = read_catalog(include).problems

    assert [problem.field for problem in problems] == ["name"]
    assert "would be named like those of endpoint" in problems[0].message


def test_a_broken_endpoint_does_not_hide_the_others(include: Path, change: Callable[..., None]) -> None:
    change("endpoints/qwen3-0.6b", cards=-1)

    catalog = read_catalog(include)

    assert "qwen3-tiny" in catalog.endpoints
    with pytest.raises(CatalogError, match=r"cannot be used \(qwen3-0.6b\).*cards"):
        catalog.endpoint("qwen3-0.6b")
    with pytest.raises(CatalogError, match=r"the catalog cannot be used: include"):
        usable(catalog)


def test_an_unknown_endpoint_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"no such endpoint \(qwen3-tyni\)\. The catalog has: .*qwen3-tiny"):
        read_catalog().endpoint("qwen3-tyni")


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?", fullmatch=True)


@given(NAMES)
def test_object_names_are_always_dns_1035_with_room_for_a_suffix(name: str) -> None:
    made = object_name(name)

    assert len(made) <= LONGEST_OBJECT_NAME + 2
    assert made[0].isalpha() and made[-1].isalnum()
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert object_name(name) == made
