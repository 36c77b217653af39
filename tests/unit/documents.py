"""The source documents' manifests held against what the catalog renders, field by field.

``tests/data/documents`` has the documents' manifests as correct YAML. ``differences.yaml`` there says which object of
ours says the same and what is different on purpose. ``python -m tests.unit.documents`` writes docs/documents.md anew.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from slipway.catalog.read import Catalog, read_catalog
from slipway.manifests.cluster_objects import render_cluster
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render
from tests.unit.document_fields import flat

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = PROJECT / "tests" / "data" / "documents"
PAGE = PROJECT / "docs" / "documents.md"


@dataclass(frozen=True)
class Difference:
    """One field that the document and our object don't agree on; None is "not there"."""

    path: str
    theirs: str | None
    ours: str | None

    def __str__(self) -> str:
        return f"{self.path}: {self.theirs!r} in the document, {self.ours!r} here"


@dataclass(frozen=True)
class Listed:
    """A difference that is there on purpose: a path, in which ``*`` stands for anything, and why."""

    path: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        return fnmatchcase(difference.path, self.path)


@dataclass(frozen=True)
class Comparison:
    """One manifest of a document and the object of ours that says the same.

    Attributes:
        partly: the document shows only some fields of the object, so what ours has besides is no difference.
    """

    document: str
    object: str
    endpoint: str | None
    cluster: str | None
    ours: str
    partly: bool
    listed: tuple[Listed, ...]


@dataclass(frozen=True)
class Record:
    """What differences.yaml says."""

    comparisons: tuple[Comparison, ...]
    everywhere: tuple[Listed, ...]
    not_compared: dict[tuple[str, str], str]
    only_named: dict[str, str]


@cache
def recorded() -> Record:
    """Read differences.yaml."""
    data = yaml.safe_load((DOCUMENTS / "differences.yaml").read_text(encoding="utf-8"))
    return Record(
        comparisons=tuple(
            Comparison(
                document=entry["document"],
                object=entry["object"],
                endpoint=entry.get("endpoint"),
                cluster=entry.get("cluster"),
                ours=entry["ours"],
                partly=entry.get("partly", False),
                listed=tuple(Listed(**one) for one in entry.get("differences", [])),
            )
            for entry in data["comparisons"]
        ),
        everywhere=tuple(Listed(**one) for one in data["everywhere"]),
        not_compared={
            (entry["document"], entry["object"]): entry["reason"] for entry in data["not_compared"]
        },
        only_named={entry["name"]: entry["here"] for entry in data["only_named"]},
    )


def document_objects() -> dict[tuple[str, str], Any]:
    """Everything that the documents describe, by file and ``Kind/name`` (or the name of a Helm release)."""
    found: dict[tuple[str, str], Any] = {}
    for path in sorted(DOCUMENTS.glob("*.yaml")):
        if path.name == "differences.yaml":
            continue
        for content in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            parts = {_name(content): content} if "kind" in content else content
            found.update({(path.name, name): part for name, part in parts.items()})
    return found


def our_object(comparison: Comparison, catalog: Catalog) -> Any:
    """The object of ours that a comparison names."""
    if comparison.endpoint:
        return _named(render(make_plan(catalog, comparison.endpoint)).objects(), comparison.ours)
    assert comparison.cluster, f"{comparison.object}: name an endpoint or a cluster"
    setup = catalog.clusters[comparison.cluster].setup
    if comparison.ours == "node_labels":
        return setup.node_labels
    charts = {
        chart.name: chart.model_dump(exclude={"name", "present", "timeout_seconds"}, exclude_none=True)
        for chart in setup.charts
    }
    if comparison.ours in charts:
        return charts[comparison.ours]
    return _named(render_cluster(catalog, comparison.cluster), comparison.ours)


def compare(comparison: Comparison, catalog: Catalog) -> list[Difference]:
    """All fields that the document's object and ours don't agree on."""
    theirs = flat(document_objects()[comparison.document, comparison.object])
    ours = flat(our_object(comparison, catalog))
    paths = theirs if comparison.partly else {**theirs, **ours}
    return [
        Difference(path, theirs.get(path), ours.get(path))
        for path in sorted(paths)
        if theirs.get(path) != ours.get(path)
    ]


def _named(objects: list[dict[str, Any]], wanted: str) -> dict[str, Any]:
    """The one object of that ``Kind/name``, or ``Kind/namespace/name`` where the name alone would do for two."""
    kind, *namespace, name = wanted.split("/")
    (found,) = (
        one
        for one in objects
        if (one["kind"], one["metadata"]["name"]) == (kind, name)
        and namespace in ([], [one["metadata"].get("namespace")])
    )
    return found


def _name(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def page() -> str:
    """The text of docs/documents.md."""
    record, catalog = recorded(), read_catalog()
    lines = [INTRODUCTION, "", "## Different everywhere", ""]
    lines += [f"- `{one.path}`: {one.reason}" for one in record.everywhere]
    for comparison in record.comparisons:
        place = (
            f"endpoint `{comparison.endpoint}`" if comparison.endpoint else f"cluster `{comparison.cluster}`"
        )
        lines += ["", f"## {comparison.object} ({comparison.document})", ""]
        lines += [f"Here: `{comparison.ours}` of {place}."]
        lines += [""] if comparison.listed else []
        found = {difference.path: difference for difference in compare(comparison, catalog)}
        for listed in comparison.listed:
            exact = found.get(listed.path)
            values = f" ({_shown(exact.theirs)} → {_shown(exact.ours)})" if exact else ""
            lines.append(f"- `{listed.path}`{values}: {listed.reason}")
    lines += ["", "## Not compared", ""]
    lines += [f"- {name} ({file}): {reason}" for (file, name), reason in record.not_compared.items()]
    lines += ["", "## Named by the documents without a manifest", ""]
    lines += [f"- {name}: {here}" for name, here in record.only_named.items()]
    return "\n".join(map(_wrapped, lines)) + "\n"


def _wrapped(line: str) -> str:
    if not line.startswith("- "):
        return line
    return textwrap.fill(line, 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _shown(value: str | None) -> str:
    return f"`{value}`" if value is not None else "nothing"


INTRODUCTION = """\
# The source documents' manifests and ours

Slipway serves what five documents deploy: Hydra's worker cluster (in Chinese and in English), vLLM on Alibaba
Cloud ACS, vLLM with HAMi on Kubernetes, and Hydra's runtimes of one's own. Their manifests, brought to
correct YAML, are in `tests/data/documents`; `tests/unit/test_documents.py` compares each with what the
catalog renders, field by field. Every difference is below with its reason (theirs → ours). A difference that
isn't below fails the test, and so does one that is below and no longer there.

This page is written by `python -m tests.unit.documents` from `tests/data/documents/differences.yaml`.

In paths, `pod` is the pod template whatever keeps it, and arguments are `args.--flag` however they were
passed. What a start script exports is `env`. A volume is found where it is mounted. What the API server fills
in by itself is left out."""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
