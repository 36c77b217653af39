"""How long the checks of a whole cluster take with 500 nodes, which kwok simulates, and what each check costs.

``python -m benchmarks.checks`` prints one JSON object. Needs a sandbox with kwok (``make up``); the nodes are gone
afterwards.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from sandbox import gobuild, kwok, settings, supervisor
from sandbox.cluster import Cluster as Sandbox
from slipway.catalog.read import include_directory, read_catalog
from slipway.checks.check import Check
from slipway.checks.findings import Finding
from slipway.checks.plan import site_of
from slipway.checks.registry import CHECKS
from slipway.checks.run import run_checks
from slipway.checks.subject import Site
from slipway.checks.view import View
from slipway.cluster.client import Cluster

ROUNDS = 5
SLOWEST = 5


def main() -> int:
    """Print the median of five looks at the cluster, without and with the nodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=500)
    nodes = parser.parse_args().nodes
    config = settings.load(recorded=True)
    if not any(part.name == kwok.NAME and part.state == "RUNNING" for part in supervisor.parts(config)):
        print(json.dumps({"benchmark": "checks", "not_measured": "kwok does not run; make up starts it"}))
        return 0
    kubectl = Sandbox(
        kubectl_path=gobuild.program(config, gobuild.KUBERNETES, "kubectl"),
        kubeconfig=config.admin_kubeconfig,
    )
    include = include_directory()
    site = site_of(read_catalog(include), "sandbox", include=include)
    cluster = Cluster.from_kubeconfig(config.slipway_kubeconfig)
    figures: dict[str, object] = {"benchmark": "checks", "nodes": nodes}
    for name, made in (("alone", nullcontext()), ("with_nodes", _nodes(kubectl, nodes))):
        with made:
            figures[f"seconds_{name}"] = _seconds(cluster, site)
            figures[f"terminal_seconds_{name}"] = _terminal_seconds(str(config.slipway_kubeconfig))
            figures[f"slowest_{name}"] = _slowest(cluster, site)
    print(json.dumps(figures))
    return 0


def _nodes(kubectl: Sandbox, count: int) -> AbstractContextManager[object]:
    return kwok.fake_nodes(kubectl, count, resources={"nvidia.com/gpu": "8"}, labels={"gpu": "on"})


def _seconds(cluster: Cluster, site: Site) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run_checks(cluster, site)
        rounds.append(time.perf_counter() - began)
    return round(statistics.median(rounds), 3)


def _terminal_seconds(kubeconfig: str) -> float:
    """All that a person waits for: a new process, its imports and the catalog too."""
    command = [sys.executable, "-m", "slipway.cli", "check", "sandbox", "--kubeconfig", kubeconfig]
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    return round(time.perf_counter() - began, 3)


def _slowest(cluster: Cluster, site: Site) -> dict[str, float]:
    """What single checks took in one look, in which they wait for what others read."""
    took: dict[str, float] = {}

    def timed(check: Check) -> Check:
        function: Callable[[View, Site], list[Finding]] = check.function

        def measure(view: View, site: Site) -> list[Finding]:
            began = time.perf_counter()
            try:
                return function(view, site)
            finally:
                took[check.id] = round(time.perf_counter() - began, 3)

        return replace(check, function=measure)

    run_checks(cluster, site, checks=[timed(check) for check in CHECKS if "cluster" in check.asked])
    return dict(sorted(took.items(), key=lambda one: -one[1])[:SLOWEST])


if __name__ == "__main__":
    sys.exit(main())
