"""`bench`: Slipway's own figures on a sandbox that is up, one JSON object a line."""

from __future__ import annotations

import os
import subprocess
import sys

from sandbox import airflow, credentials, settings
from sandbox.errors import USER_MISTAKE, SandboxError
from sandbox.settings import Settings

BENCHMARKS = (
    "benchmarks.parsing",
    "benchmarks.validate",
    "benchmarks.watch",
    "benchmarks.checks",
    "benchmarks.waits",
    "benchmarks.orchestration",
)


def bench(config: Settings) -> None:
    """Run every benchmark; their standard output is the figures.

    Raises:
        SandboxError: the sandbox is not up, or a benchmark failed.
    """
    if not airflow.is_running(config):
        raise SandboxError("the sandbox is not up: run `make demo` first", status=USER_MISTAKE)
    environment = {
        **os.environ,
        **airflow.airflow_environment(config),
        "SLIPWAY_API_KEY": credentials.kept(config, "endpoint-api-key"),
        "PYTHONPATH": f"{settings.CHECKOUT}/plugins:{settings.CHECKOUT}",
    }
    for module in BENCHMARKS:
        done = subprocess.run(
            [sys.executable, "-m", module], cwd=settings.CHECKOUT, env=environment, check=False
        )
        if done.returncode != 0:
            raise SandboxError(f"{module} ended with exit status {done.returncode}; its last lines say why")
