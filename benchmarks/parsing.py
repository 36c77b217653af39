"""How long all of ``dags/`` takes to parse once Airflow and the providers are imported."""

from __future__ import annotations

import importlib
import json
import runpy
import statistics
import sys
import time
from pathlib import Path

DAGS = Path(__file__).resolve().parents[1] / "dags"
ROUNDS = 5


def main() -> int:
    """Print the median of five parses, as one JSON object."""
    imports_began = time.perf_counter()
    importlib.import_module("slipway.operators.deployment")
    imports = time.perf_counter() - imports_began
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for path in sorted(DAGS.glob("*.py")):
            runpy.run_path(str(path))
        rounds.append(time.perf_counter() - began)
    figures = {
        "benchmark": "parsing",
        "files": len(list(DAGS.glob("*.py"))),
        "seconds": round(statistics.median(rounds), 3),
        "imports_seconds": round(imports, 2),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
