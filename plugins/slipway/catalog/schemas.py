"""JSON Schemas of the records, so that an editor completes keys and marks mistakes while a record is written."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slipway.catalog.read import FOLDERS
from slipway.catalog.records import Record

# What yaml-language-server supports (README of 1.19: "JSON Schema 7 and below").
DIALECT = "http://json-schema.org/draft-07/schema#"

_ATTRIBUTES = re.compile(r"^Attributes:\n((?:(?:    .*)?\n?)*)", re.MULTILINE)
_ATTRIBUTE = re.compile(r"^    (\w[\w, ]*): ", re.MULTILINE)


def schema_of(kind: type[Record]) -> dict[str, Any]:
    """The JSON Schema of a kind of record, the explanations of its fields taken from the code."""
    schema = kind.model_json_schema(ref_template="#/definitions/{model}")
    definitions = schema.pop("$defs", {})
    for record in _records(kind):
        part = schema if record is kind else definitions[record.__name__]
        _explain(part, inspect.getdoc(record) or "")
        part["properties"] = {name: _aside(one) for name, one in part["properties"].items()}
    return {"$schema": DIALECT, **schema, **({"definitions": definitions} if definitions else {})}


def schema_texts() -> dict[str, str]:
    """The schema of each folder of the catalog as the text of a file, by file name."""
    return {
        f"{folder}.schema.json": json.dumps(schema_of(kind), indent=2, ensure_ascii=False) + "\n"
        for folder, kind in FOLDERS.items()
    }


def write_schemas(directory: Path) -> list[Path]:
    """Write all schemas into a directory, which is made where it is not there.

    Returns:
        The files, those that were current already included.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in schema_texts().items():
        path = directory / name
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _records(kind: type[Record]) -> Iterator[type[Record]]:
    """A record and all records that are fields of it, at any depth."""
    waiting, seen = [kind], {kind}
    while waiting:
        record = waiting.pop()
        yield record
        for field in record.model_fields.values():
            found = set(_inside(field.annotation)) - seen
            seen |= found
            waiting += sorted(found, key=lambda one: one.__name__)


def _inside(annotation: Any) -> Iterator[type[Record]]:
    if isinstance(annotation, type) and issubclass(annotation, Record):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _inside(part)


def _explain(part: dict[str, Any], text: str) -> None:
    """Split a docstring: its head describes the record, its attributes each a property."""
    found = _ATTRIBUTES.search(text)
    part["description"] = _line(text[: found.start()] if found else text)
    pieces = _ATTRIBUTE.split(found[1])[1:] if found else []
    for names, description in zip(pieces[::2], pieces[1::2], strict=True):
        for name in names.split(", "):
            if name in part.get("properties", {}):
                part["properties"][name]["description"] = _line(description)


def _aside(part: dict[str, Any]) -> dict[str, Any]:
    """Keep what stands beside a reference: in draft 7 nothing else counts in an object that has one."""
    if "$ref" not in part or len(part) == 1:
        return part
    return {"allOf": [{"$ref": part["$ref"]}], **{key: value for key, value in part.items() if key != "$ref"}}


def _line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
