"""Commands that need the catalog alone: validate, render, schemas."""

from __future__ import annotations

import argparse
import sys

from slipway.catalog.read import read_catalog
from slipway.catalog.schemas import write_schemas
from slipway.cli.shared import include_of, plan_of
from slipway.errors import UsageError
from slipway.manifests.cluster_objects import chart_values, render_cluster
from slipway.manifests.render import render, yaml_of
from slipway.manifests.validation import validate_catalog


def validate(options: argparse.Namespace) -> int:
    """Check the whole catalog; every problem in one run, each with file, line and field."""
    report = validate_catalog(include_of(options))
    for problem in report.problems:
        print(problem.render(), file=sys.stderr)
    if report.problems:
        files = len({problem.file for problem in report.problems})
        print(f"{_counted(len(report.problems), 'problem')} in {_counted(files, 'file')}", file=sys.stderr)
        return 2
    for note in report.notes:
        print(f"note: {note}")
    print(f"{', '.join(f'{number} {folder}' for folder, number in report.counts.items())}: no problem")
    return 0


def show(options: argparse.Namespace) -> int:
    """Print the objects of an endpoint or of a cluster, or a chart's values, as YAML."""
    if bool(options.endpoint) == bool(options.cluster):
        raise UsageError("say what to render", remedy="Name either an endpoint or --cluster NAME")
    if options.cluster and options.overrides:
        raise UsageError("a cluster takes no overrides", about=options.cluster)
    if options.values and not options.cluster:
        raise UsageError("--values goes with --cluster", about=options.values)
    if options.endpoint:
        print(render(plan_of(options), include=include_of(options)).to_yaml(), end="")
        return 0
    include, catalog = include_of(options), read_catalog(include_of(options))
    if options.values:
        documents = [chart_values(catalog, options.cluster, options.values)]
    else:
        documents = render_cluster(catalog, options.cluster, include=include)
    print(yaml_of(documents), end="")
    return 0


def schemas(options: argparse.Namespace) -> int:
    """Write the JSON Schemas of the records for editors."""
    try:
        for path in write_schemas(options.directory):
            print(path)
    except OSError as error:
        raise UsageError(
            "the schemas cannot be written", about=str(options.directory), why=error.strerror or ""
        ) from error
    return 0


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
