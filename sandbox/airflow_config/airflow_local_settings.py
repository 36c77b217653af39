"""Read by every Airflow process of the sandbox at its start: SQLite that waits its turn, and imports done ahead.

The scheduler forks its task processes, so what it has imported, they need not: a task that speaks to Kubernetes starts
more than a second sooner. `slipway` itself is imported ahead too, and a forked process reads it anew if any of its
files has changed since, so that a change of its code needs no restart.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

# Its API server asks the database from its event loop, and there it may wait for one of its own requests that needs the
# event loop to end: on SQLite it is told soon that it cannot have the lock. Everything else waits its turn.
BUSY_TIMEOUT_MS = 5_000 if "api-server" in sys.argv else 60_000
FORKING_SERVICES = {"scheduler", "dag-processor"}
IMPORTED_AHEAD = (
    "airflow.sdk",
    "airflow.providers.cncf.kubernetes.operators.pod",
    "airflow.providers.cncf.kubernetes.hooks.kubernetes",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.python",
    "airflow.sdk.definitions.decorators.setup_teardown",
    "airflow.sdk.definitions.decorators.task_group",
    "airflow.sdk.definitions.timetables.trigger",
    "alembic.command",
    "httpx",
    "jinja2",
    "kubernetes",
    "pydantic",
    "yaml",
    # What most steps of a deployment import, their functions' own imports included.
    "slipway.operators.deployment",
    "slipway.checks.registry",
    "slipway.checks.run",
    "slipway.cluster.apply",
    "slipway.cluster.controllers",
    "slipway.cluster.lease",
    "slipway.cluster.watch",
    "slipway.releases.store",
)
OWN = "slipway"


@event.listens_for(Engine, "connect")
def _set_pragmas(connection: Any, _record: Any) -> None:
    """Readers beside a writer (WAL), and waiting instead of 'database is locked'."""
    driver = getattr(connection, "driver_connection", connection)
    if not isinstance(driver, sqlite3.Connection) and type(driver).__module__.split(".")[0] != "aiosqlite":
        return
    cursor = connection.cursor()
    for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "synchronous = NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    # The mode stays with the file. SQLite doesn't wait for its turn at this change: whoever holds a new file just now
    # made the change, or the next connection makes it.
    with contextlib.suppress(sqlite3.OperationalError):
        cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def own_files() -> dict[str, int]:
    """The files that the imported modules of our own came from, with the times of their last change."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == OWN]
    return {module.__file__: changed_at(module.__file__) for module in modules if module.__file__}


def changed_at(file: str) -> int:
    """When a file was last changed, in nanoseconds; 0 when it is gone."""
    try:
        return Path(file).stat().st_mtime_ns
    except OSError:
        return 0


def forget_if_changed(files: dict[str, int]) -> None:
    """Forget all of our own modules if one of these files is not as it was."""
    if any(changed_at(file) != changed for file, changed in files.items()):
        for name in [name for name in sys.modules if name.split(".")[0] == OWN]:
            del sys.modules[name]


if FORKING_SERVICES & set(sys.argv):
    for _name in IMPORTED_AHEAD:
        with contextlib.suppress(Exception):  # whatever is wrong with it is told where it is used
            importlib.import_module(_name)
    _imported = own_files()
    os.register_at_fork(after_in_child=lambda: forget_if_changed(_imported))
