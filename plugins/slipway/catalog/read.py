"""Reading the catalog: YAML files to records, every problem with its file, line and field in one go."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from slipway.catalog.collisions import collisions
from slipway.catalog.documents import line_of, read_document
from slipway.catalog.faults import Fault
from slipway.catalog.problems import Problem, problems_at, shown
from slipway.catalog.records import (
    Accelerator,
    BuiltImage,
    Cluster,
    Endpoint,
    Model,
    Program,
    Record,
    Runtime,
    Workload,
)
from slipway.errors import CatalogError, UsageError, bounded

R = TypeVar("R", bound=Record)


@dataclass
class Catalog:
    """All records by name, and the problems of those that could not be used."""

    models: dict[str, Model] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    accelerators: dict[str, Accelerator] = field(default_factory=dict)
    clusters: dict[str, Cluster] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    workloads: dict[str, Workload] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    # Endpoints all of whose references are there, also those with another problem: `validate` looks at them further.
    complete: dict[str, Endpoint] = field(default_factory=dict)

    def endpoint(self, name: str) -> Endpoint:
        """Return the endpoint ``name``.

        Raises:
            UsageError: there is none; the message names the nearest, or those that there are.
            CatalogError: its record, or one that it refers to, has a problem.
        """
        if name in self.endpoints:
            return self.endpoints[name]
        for problem in self.problems:
            if Path(problem.file).stem == name and Path(problem.file).parent.name == "endpoints":
                raise CatalogError("the endpoint's record cannot be used", about=name, why=problem.render())
        near = get_close_matches(name, self.endpoints, n=1, cutoff=0.7)
        known = ", ".join(sorted(self.endpoints)) or "none"
        remedy = f"Did you mean {near[0]}?" if near else f"The catalog has: {known}"
        raise UsageError("no such endpoint", about=name, remedy=remedy)


FOLDERS: Mapping[str, type[Record]] = {
    "models": Model,
    "programs": Program,
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
    catalog.problems.extend(_stray_folders(include))
    for folder, kind in FOLDERS.items():
        records: dict[str, Any] = getattr(catalog, folder)
        for path in _files(include / "catalog" / folder, include=include, problems=catalog.problems):
            record = _read_record(path, kind=kind, shown=shown(path, include), problems=catalog.problems)
            if record is not None:
                records[path.stem] = record
    check_references(catalog, include)
    return catalog


def check_references(catalog: Catalog, include: Path) -> None:
    """Take out of a catalog what leans on something that is not there, and say so in its problems."""
    _check_runtimes(catalog, include)
    _check_endpoints(catalog, include)


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


def _stray_folders(include: Path) -> Iterator[Problem]:
    root = include / "catalog"
    try:
        names = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        yield Problem(shown(root, include), 1, "", f"cannot be read: {error.strerror}")
        return
    for name in names:
        if name not in FOLDERS and (root / name).is_dir():
            message = f"no such kind of record; the folders are {', '.join(FOLDERS)}"
            yield Problem(shown(root / name, include), 1, "", message)


def _files(folder: Path, *, include: Path, problems: list[Problem]) -> list[Path]:
    """The records of a folder; what was probably meant as one and would be passed over is a problem."""
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(Problem(shown(folder, include), 1, "", f"cannot be read: {error.strerror}"))
        return []
    kept = []
    for entry in entries:
        if entry.suffix == ".yaml":
            kept.append(entry)
        elif entry.suffix.lower() in (".yaml", ".yml", ".json"):
            message = f"is not read: a record's file ends in .yaml; rename it to {entry.stem}.yaml"
            problems.append(Problem(shown(entry, include), 1, "", message))
        elif entry.is_dir():
            message = "is not read: records lie in the folder itself"
            problems.append(Problem(shown(entry, include), 1, "", message))
    return kept


def _read_record(path: Path, *, kind: type[R], shown: str, problems: list[Problem]) -> R | None:
    document = read_document(path)
    if document.mistakes:
        problems.extend(
            Problem(shown, one.line, ".".join(map(str, one.where)), one.message) for one in document.mistakes
        )
        return None
    text, data = document.text, document.data
    if not isinstance(data, dict):
        problems.append(Problem(shown, 1, "", "a record is a mapping of keys to values"))
        return None
    try:
        record = kind.model_validate(data)
    except ValidationError as error:
        problems.extend(_problems_of(error, data=data, text=text, shown=shown))
        return None
    name = str(data.get("name"))
    if name != path.stem:
        message = f"is {name!r}, but the file is named {path.name!r}: they must be the same"
        problems.append(Problem(shown, line_of(text, "name"), "name", message))
        return None
    return record


def _problems_of(error: ValidationError, *, data: Any, text: str, shown: str) -> Iterator[Problem]:
    seen = set()
    for fault in error.errors(include_url=False, include_context=False, include_input=False):
        where = _within(data, fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "no such key; look for a typing error"
        field = ".".join(bounded(str(part), limit=100) for part in where)
        problem = Problem(shown, line_of(text, where), field, bounded(message))
        if problem not in seen:
            seen.add(problem)
            yield problem


def _within(data: Any, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The part of pydantic's location that is in the document: without the names of a union's members and such.

    The last part stays also where the document has no such key, since it may be one that is missing.
    """
    where: list[int | str] = []
    for position, part in enumerate(loc):
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list) and isinstance(part, int) and part < len(data)
        )
        if inside:
            data = data[part]
            where.append(part)
        elif isinstance(data, dict) and position == len(loc) - 1 and not str(part).endswith((")", "]")):
            where.append(part)
    return tuple(where)


def _check_runtimes(catalog: Catalog, include: Path) -> None:
    for name, runtime in sorted(catalog.runtimes.items()):
        faults = [
            Fault(f"images.{kind}", f"include/images/{image.built}/Containerfile is not there")
            for kind, image in runtime.images.items()
            if isinstance(image, BuiltImage)
            and not (include / "images" / image.built / "Containerfile").is_file()
        ]
        if runtime.program and runtime.program not in catalog.programs:
            faults.append(Fault("program", _no_record(runtime.program, "programs", catalog, include)))
        if faults:
            path = include / "catalog" / "runtimes" / f"{name}.yaml"
            catalog.problems.extend(problems_at(path, faults, include=include))
            del catalog.runtimes[name]


def _check_endpoints(catalog: Catalog, include: Path) -> None:
    faults: dict[str, list[Fault]] = {}
    for name, endpoint in catalog.endpoints.items():
        missing = list(_missing(endpoint, catalog, include))
        if missing or (misfits := list(_misfits(endpoint, catalog))):
            faults[name] = missing or misfits
        if not missing:
            catalog.complete[name] = endpoint
    for name, fault in collisions(catalog.endpoints.values()):
        faults.setdefault(name, []).append(fault)
    for name in sorted(faults):
        path = include / "catalog" / "endpoints" / f"{name}.yaml"
        catalog.problems.extend(problems_at(path, faults[name], include=include))
        del catalog.endpoints[name]


def _missing(endpoint: Endpoint, catalog: Catalog, include: Path) -> Iterator[Fault]:
    for key, folder in REFERENCES.items():
        target = getattr(endpoint, key)
        if target is not None and target not in getattr(catalog, folder):
            yield Fault(key, _no_record(target, folder, catalog, include))
    cluster = catalog.clusters.get(endpoint.cluster)
    known = cluster and endpoint.accelerator in catalog.accelerators
    if cluster and known and endpoint.accelerator not in cluster.accelerators:
        offered = ", ".join(cluster.accelerators)
        message = f"cluster {endpoint.cluster!r} offers {offered}, not {endpoint.accelerator!r}"
        yield Fault("accelerator", message)


def _misfits(endpoint: Endpoint, catalog: Catalog) -> Iterator[Fault]:
    model = catalog.models[endpoint.model]
    if endpoint.context_length and endpoint.context_length > model.context_length:
        message = f"model {endpoint.model!r} was made for {model.context_length} tokens at most"
        yield Fault("context_length", message)


def _no_record(name: str, folder: str, catalog: Catalog, include: Path) -> str:
    if (include / "catalog" / folder / f"{name}.yaml").exists():
        return f"the record {name!r} in catalog/{folder} has a problem of its own"
    names = ", ".join(sorted(getattr(catalog, folder))) or "none"
    return f"no usable record {name!r} in catalog/{folder}; there are: {names}"
