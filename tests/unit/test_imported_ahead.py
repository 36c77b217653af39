"""What Airflow's processes of the sandbox do at their start.

What the scheduler imports ahead for its tasks is dropped where the code has changed since, and SQLite waits its turn.
"""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

from sandbox import settings


@pytest.fixture
def local_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    path = settings.FILES / "airflow_config" / "airflow_local_settings.py"
    spec = importlib.util.spec_from_file_location("local_settings_of_the_test", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "OWN", "imported_ahead")
    yield module
    event.remove(Engine, "connect", module._set_pragmas)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of two modules, imported."""
    folder = tmp_path / "imported_ahead"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "part.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.import_module("imported_ahead.part")
    yield folder
    for name in [name for name in sys.modules if name.startswith("imported_ahead")]:
        del sys.modules[name]


def test_code_that_is_as_it_was_is_kept(local_settings: ModuleType, package: Path) -> None:
    files = local_settings.own_files()
    assert set(files) == {str(package / "__init__.py"), str(package / "part.py")}
    local_settings.forget_if_changed(files)
    assert "imported_ahead.part" in sys.modules


def test_a_change_of_one_file_has_all_read_anew(local_settings: ModuleType, package: Path) -> None:
    files = local_settings.own_files()
    (package / "part.py").write_text("value = 22\n")
    local_settings.forget_if_changed(files)
    assert not {name for name in sys.modules if name.startswith("imported_ahead")}
    assert importlib.import_module("imported_ahead.part").value == 22


def test_a_file_that_is_gone_is_a_change(local_settings: ModuleType, package: Path) -> None:
    files = local_settings.own_files()
    (package / "part.py").unlink()
    local_settings.forget_if_changed(files)
    assert "imported_ahead" not in sys.modules


def test_a_new_database_is_opened_while_another_process_writes_it(
    local_settings: ModuleType, tmp_path: Path
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'new.db'}", poolclass=NullPool)
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    other.execute("CREATE TABLE found (value)")
    other.execute("BEGIN IMMEDIATE")

    def read(pragma: str) -> object:
        with engine.connect() as connection:
            return connection.execute(text(f"PRAGMA {pragma}")).scalar()

    assert read("busy_timeout") == local_settings.BUSY_TIMEOUT_MS
    other.close()
    assert read("journal_mode") == "wal"
