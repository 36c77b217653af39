"""The whole catalog held against itself: every problem in one run, each with file, line and field.

The rules are those that a plan is made by (``faults_of``), so what passes here is what can be deployed. Endpoints are
not rendered for it: a thousand of them are looked at in a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from slipway.catalog.faults import Fault
from slipway.catalog.problems import Problem, problems_at, shown
from slipway.catalog.read import FOLDERS, Catalog, include_directory, read_catalog
from slipway.errors import CatalogError, SlipwayError
from slipway.manifests.arguments import parsed_by
from slipway.manifests.cluster_objects import render_cluster
from slipway.manifests.planning import faults_of
from slipway.manifests.records import records_of


class ProblemsError(CatalogError):
    """An endpoint that cannot be deployed as its record says.

    Attributes:
        problems: all that is known, each with its line.
    """

    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(
            "the endpoint cannot be deployed as its record says",
            about=name,
            why="; ".join(problem.render() for problem in problems),
        )

    @property
    def lines(self) -> list[str]:
        """Each problem with its place, as compilers write them."""
        return [problem.render() for problem in self.problems]


@dataclass(frozen=True)
class Report:
    """What a look at the whole catalog gave.

    Attributes:
        problems: by file and line.
        notes: what is not a problem but not proven either, one line each.
        counts: the usable records of each folder.
    """

    problems: list[Problem]
    notes: list[str]
    counts: dict[str, int]


def validate_catalog(include: Path | None = None) -> Report:
    """Read the catalog and hold its records against each other; nothing is raised for what is in them."""
    include = include or include_directory()
    catalog = read_catalog(include)
    problems = list(catalog.problems)
    for name in sorted(catalog.complete):
        problems += endpoint_problems(catalog, name, include=include)
    for name in sorted(catalog.clusters):
        problems += _cluster_problems(catalog, name, include=include)
    return Report(
        problems=_in_order(problems),
        notes=list(_notes(catalog)),
        counts={folder: len(getattr(catalog, folder)) for folder in FOLDERS},
    )


def endpoint_problems(catalog: Catalog, name: str, *, include: Path) -> list[Problem]:
    """What keeps an endpoint from being deployed, when all that it refers to is there."""
    whole = replace(catalog, endpoints=catalog.complete)
    try:
        faults = list(faults_of(records_of(whole, name)))
    except SlipwayError as error:
        faults = [Fault("", str(error))]
    return problems_at(include / "catalog" / "endpoints" / f"{name}.yaml", faults, include=include)


def refuse_problems(catalog: Catalog, name: str, *, include: Path) -> None:
    """Refuse an endpoint for all that is wrong with it at once.

    Raises:
        UsageError: there is no such endpoint.
        ProblemsError: its record has problems.
    """
    root = include / "catalog"
    files = (shown(root, include), shown(root / "endpoints" / f"{name}.yaml", include))
    problems = [problem for problem in catalog.problems if problem.file in files]
    if name in catalog.complete:
        problems += endpoint_problems(catalog, name, include=include)
    if problems:
        raise ProblemsError(name, _in_order(problems))
    catalog.endpoint(name)


def _cluster_problems(catalog: Catalog, name: str, *, include: Path) -> Iterator[Problem]:
    try:
        render_cluster(catalog, name, include=include)
    except SlipwayError as error:
        path = include / "catalog" / "clusters" / f"{name}.yaml"
        yield Problem(shown(path, include), 1, "", str(error))


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Each problem once: what others lean on first, then by file and line."""
    places = {folder: place for place, folder in enumerate(FOLDERS)}

    def order(problem: Problem) -> tuple[int, str, int, str]:
        return places.get(Path(problem.file).parent.name, -1), problem.file, problem.line, problem.field

    return sorted(dict.fromkeys(problems), key=order)


def _notes(catalog: Catalog) -> Iterator[str]:
    for name, runtime in sorted(catalog.runtimes.items()):
        program = catalog.programs.get(runtime.program) if runtime.program else None
        if not parsed_by(runtime, program):
            what = (
                f"{runtime.program} {runtime.version}" if runtime.version else "a program of unknown version"
            )
            parser = program.parsed_version if program else None
            there = f"; the parser that is here is {parser}'s" if parser else ""
            yield f"runtime {name}: arguments not run: {what}{there}"
