"""Read by every Airflow process of the sandbox at its start: SQLite that waits its turn, and imports done ahead.

The scheduler forks its task processes, so what it has imported, they need not: a task that speaks to Kubernetes starts
a second sooner. Only other people's packages are imported here; `slipway` itself is read anew by each task, so that a
change of its code needs no restart.
"""

from __future__ import annotations

import contextlib
import importlib
import sqlite3
import sys
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

BUSY_TIMEOUT_MS = 60_000
FORKING_SERVICES = {"scheduler", "dag-processor"}
IMPORTED_AHEAD = (
    "airflow.sdk",
    "airflow.providers.cncf.kubernetes.operators.pod",
    "airflow.providers.cncf.kubernetes.hooks.kubernetes",
    "airflow.providers.standard.operators.python",
    "alembic",
    "httpx",
    "jinja2",
    "kubernetes",
    "pydantic",
    "yaml",
)


@event.listens_for(Engine, "connect")
def _set_pragmas(connection: Any, _record: Any) -> None:
    """Readers beside a writer (WAL), and waiting instead of 'database is locked'."""
    driver = getattr(connection, "driver_connection", connection)
    if not isinstance(driver, sqlite3.Connection) and type(driver).__module__.split(".")[0] != "aiosqlite":
        return
    cursor = connection.cursor()
    for pragma in (f"busy_timeout = {BUSY_TIMEOUT_MS}", "journal_mode = WAL", "synchronous = NORMAL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


if FORKING_SERVICES & set(sys.argv):
    for _name in IMPORTED_AHEAD:
        with contextlib.suppress(ImportError):
            importlib.import_module(_name)
