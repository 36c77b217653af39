"""How long `slipway validate` takes over 1,000 endpoints, beside a plain reader that checks types alone.

The peer is what one writes without Slipway: PyYAML's C loader and the same pydantic records, one file after the other,
no lines, no cross-checks. The difference is what file, line, field and the rules between records cost.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from slipway.catalog.read import FOLDERS, include_directory, read_catalog
from slipway.manifests.validation import Report, validate_catalog

ENDPOINTS = 1000
ROUNDS = 5


def main() -> int:
    """Print the medians as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=ENDPOINTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        include = make_catalog(Path(folder), endpoints=options.endpoints)
        report = validate_catalog(include)
        if report.problems:
            print(report.problems[0].render(), file=sys.stderr)
            return 1
        broken = make_catalog(Path(folder) / "broken", endpoints=options.endpoints)
        break_all(broken)
        figures = {
            "benchmark": "validate",
            "endpoints": report.counts["endpoints"],
            "seconds": _median(lambda: validate_catalog(include), options.rounds),
            "seconds_all_broken": _median(lambda: _all_found(validate_catalog(broken), options), 1),
            "read_seconds": _median(lambda: read_catalog(include), options.rounds),
            "peer": "PyYAML and pydantic alone",
            "peer_seconds": _median(lambda: read_plainly(include), options.rounds),
        }
    print(json.dumps(figures))
    return 0


def make_catalog(folder: Path, *, endpoints: int) -> Path:
    """Copy the project's include directory and repeat its endpoints until there are enough.

    Those that can be there once only (they name a Service of their own, say) are left out.
    """
    include = Path(shutil.copytree(include_directory(), folder / "include"))
    place = include / "catalog" / "endpoints"
    originals = sorted(place.glob("*.yaml"))
    texts = [path.read_text(encoding="utf-8") for path in originals]
    for path in originals:
        path.unlink()
    _repeat(texts, place, 2 * len(texts))
    once = {int(Path(one.file).stem.split("-")[1]) % len(texts) for one in validate_catalog(include).problems}
    _repeat([text for number, text in enumerate(texts) if number not in once], place, endpoints)
    return include


def _repeat(texts: list[str], place: Path, count: int) -> None:
    for path in place.glob("*.yaml"):
        path.unlink()
    for number in range(count):
        name = f"endpoint-{number}"
        lines = texts[number % len(texts)].splitlines()
        lines = [f"name: {name}" if line.startswith("name:") else line for line in lines]
        (place / f"{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def break_all(include: Path) -> None:
    """Give each endpoint a key that no record has."""
    for path in (include / "catalog" / "endpoints").glob("*.yaml"):
        with path.open("a", encoding="utf-8") as file:
            file.write("no_such_key: 1\n")


def read_plainly(include: Path) -> None:
    """Read and type-check every record, and nothing else."""
    for folder, kind in FOLDERS.items():
        for path in (include / "catalog" / folder).glob("*.yaml"):
            kind.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))


def _all_found(report: Report, options: argparse.Namespace) -> None:
    assert len(report.problems) == options.endpoints, len(report.problems)


def _median(run: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return round(statistics.median(times), 3)


if __name__ == "__main__":
    sys.exit(main())
