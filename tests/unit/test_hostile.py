"""No value of a record breaks out of its field: whatever is put into any text is refused, or stays exactly there.

Every place for text is found by walking the types of the records. A value is first put where a harmless one is known
to render, so that it is the value that is tried and not a rule between records.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from slipway.catalog.documents import read_document
from slipway.catalog.read import (
    FOLDERS,
    REFERENCES,
    Catalog,
    check_references,
    include_directory,
    read_catalog,
)
from slipway.catalog.records import Record
from slipway.cli import main
from slipway.errors import UsageError
from slipway.manifests.cluster_objects import chart_values, render_cluster
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render, yaml_value
from tests.unit.hostile import MARK, SUITABLE, Place, places

CATALOG = read_catalog()
OF_ENDPOINTS = {folder: key for key, folder in REFERENCES.items()}
PLACES = {f"{folder}{one.where}": (folder, one) for folder, kind in FOLDERS.items() for one in places(kind)}
# Templates by design: what looks like one is one there, and only what surrounds it must hold.
TEMPLATES = {"runtimes.command[]", "runtimes.args[]"}

HOSTILE = [
    "\"'; rm -rf / # $(reboot) `reboot` ${HOME}",
    "a\n- evil: true\n---\nkind: Secret\n",
    "{{ 7 * 7 }}{{ plan.__class__.__mro__ }}",
    "{% for x in range(9) %}x{% endfor %}",
    "{# x #}",
    "!!python/object/apply:os.system [reboot]",
    "&anchor *anchor",
    "a: b # c",
    "yes",
    "1e3",
    "~",
    "0",
    "999999999999999Pi",
    "",
    " \t ",
    "a\x00b",
    "\x1b[2J\x7f\x85\ufeff\u2028\u2029\u202eevil\u202c",
    "a\x85b",
    "\u2028",
    "\ud800",
    "😀 通义千问",
    "x" * 4000,
    "x" * 10_000,
]


@dataclass(frozen=True)
class Host:
    """An endpoint whose records render with a harmless value in a place."""

    endpoint: str
    harmless: str
    objects: Any


class RefusedError(Exception):
    """A record, or the rules between records, said no."""


def outcome(folder: str, place: Place, endpoint: str, value: Any) -> Any:
    """Everything that is rendered for an endpoint, and for its cluster, with a value in a place."""
    records = getattr(CATALOG, folder)
    named = endpoint if folder == "endpoints" else reference(folder, endpoint)
    if named not in records:
        raise RefusedError("not referred to")
    data = read_back(place.put(records[named].model_dump(mode="json", exclude_unset=True), value))
    try:
        record: Record = FOLDERS[folder].model_validate(data)
    except ValidationError as error:
        raise RefusedError(str(error)) from error
    folders = {**{one: dict(getattr(CATALOG, one)) for one in FOLDERS}, folder: {**records, named: record}}
    catalog: Catalog = replace(CATALOG, **folders, problems=[], complete={})
    check_references(catalog, include_directory())
    if catalog.problems:
        raise RefusedError(catalog.problems[0].message)
    try:
        cluster = CATALOG.endpoints[endpoint].cluster
        rendered = render(make_plan(catalog, endpoint))
        prepared = render_cluster(catalog, cluster)
        charts = [chart_values(catalog, cluster, one.name) for one in catalog.clusters[cluster].setup.charts]
    except UsageError as error:  # any other error would be a template that the value broke
        assert "\n" not in str(error) and len(str(error)) < 2000, "an error is one line that can be read"
        raise RefusedError(str(error)) from error
    documents = list(yaml.load_all(rendered.to_yaml(), Loader=yaml.CSafeLoader))
    assert documents == rendered.objects(), "YAML says what the objects say"
    assert json.loads(rendered.to_bytes())["stages"] == rendered.stages
    return [*documents, *prepared, *charts]


def read_back(data: Any) -> Any:
    """What a record's file with this data says."""
    with NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(yaml_value(data))
        file.flush()
        document = read_document(Path(file.name))
    if document.mistakes:
        raise RefusedError(document.mistakes[0].message)
    assert document.data == data, "a file says what was written into it"
    return document.data


def reference(folder: str, endpoint: str) -> str | None:
    """The name of the record of a folder that an endpoint leads to."""
    if folder == "programs":
        return CATALOG.runtimes[CATALOG.endpoints[endpoint].runtime].program
    name: str | None = getattr(CATALOG.endpoints[endpoint], OF_ENDPOINTS[folder])
    return name


@cache
def host(where: str) -> Host | None:
    """An endpoint in which the place can hold something harmless; the mark where that is possible."""
    folder, place = PLACES[where]
    texts = [value for value in SUITABLE if isinstance(value, str)]
    marked = [value for value in texts if MARK in value]
    known = [record.model_dump(mode="json") for one in FOLDERS for record in getattr(CATALOG, one).values()]
    names = sorted({text for record in known for text in texts_of(record) if len(text) < 40})
    for values in (marked, [value for value in texts if MARK not in value], names):
        for endpoint in sorted(CATALOG.endpoints):
            for value in values:
                try:
                    return Host(endpoint, value, outcome(folder, place, endpoint, value))
                except RefusedError:
                    continue
    return None


def texts_of(value: Any) -> Iterator[str]:
    """All texts within, keys as well."""
    if isinstance(value, dict):
        yield from (text for pair in value.items() for one in pair for text in texts_of(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in texts_of(one))
    elif isinstance(value, str):
        yield value


def same(harmless: Any, hostile: Any, was: str, now: str) -> bool:
    """Whether two renderings differ in nothing but the value itself, wherever it ended up, and in hashes of it."""
    if isinstance(harmless, dict) and isinstance(hostile, dict):
        renamed = {put_in(key, was, now): value for key, value in harmless.items()}
        return len(harmless) == len(hostile) and all(
            (key in hostile and same(value, hostile[key], was, now)) for key, value in renamed.items()
        )
    if isinstance(harmless, list) and isinstance(hostile, list):
        pairs = zip(harmless, hostile, strict=False)
        return len(harmless) == len(hostile) and all(same(one, two, was, now) for one, two in pairs)
    if isinstance(harmless, str) and isinstance(hostile, str):
        return same_text(harmless, hostile, was, now)
    return type(harmless) is type(hostile) and harmless == hostile


def same_text(harmless: str, hostile: str, was: str, now: str) -> bool:
    harmless, hostile = (text.replace("$$", "$") for text in (harmless, hostile))  # as Kubernetes reads it
    if harmless == hostile or put_in(harmless, was, now) == hostile:
        return True
    if without_hashes(put_in(harmless, was, now)) == without_hashes(hostile):
        return True
    try:  # one string for a shell, in which the value is quoted
        words = zip(shlex.split(harmless), shlex.split(hostile), strict=True)
        return all(one == two or put_in(one, was, now) == two for one, two in words)
    except ValueError:
        return False


def put_in(text: str, was: str, now: str) -> str:
    return text.replace(was, now)


def without_hashes(text: str) -> str:
    return re.sub(r"[0-9a-f]{8,64}", "#", text)


def shape(value: Any) -> Any:
    """What is left of objects without what their texts say, and without the order that follows from it."""
    if isinstance(value, dict):
        return sorted((shape(one) for one in value.values()), key=str)
    if isinstance(value, list):
        return sorted((shape(one) for one in value), key=str)
    return type(value).__name__


def check(where: str, value: str) -> None:
    """Put a value into a place: it is refused, or everything else stays as it is."""
    folder, place = PLACES[where]
    there = host(where)
    assert there is not None
    try:
        objects = outcome(folder, place, there.endpoint, value)
    except RefusedError:
        return
    assert [one.get("kind") for one in objects] == [one.get("kind") for one in there.objects]
    before, after = there.objects, objects
    if where in TEMPLATES and any(sign in value for sign in ("{{", "{%", "{#")):
        before, after = without_arguments(before), without_arguments(after)
    if re.fullmatch(r"[A-Za-z0-9._/:=-]+", value):
        assert shape(after) == shape(before)
    else:
        assert same(before, after, there.harmless, value), f"{value!r} in {where} changed something else"


def without_arguments(value: Any) -> Any:
    """Objects without what a template of a runtime may say, including nothing."""
    if isinstance(value, dict):
        return {key: without_arguments(one) for key, one in value.items() if key not in ("args", "command")}
    return [without_arguments(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("where", PLACES)
def test_every_place_for_text_is_tried_in_records_that_render(where: str) -> None:
    assert host(where) is not None, "no endpoint of the catalog renders with anything there"


@pytest.mark.parametrize("where", PLACES)
def test_no_hostile_value_breaks_out_of_its_field(where: str) -> None:
    for value in HOSTILE:
        check(where, value)


@settings(deadline=None)
@given(where=st.sampled_from(sorted(PLACES)), value=st.text(max_size=300) | st.sampled_from(HOSTILE))
def test_no_text_at_all_breaks_out_of_its_field(where: str, value: str) -> None:
    check(where, value)


LINE = re.compile(r"include/catalog/[\w./-]+:\d+: |\d+ problems? in \d+ files?$")


@pytest.fixture
def few(include: Path) -> Path:
    """An include directory with few endpoints, which is read quickly."""
    for path in sorted((include / "catalog" / "endpoints").glob("*.yaml"))[2:]:
        path.unlink()
    return include


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.sampled_from(sorted(PLACES)),
    value=st.text(max_size=300) | st.sampled_from(HOSTILE),
)
def test_a_record_file_with_any_text_is_read_or_refused_in_single_lines(
    few: Path, where: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, place = PLACES[where]
    path = sorted((few / "catalog" / folder).glob("*.yaml"))[0]
    before = path.read_text(encoding="utf-8")
    # JSON is YAML as long as it is ASCII or written out.
    text = json.dumps(place.put(yaml.safe_load(before), value), ensure_ascii=value.isascii())
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        status = main(["--include", str(few), "validate"])
        lines = capsys.readouterr().err.split("\n")
    finally:
        path.write_text(before, encoding="utf-8")

    assert status in (0, 2)
    assert all(len(line) < 2000 and LINE.match(line) for line in lines[:-1])
