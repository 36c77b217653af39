"""Reading the catalog: YAML files to records, every problem with its file, line and field in one go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from slipway.catalog.names import object_name
from slipway.catalog.records import (
    Accelerator,
    BuiltImage,
    Cluster,
    Endpoint,
    Model,
    Record,
    Runtime,
    Workload,
)
from slipway.errors import CatalogError, UsageError, bounded

R = TypeVar("R", bound=Record)

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Problem:
    """One fault of the catalog: where it is and what to do about it."""

    file: str
    line: int
    field: str
    message: str

    def render(self) -> str:
        """One line, in the form that editors make clickable."""
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


@dataclass
class Catalog:
    """All records by name, and the problems of those that could not be used."""

    models: dict[str, Model] = field(default_factory=dict)
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    accelerators: dict[str, Accelerator] = field(default_factory=dict)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    workloads: dict[str, Workload] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def endpoint(self, name: str) -> Endpoint:
        """Return the endpoint ``name``.

        Raises:
            UsageError: there is none; the message names those that there are.
            CatalogError: its record, or one that it refers to, has a problem.
        """
        if name in self.endpoints:
            return self.endpoints[name]
        for problem in self.problems:
            if Path(problem.file).stem == name and Path(problem.file).parent.name == "endpoints":
                raise CatalogError("the endpoint's record cannot be used", about=name, why=problem.render())
        known = ", ".join(sorted(self.endpoints)) or "none"
        raise UsageError("no such endpoint", about=name, remedy=f"The catalog has: {known}")


FOLDERS: Mapping[str, type[Record]] = {
    "models": Model,
    "runtimes": Runtime,
    "accelerators": Accelerator,
    "clusters": Cluster,
    "workloads": Workload,
    "endpoints": Endpoint,
}
REFERENCES = {
    "model": "models",
    "runtime": "runtimes",
    "accelerator": "accelerators",
    "cluster": "clusters",
    "workload": "workloads",
}


def include_directory() -> Path:
    """Where ``include/`` is: ``SLIPWAY_INCLUDE``, else beside ``plugins/``."""
    named = os.environ.get("SLIPWAY_INCLUDE")
    return Path(named) if named else Path(__file__).resolve().parents[3] / "include"


def read_catalog(include: Path | None = None) -> Catalog:
    """Read every record of ``include/catalog``; faults are collected in ``problems``, never raised.

    Returns:
        The catalog. Records with a problem, and endpoints that refer to a missing record, are not in it.
    """
    include = include or include_directory()
    catalog = Catalog()
    for folder, kind in FOLDERS.items():
        records: dict[str, Any] = getattr(catalog, folder)
        for path in sorted((include / "catalog" / folder).glob("*.yaml")):
            record = _read_record(path, kind=kind, shown=_shown(path, include), problems=catalog.problems)
            if record is not None:
                records[path.stem] = record
    _check_built_images(catalog, include)
    _check_references(catalog, include)
    return catalog


def usable(catalog: Catalog) -> Catalog:
    """Return the catalog itself if it has no problem.

    Raises:
        CatalogError: the first problem, and how many more there are.
    """
    if not catalog.problems:
        return catalog
    rest = len(catalog.problems) - 1
    more = f" (and {rest} more: slipway validate lists them)" if rest else ""
    raise CatalogError("the catalog cannot be used", why=catalog.problems[0].render() + more)


def _shown(path: Path, include: Path) -> str:
    return str(Path(include.name) / path.relative_to(include))


def _read_record(path: Path, *, kind: type[R], shown: str, problems: list[Problem]) -> R | None:
    try:
        text = path.read_text(encoding="utf-8")
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problems.append(Problem(shown, line, "", f"not YAML: {error.problem or error.context}"))
        return None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problems.append(Problem(shown, 1, "", f"cannot be read: {bounded(str(error))}"))
        return None
    if not isinstance(data, dict):
        problems.append(Problem(shown, 1, "", "a record is a mapping of keys to values"))
        return None
    try:
        record = kind.model_validate(data)
    except ValidationError as error:
        problems.extend(_problems_of(error, text=text, shown=shown))
        return None
    name = str(data.get("name"))
    if name != path.stem:
        message = f"is {name!r}, but the file is named {path.name!r}: they must be the same"
        problems.append(Problem(shown, _line(text, ("name",)), "name", message))
        return None
    return record


def _problems_of(error: ValidationError, *, text: str, shown: str) -> Iterator[Problem]:
    for fault in error.errors(include_url=False, include_context=False):
        where = tuple(part for part in fault["loc"] if not str(part).endswith(("]", ")")))
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "no such key; look for a typing error"
        yield Problem(shown, _line(text, where), ".".join(map(str, where)), message)


def _line(text: str, where: tuple[int | str, ...]) -> int:
    """Find the line of a field: the deepest part of ``where`` that the document has."""
    node = yaml.compose(text, Loader=_Loader)
    line = 1
    for part in where:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == part), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _check_built_images(catalog: Catalog, include: Path) -> None:
    for name, runtime in sorted(catalog.runtimes.items()):
        image = runtime.image
        if (
            isinstance(image, BuiltImage)
            and not (include / "images" / image.built / "Containerfile").is_file()
        ):
            path = include / "catalog" / "runtimes" / f"{name}.yaml"
            message = f"include/images/{image.built}/Containerfile is not there"
            line = _line(path.read_text(encoding="utf-8"), ("image",))
            catalog.problems.append(Problem(_shown(path, include), line, "image", message))
            del catalog.runtimes[name]


def _check_references(catalog: Catalog, include: Path) -> None:
    taken: dict[tuple[str, str, str], str] = {}
    for name, endpoint in sorted(catalog.endpoints.items()):
        path = include / "catalog" / "endpoints" / f"{name}.yaml"
        faults = list(_faults(endpoint, catalog))
        place = (endpoint.cluster, endpoint.namespace, object_name(name))
        if place in taken:
            faults.append(("name", f"its objects would be named like those of endpoint {taken[place]!r}"))
        taken.setdefault(place, name)
        if faults:
            text = path.read_text(encoding="utf-8")
            shown = _shown(path, include)
            catalog.problems.extend(Problem(shown, _line(text, (f,)), f, message) for f, message in faults)
            del catalog.endpoints[name]


def _faults(endpoint: Endpoint, catalog: Catalog) -> Iterator[tuple[str, str]]:
    for key, folder in REFERENCES.items():
        target, known = getattr(endpoint, key), getattr(catalog, folder)
        if target is not None and target not in known:
            names = ", ".join(sorted(known)) or "none"
            yield key, f"no usable record {target!r} in catalog/{folder}; there are: {names}"
    cluster = catalog.clusters.get(endpoint.cluster)
    accelerator = catalog.accelerators.get(endpoint.accelerator)
    if cluster and accelerator and endpoint.accelerator not in cluster.accelerators:
        offered = ", ".join(cluster.accelerators)
        yield "accelerator", f"cluster {endpoint.cluster!r} offers {offered}, not {endpoint.accelerator!r}"
    if accelerator and bool(accelerator.resource) != bool(endpoint.cards):
        needs = "at least 1 card" if accelerator.resource else "no cards"
        yield "cards", f"accelerator {endpoint.accelerator!r} takes {needs}"
    model = catalog.models.get(endpoint.model)
    if model and endpoint.context_length and endpoint.context_length > model.context_length:
        yield "context_length", f"model {endpoint.model!r} was made for {model.context_length} tokens at most"
