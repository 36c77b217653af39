"""What a person who runs `slipway validate` relies on: every problem of every record in one run, at its line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.catalog.read import read_catalog
from slipway.cli import main
from slipway.errors import CatalogError
from slipway.manifests.planning import make_plan
from slipway.manifests.validation import validate_catalog

# What does not fit together, and the field at whose line it is told: rules of devices, publication, weights, plan.
MISFITS: list[tuple[str, str, str]] = [
    ("cards: 2\n", "cards", "card"),
    ("context_length: 999999\n", "context_length", "2048 tokens at most"),
    (
        "volume:\n  size: 1Gi\n  claim: own\n  path: a\n  static:\n    source: http://host/path\n",
        "volume.static.source",
        "a static volume is oss:// or nfs://",
    ),
    ("volume: {size: 1Mi, claim: own}\n", "volume.size", "does not hold qwen3-tiny"),
    ("service_monitor: true\n", "service_monitor", "says nothing of monitoring"),
    ("autoscaling:\n  maximum: 2\n  by: keda\n", "autoscaling.by", "keda asks Prometheus"),
    (
        "exposure:\n  services:\n    - {type: NodePort}\n    - {type: LoadBalancer}\n",
        "exposure.services.1",
        "says nothing of load_balancers",
    ),
]


@pytest.fixture
def broken(include: Path, change: Callable[..., None]) -> Callable[[str], int]:
    """Put text in the place of a key of qwen3-tiny's record, in a sandbox without load balancers and monitoring.

    Returns the record's last line.
    """
    change("clusters/sandbox", load_balancers=None, monitoring=None)
    (include / "catalog" / "endpoints" / "qwen3-tiny-by-load.yaml").unlink()

    def apply(text: str) -> int:
        path = include / "catalog" / "endpoints" / "qwen3-tiny.yaml"
        key = text.split(":")[0] + ":"
        kept = [line for line in path.read_text().splitlines() if not line.startswith(key)]
        path.write_text("\n".join(kept) + "\n" + text)
        return len(kept) + text.count("\n")

    return apply


@pytest.mark.parametrize(("text", "field", "message"), MISFITS, ids=[field for _, field, _ in MISFITS])
def test_records_that_do_not_fit_are_told_with_file_line_and_field(
    include: Path, broken: Callable[[str], int], text: str, field: str, message: str
) -> None:
    line = broken(text)

    problems = validate_catalog(include).problems

    file = "include/catalog/endpoints/qwen3-tiny.yaml"
    assert [(one.file, one.line, one.field) for one in problems if message in one.message] == [
        (file, line, field)
    ]
    assert {one.file for one in problems} == {file}


@pytest.mark.parametrize("text", [text for text, _, _ in MISFITS], ids=[field for _, field, _ in MISFITS])
def test_what_validate_refuses_no_plan_is_made_of(
    include: Path, broken: Callable[[str], int], text: str
) -> None:
    broken(text)

    with pytest.raises(CatalogError):
        make_plan(read_catalog(include), "qwen3-tiny", include=include)


def test_what_validate_lets_pass_can_be_planned(include: Path) -> None:
    assert validate_catalog(include).problems == []
    catalog = read_catalog(include)
    assert [make_plan(catalog, name, include=include).endpoint for name in catalog.endpoints] == list(
        catalog.endpoints
    )


def test_every_problem_of_every_record_is_told_in_one_run(include: Path, change: Callable[..., None]) -> None:
    change("models/qwen3-0.6b", context_length=-1)
    change("runtimes/vllm", port=1, args=5)
    change("clusters/sandbox", monitoring=None)
    change("endpoints/qwen3-tiny", cards=1, context_length=999999, service_monitor=True)
    change("endpoints/qwen3-0.6b", replicas=-1, namespace="UPPER")

    found = {(Path(one.file).stem, one.field) for one in validate_catalog(include).problems}

    assert {
        ("qwen3-0.6b", "context_length"),
        ("vllm", "port"),
        ("vllm", "args"),
        ("qwen3-tiny", "cards"),
        ("qwen3-tiny", "context_length"),
        ("qwen3-tiny", "service_monitor"),
        ("qwen3-0.6b", "replicas"),
        ("qwen3-0.6b", "namespace"),
    } <= found


def test_causes_come_before_the_endpoints_that_lean_on_them(
    include: Path, change: Callable[..., None]
) -> None:
    change("models/qwen3-tiny", size="big")

    files = [one.file for one in validate_catalog(include).problems]

    assert files[0] == "include/catalog/models/qwen3-tiny.yaml"
    assert {Path(file).parent.name for file in files[1:]} == {"endpoints"}


def test_a_cluster_that_cannot_be_set_up_is_a_problem_of_its_record(
    include: Path, change: Callable[..., None]
) -> None:
    route = {"name": "models", "namespace": "models", "service": "gateway", "port": 80}
    change("clusters/sandbox", gateway=None, setup={"routes": [route]})

    problems = validate_catalog(include).problems

    assert "include/catalog/clusters/sandbox.yaml" in {one.file for one in problems}
    assert any("gateway" in one.message for one in problems)


def test_validate_and_render_say_the_same_of_an_endpoint(
    include: Path, change: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    change("endpoints/qwen3-tiny", cards=1, context_length=999999)

    said = []
    for arguments in (["validate"], ["render", "qwen3-tiny"]):
        assert main(["--include", str(include), *arguments]) == 2
        lines = capsys.readouterr().err.splitlines()
        said.append([line for line in lines if line.startswith("include/catalog/endpoints/qwen3-tiny.yaml:")])

    assert said[0] == said[1]
    assert {line.split(": ")[1] for line in said[0]} >= {"cards", "context_length"}


def test_each_problem_is_one_clickable_line_and_the_last_says_how_many(
    include: Path, change: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    change("endpoints/qwen3-tiny", cards=1, env={"A\nB": "x"})

    assert main(["--include", str(include), "validate"]) == 2

    *lines, last = capsys.readouterr().err.splitlines()
    assert all(re.match(r"include/catalog/\w+/[\w.-]+\.yaml:\d+: ", line) for line in lines)
    assert last == f"{len(lines)} problems in 1 file" or (last, len(lines)) == ("1 problem in 1 file", 1)


def test_a_clean_catalog_is_summed_up_in_the_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    catalog = read_catalog()

    assert main(["validate"]) == 0

    *notes, last = capsys.readouterr().out.splitlines()
    assert last.endswith(f"{len(catalog.endpoints)} endpoints: no problem")
    assert all(note.startswith("note: ") for note in notes)


def test_a_rule_that_fails_itself_is_a_problem_and_no_traceback(
    include: Path, change: Callable[..., None]
) -> None:
    change("runtimes/vllm-cpu", args=["--model={{ 1 // 0 }}"])

    problems = [one for one in validate_catalog(include).problems if "endpoints" in one.file]

    assert problems and all("\n" not in one.render() for one in problems)


def test_counts_name_every_folder(include: Path) -> None:
    counts: dict[str, Any] = validate_catalog(include).counts

    assert {folder: bool(number) for folder, number in counts.items()} == dict.fromkeys(counts, True)
