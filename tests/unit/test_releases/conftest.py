"""A history of one's own for each test, in SQLite and in a real PostgreSQL server.

PostgreSQL is Debian's package ``postgresql`` (or any server whose programs are in PATH); where it is not
installed those tests are skipped and say so.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

from slipway.releases.database import Database
from slipway.releases.records import Release
from slipway.releases.store import History
from slipway.releases.tables import Table
from tests.unit.test_releases.pending import pending_values


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    named = shutil.which("postgres")
    return found[-1].parent if found else Path(named).parent if named else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL server of this session, on a Unix socket alone."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server: apt-get install postgresql")
    # A short path of its own: a socket's path has 107 characters at most, and others may read pytest's directory.
    home = Path(tempfile.mkdtemp(prefix="slipway-pg-", dir="/tmp"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # the server refuses to run as root
        owner = pwd.getpwnam("postgres" if _is_user("postgres") else "nobody")
        os.chown(home, owner.pw_uid, owner.pw_gid)
        user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    data = home / "data"

    def call(*command: str | Path) -> None:
        subprocess.run(
            command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=home, **user
        )

    options = f"-k {home} -c listen_addresses= -c fsync=off -c full_page_writes=off -c synchronous_commit=off"
    try:
        call(programs / "initdb", "-D", data, "-U", "slipway", "-A", "trust", "--no-sync", "-E", "UTF8")
        call(programs / "pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", options, "start")
        yield f"postgresql://slipway@/{{}}?host={home}"
    finally:
        if (data / "postmaster.pid").exists():
            call(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


def _is_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def _new_database(server: str) -> str:
    name = f"history_{uuid.uuid4().hex}"
    admin = make_url(server.format("postgres")).set(drivername="postgresql+psycopg2")
    engine = create_engine(admin, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return server.format(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database without tables, named by ``SLIPWAY_DATABASE_URL``."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'history' / 'history.db'}"
    else:
        url = _new_database(request.getfixturevalue("postgresql"))
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", url)
    return url


@pytest.fixture(scope="session")
def sqlite_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history") / "history.db"
    Database(make_url(f"sqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgresql_history(postgresql: str) -> Database:
    return Database(make_url(_new_database(postgresql)).set(drivername="postgresql+psycopg2"))


@pytest.fixture(params=["sqlite", "postgresql"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> History:
    """An empty history; its tables are made once a session, not once a test."""
    if request.param == "sqlite":
        path = shutil.copy(request.getfixturevalue("sqlite_history"), tmp_path / "history.db")
        return History(Database(make_url(f"sqlite:///{path}")))
    database: Database = request.getfixturevalue("postgresql_history")
    tables = ", ".join(table.name for table in Table.metadata.sorted_tables)
    with database.writing() as session:
        session.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    return History(database)


@pytest.fixture
def pend(history: History) -> Callable[..., Release]:
    """Write a pending release: ``pend(run_id="x")``."""

    def create(**changed: Any) -> Release:
        return history.create_pending(**pending_values(**changed))

    return create
