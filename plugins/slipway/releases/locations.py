"""Where the history lies when nobody named a place."""

from __future__ import annotations

import os
from pathlib import Path

DATABASE_VARIABLE = "SLIPWAY_DATABASE_URL"
ARTIFACTS_VARIABLE = "SLIPWAY_ARTIFACTS"
_SQLITE = ("sqlite:///", "sqlite+pysqlite:///")


def data_directory() -> Path:
    """Return the directory of this user's Slipway data, by the XDG rules; it may not exist yet."""
    named = os.environ.get("XDG_DATA_HOME", "")
    base = Path(named) if Path(named).is_absolute() else Path.home() / ".local" / "share"
    return base / "slipway"


def artifacts_directory() -> Path:
    """Return where artefacts lie by default: beside a SQLite history, else in the user's data directory."""
    url = os.environ.get(DATABASE_VARIABLE, "")
    for prefix in _SQLITE:
        path = Path(url.removeprefix(prefix).split("?")[0])
        if url.startswith(prefix) and path.is_absolute():
            return path.parent / "artifacts"
    return data_directory() / "artifacts"
