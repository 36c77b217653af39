"""Commands that bring runtimes from Hydra and to it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from slipway.catalog.read import read_catalog
from slipway.cli.shared import include_of
from slipway.errors import CatalogError, UsageError
from slipway.hydra import export_runtime, import_runtimes
from slipway.hydra.exporting import NAMESPACE


def import_hydra(options: argparse.Namespace) -> int:
    """Write Hydra's runtimes into the catalog: all of them, or none."""
    into = options.into or include_of(options) / "catalog" / "runtimes"
    found = import_runtimes(
        options.files,
        into=into,
        renamed=_pairs(options.rename, "--rename"),
        task=options.task,
        replace=options.replace,
    )
    for one in found:
        print(one.path)
        for note in one.notes:
            print(f"  {note}")
    return 0


def export_hydra(options: argparse.Namespace) -> int:
    """Print a runtime of the catalog as Hydra's documents."""
    catalog, name = read_catalog(include_of(options)), options.runtime
    if name not in catalog.runtimes:
        for problem in catalog.problems:
            if problem.file.endswith(f"catalog/runtimes/{name}.yaml"):
                raise CatalogError("the runtime's record cannot be used", about=name, why=problem.render())
        known = ", ".join(sorted(catalog.runtimes)) or "none"
        raise UsageError("no such runtime", about=name, remedy=f"The catalog has: {known}")
    exported = export_runtime(
        catalog.runtimes[name],
        namespace=options.namespace or NAMESPACE,
        fixed=_pairs(options.set, "--set"),
        registry=options.registry,
        include=include_of(options),
    )
    sys.stdout.write(exported.to_yaml())
    return 0


def _pairs(given: Sequence[str], option: str) -> dict[str, str]:
    wrong = [text for text in given if text.find("=") < 1]
    if wrong:
        raise UsageError(f"{option} takes NAME=VALUE", about=wrong[0])
    return dict(text.split("=", 1) for text in given)
