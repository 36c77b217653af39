"""What a person who writes catalog files relies on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.catalog.collisions import RELEASE_SERVICE, claim_name, collisions, object_names
from slipway.catalog.documents import line_of, read_document
from slipway.catalog.names import LONGEST_OBJECT_NAME, object_name
from slipway.catalog.read import FOLDERS, read_catalog, usable
from slipway.catalog.records import Endpoint
from slipway.errors import CatalogError, UsageError
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render

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
    assert "would be named like one of endpoint 'qwen3-0-6b'" in problems[0].message


MEETING: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"name": "a"}, {"name": "a-pods"}, "name"),
    ({"name": "a", "parallel": {"pods": 2}}, {"name": "a-group"}, "name"),
    ({"name": "a"}, {"name": "a-public"}, "name"),
    ({"name": "a"}, {"name": "a-r-0123abcd"}, "name"),
    ({"name": "a", "parallel": {"pods": 2}}, {"name": "a-group-0"}, "name"),
    (
        {"name": "a"},
        {"name": "b", "exposure": {"services": [{"type": "NodePort", "name": "a"}]}},
        "exposure.services.0.name",
    ),
    ({"name": "a", "volume": {"size": "2Gi"}}, {"name": "b", "volume": {"size": "3Gi"}}, "volume"),
    (
        {"name": "a", "volume": {"size": "2Gi", "claim": "shared"}},
        {
            "name": "b",
            "model": "qwen3-0.6b",
            "volume": {"size": "2Gi", "claim": "shared", "access_mode": "ReadOnlyMany"},
        },
        "volume",
    ),
]
APART: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"name": "a", "volume": {"size": "2Gi"}}, {"name": "b", "volume": {"size": "2Gi", "path": "x"}}),
    ({"name": "a"}, {"name": "a-r-0123abcg"}),
    ({"name": "a"}, {"name": "a-0"}),
    ({"name": "a"}, {"name": "a-pods", "namespace": "elsewhere"}),
    ({"name": "a"}, {"name": "a-pods", "cluster": "elsewhere"}),
]


def endpoints(*changes: dict[str, Any]) -> list[Endpoint]:
    base = read_catalog().endpoints["qwen3-tiny"].model_dump()
    return [Endpoint.model_validate({**base, **change}) for change in changes]


@pytest.mark.parametrize(("first", "second", "field"), MEETING)
@pytest.mark.parametrize("turned", [False, True])
def test_objects_of_two_endpoints_never_get_one_name(
    first: dict[str, Any], second: dict[str, Any], field: str, turned: bool
) -> None:
    pair = endpoints(*((second, first) if turned else (first, second)))

    assert [fault.field for _, fault in collisions(pair)] == [field]


@pytest.mark.parametrize(("first", "second"), APART)
def test_endpoints_that_do_not_meet_are_left_alone(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert list(collisions(endpoints(first, second))) == []


@pytest.mark.parametrize("name", sorted(read_catalog().endpoints))
def test_collisions_know_every_service_and_workload_that_is_rendered(name: str) -> None:
    catalog = read_catalog()
    endpoint = catalog.endpoints[name]
    rendered = render(make_plan(catalog, name)).objects()
    named_by_endpoint = {"Service", "StatefulSet", "Deployment", "LeaderWorkerSet"}
    names = {one["metadata"]["name"] for one in rendered if one["kind"] in named_by_endpoint}
    known = {made for _, made in object_names(endpoint)}

    claims = {
        one["metadata"]["name"] for one in rendered if one["kind"] in ("PersistentVolumeClaim", "Dataset")
    }

    assert all(made in known or RELEASE_SERVICE.fullmatch(made) for made in names)
    assert claims - {f"{object_name(name)}-compile-cache"} == {claim_name(endpoint)}


ODD = [
    ("replicas: 1\nreplicas: 2\n", "replicas", "is there twice: first in line"),
    ("env: {A: x, A: y}\n", "env.A", "is there twice"),
    ("labels: !!python/object:os.system {}\n", "labels", "the tag"),
    ("labels: !!set {a, b}\n", "labels", "the tag"),
    ("served_name: 2026-01-01\n", "served_name", "put it in quotes"),
    ("env: {A: 1:30}\n", "env.A", "base of 60"),
    ("memory_utilization: .inf\n", "memory_utilization", "is not a number that can be used"),
    (f"env: {{? {'x' * 2000} : y}}\n", "env", "at most 256 characters"),
    ("env: {? [A] : y}\n", "env", "a key is one scalar"),
    (f"replicas: {'9' * 5000}\n", "replicas", "is not a number that can be used"),
]


@pytest.mark.parametrize(("text", "field", "message"), ODD, ids=[field for _, field, _ in ODD])
def test_what_yaml_would_pass_over_in_silence_is_a_problem(
    include: Path, text: str, field: str, message: str
) -> None:
    path = include / "catalog" / "endpoints" / "qwen3-tiny.yaml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith(text.split(":")[0] + ":")]
    path.write_text("\n".join(kept) + "\n" + text)

    problems = [problem for problem in read_catalog(include).problems if "qwen3-tiny" in problem.file]

    assert [(problem.line, problem.field) for problem in problems] == [(len(kept) + text.count("\n"), field)]
    assert message in problems[0].message


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 8)}]\n" for i in range(12)
)
UNREADABLE = {
    "bomb": (BOMB.encode(), "grow without bounds"),
    "circle": (b"labels: &a {b: *a}\n", "grow without bounds"),
    "deep": (b"args: " + b"[" * 200_000, "nested deeper"),
    "deep and small": (b"args: " + b"[" * 2000 + b"]" * 2000, "grow without bounds"),
    "large": (b"name: x\n#" + b" " * 2**20, "at most 1048576"),
    "bytes": (b"name: \xff\xfe\n", "is not UTF-8"),
    "nul": (b"name: a\x00b\n", "not YAML"),
    "two documents": (b"name: a\n---\nname: b\n", "not YAML"),
    "surrogate": (b'name: "\\ud800"\n', "not YAML"),
    "no date": (b"name: 2026-99-99\n", "put it in quotes"),
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_hostile_file_is_one_problem_and_nothing_else(include: Path, content: bytes, message: str) -> None:
    (include / "catalog" / "models" / "x.yaml").write_bytes(content)

    problems = [problem for problem in read_catalog(include).problems if problem.file.endswith("x.yaml")]

    assert len(problems) == 1 and message in problems[0].message
    assert "\n" not in problems[0].render()


def test_aliases_within_bounds_may_be_used(include: Path) -> None:
    path = include / "catalog" / "endpoints" / "qwen3-tiny.yaml"
    text = "labels: &both {team: a}\nplacement: {node_selector: {<<: *both, zone: b}}\nannotations: {<<: [*both]}\n"
    path.write_text(path.read_text() + text)

    catalog = read_catalog(include)

    assert catalog.problems == []
    endpoint = catalog.endpoints["qwen3-tiny"]
    assert (endpoint.labels, endpoint.annotations) == ({"team": "a"}, {"team": "a"})
    assert endpoint.placement.node_selector == {"team": "a", "zone": "b"}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
YAML = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=YAML, flow=st.booleans())
def test_files_are_read_as_yaml_says(tmp_path: Path, data: Any, flow: bool) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(data, default_flow_style=flow, allow_unicode=True), "utf-8", newline="")

    document = read_document(path)

    assert (document.data, document.mistakes) == (yaml.safe_load(path.read_bytes()), [])


@pytest.mark.parametrize(
    "text",
    [
        *("a: 0x1F", "a: 0o17", "a: 017", "a: 1_000", "a: 1e3", "a: 1.5e+3", "a: on", "a: No", "a: ~", "a:"),
        *("a: '1'", "a: .", "a: !!str 5", "a: |\n  x\n  y\n"),
        *("b: &x {c: 1}\na: {<<: *x, c: 2}", "b: &x {c: 1}\na: {<<: [{c: 3}, *x]}"),
    ],
)
def test_scalars_and_merges_mean_what_they_mean_elsewhere(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)

    assert read_document(path).data == yaml.safe_load(text)


def test_what_was_probably_meant_as_a_record_is_not_passed_over(include: Path) -> None:
    catalog = include / "catalog"
    (catalog / "models" / "x.yml").write_text("name: x\n")
    (catalog / "models" / "more").mkdir()
    (catalog / "models" / "folder.yaml").mkdir()
    (catalog / "model").mkdir()
    (catalog / "runtimes" / "circle.yaml").symlink_to("circle.yaml")
    (catalog / "models" / ".x.yaml.swp").write_text("")
    (catalog / "models" / "README.md").write_text("")
    (catalog / "workloads").rename(catalog / "gone")
    (catalog / "workloads").symlink_to("workloads")

    found = {(one.file, one.message.split(":")[0]) for one in read_catalog(include).problems if one.line == 1}

    assert {
        ("include/catalog/models/x.yml", "is not read"),
        ("include/catalog/models/more", "is not read"),
        ("include/catalog/models/folder.yaml", "is not a file"),
        ("include/catalog/model", "no such kind of record; the folders are " + ", ".join(FOLDERS)),
        ("include/catalog/runtimes/circle.yaml", "cannot be read"),
        ("include/catalog/workloads", "cannot be read"),
    } <= found
    assert not any("README" in file or "swp" in file for file, _ in found)


def test_a_directory_without_a_catalog_is_a_problem(tmp_path: Path) -> None:
    assert [problem.file for problem in read_catalog(tmp_path).problems] == [f"{tmp_path.name}/catalog"]


def test_a_record_that_others_lean_on_is_named_as_the_cause(
    include: Path, change: Callable[..., None]
) -> None:
    change("models/qwen3-tiny", size="big")

    messages = {problem.field: problem.message for problem in read_catalog(include).problems}

    assert messages["model"] == "the record 'qwen3-tiny' in catalog/models has a problem of its own"


LINES = "a:\n  b.c:\n    - d: 1\n    - e: 2\n"


@pytest.mark.parametrize(
    ("field", "line"),
    [("a", 1), ("a.b.c", 2), ("a.b.c.1", 4), ("a.b.c.1.e", 4), ("a.b.c.0.x", 3), ("x", 1), ("a.b.c.7", 2)],
)
def test_a_field_leads_to_its_line_also_with_dots_in_keys(field: str, line: int) -> None:
    assert line_of(LINES, field) == line


def test_a_broken_endpoint_does_not_hide_the_others(include: Path, change: Callable[..., None]) -> None:
    change("endpoints/qwen3-0.6b", cards=-1)

    catalog = read_catalog(include)

    assert "qwen3-tiny" in catalog.endpoints
    with pytest.raises(CatalogError, match=r"cannot be used \(qwen3-0.6b\).*cards"):
        catalog.endpoint("qwen3-0.6b")
    with pytest.raises(CatalogError, match=r"the catalog cannot be used: include"):
        usable(catalog)


def test_an_unknown_endpoint_leads_to_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no such endpoint \(qwen3-tyni\)\. Did you mean qwen3-tiny\?"):
        read_catalog().endpoint("qwen3-tyni")
    with pytest.raises(UsageError, match=r"no such endpoint \(x\)\. The catalog has: [a-z0-9., …-]+$"):
        read_catalog().endpoint("x")


NAMES = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?", fullmatch=True)


@given(NAMES)
def test_object_names_are_always_dns_1035_with_room_for_a_suffix(name: str) -> None:
    made = object_name(name)

    assert len(made) <= LONGEST_OBJECT_NAME + 2
    assert made[0].isalpha() and made[-1].isalnum()
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert object_name(name) == made
