"""What a person whose editor checks records relies on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from slipway.catalog.read import FOLDERS, include_directory
from slipway.catalog.records import Record
from slipway.catalog.schemas import schema_of, schema_texts
from slipway.cli import main

RECORDS = sorted((include_directory() / "catalog").glob("*/*.yaml"))


def schema(folder: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(schema_texts()[f"{folder}.schema.json"])
    return made


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_schemas_that_are_kept_are_those_of_the_code(folder: str) -> None:
    kept = include_directory() / "schemas" / f"{folder}.schema.json"

    assert kept.read_text(encoding="utf-8") == schema_texts()[kept.name], (
        "run: slipway schemas include/schemas"
    )


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_record_of_the_catalog_is_right_by_its_schema(path: Path) -> None:
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), schema(path.parent.name))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"replica": 1}, []),
        ({"replicas": -1}, ["replicas"]),
        ({"namespace": "UPPER"}, ["namespace"]),
        ({"volume": {"size": "much"}}, ["volume", "size"]),
        ({"resources": {"cpu": "1", "memory": "1Gi", "gpu": "1"}}, ["resources"]),
    ],
)
def test_an_editor_marks_what_validate_refuses(change: dict[str, Any], path: list[str]) -> None:
    record = yaml.safe_load((include_directory() / "catalog/endpoints/qwen3-tiny.yaml").read_text())

    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate({**record, **change}, schema("endpoints"))

    assert list(refused.value.path) == path


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_schema_is_one_and_explains_what_the_code_explains(folder: str) -> None:
    made = schema(folder)

    jsonschema.Draft7Validator.check_schema(made)
    parts = [made, *made.get("definitions", {}).values()]
    assert all("Attributes:" not in part.get("description", "") for part in parts)
    assert all(part["description"] for part in parts if "properties" in part)


def test_explanations_of_fields_reach_the_editor() -> None:
    class Inner(Record):
        """Something within."""

        size: int

    class Outer(Record):
        """A record.

        More of it.

        Attributes:
            first, second: two of them: ``both``
                over two lines.
            inner: within.
        """

        first: int = 1
        second: int = 2
        third: int = 3
        inner: Inner

    made = schema_of(Outer)

    described = {name: part.get("description") for name, part in made["properties"].items()}
    both = "two of them: `both` over two lines."
    assert described == {"first": both, "second": both, "third": None, "inner": "within."}
    assert made["description"] == "A record. More of it."
    assert made["definitions"]["Inner"]["description"] == "Something within."


def test_the_command_writes_a_schema_for_each_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schemas", str(tmp_path / "new")]) == 0

    files = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert files == sorted(f"{folder}.schema.json" for folder in FOLDERS)
    assert len(capsys.readouterr().out.splitlines()) == len(FOLDERS)


def test_a_directory_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")

    assert main(["schemas", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("slipway: the schemas cannot be written")
