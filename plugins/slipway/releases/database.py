"""The history's database: where it is, how it is opened, and that its tables are as this code needs them.

SQLite is the default, for one machine; PostgreSQL is for several, named by ``SLIPWAY_DATABASE_URL``. No connection
is kept between uses: a task waits for hours, Airflow forks, and hundreds of tasks must not hold a server's last
connections.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session

from slipway.errors import ReleaseError, UsageError, bounded
from slipway.releases.locations import DATABASE_VARIABLE as VARIABLE
from slipway.releases.locations import data_directory

HEAD = "0006"
"""The newest migration. Kept here so that opening an up-to-date history needs no Alembic, which is slow to import."""

BUSY_SECONDS = 30.0
_WRITES = "slipway_writes"
_LOCK_SPACE = 0x736C6970  # "slip": keeps our advisory locks apart from another program's in the same database
_MIGRATION_LOCK = 0
_DRIVERS = {"sqlite": "sqlite", "sqlite+pysqlite": "sqlite", "postgresql": "postgresql+psycopg2"}
_DRIVERS["postgresql+psycopg2"] = "postgresql+psycopg2"


def database_url() -> URL:
    """Return the history's URL: that of the environment, else a SQLite file in the user's data directory.

    Raises:
        UsageError: the environment's URL cannot be meant. The message does not quote it: it may hold a password.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return URL.create("sqlite", database=str(data_directory() / "history.db"))
    try:
        url = make_url(given)
    except (ArgumentError, ValueError) as error:
        raise _malformed("it is not a database URL") from error
    if url.drivername not in _DRIVERS:
        raise _malformed(f"{url.drivername} is no database that the history knows")
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_absolute():
        raise _malformed(
            "a SQLite file needs an absolute path, with four slashes, or each process makes its own"
        )
    if url.get_backend_name() == "postgresql" and not url.database:
        raise _malformed("it names no database")
    return url.set(drivername=_DRIVERS[url.drivername])


def _malformed(why: str) -> UsageError:
    return UsageError(
        "the history's database cannot be used",
        about=VARIABLE,
        why=why,
        remedy="Write sqlite:////absolute/path/history.db or postgresql://user:password@host/database, or unset it",
    )


class Database:
    """One history database, migrated.

    Args:
        url: as ``database_url`` gives it.
    """

    def __init__(self, url: URL) -> None:
        self.url = url
        with self.one_line_errors():
            if self.is_sqlite:
                _make_file(Path(url.database or ""))
            self.engine = _make_engine(url)
            self._migrate()

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file on this machine."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads."""
        with self.one_line_errors(), Session(self.engine) as session, session.begin():
            yield session

    @contextmanager
    def writing(self, *, endpoint: str | Collection[str] = ()) -> Iterator[Session]:
        """A transaction that writes. Two writers of the same endpoint, or endpoints, take turns.

        SQLite has one writer at all: the transaction starts as such (BEGIN IMMEDIATE), because one that starts
        reading and then writes fails at once when another has written, whatever it is willing to wait. On
        PostgreSQL an advisory lock by the endpoint's name does the same for this endpoint alone; it ends with the
        transaction. Those of several are taken in one order, so that no two writers wait for each other.
        """
        endpoints = [endpoint] if isinstance(endpoint, str) else sorted(endpoint)
        engine = self.engine.execution_options(**{_WRITES: True})
        with self.one_line_errors(), Session(engine, expire_on_commit=False) as session, session.begin():
            for name in endpoints if not self.is_sqlite else ():
                lock = text("SELECT pg_advisory_xact_lock(:space, hashtext(:endpoint))")
                session.execute(lock, {"space": _LOCK_SPACE, "endpoint": name})
            yield session

    @contextmanager
    def one_line_errors(self) -> Iterator[None]:
        """Turn the database's errors into one line that names it, without its password."""
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise ReleaseError(
                "the history's database cannot be used",
                about=self.url.render_as_string(hide_password=True),
                why=bounded(str(cause)),
                remedy=f"See that it is there and may be written, or set {VARIABLE}",
            ) from error

    def _migrate(self) -> None:
        """Bring the tables to ``HEAD``; of several processes that start at once, one does it and the others wait."""
        with self.engine.connect() as connection:
            if _revision(connection) == HEAD:
                return
        if self.is_sqlite:
            _use_wal(self.engine)
        with self.engine.execution_options(**{_WRITES: True}).begin() as connection:
            if not self.is_sqlite:
                lock = text("SELECT pg_advisory_xact_lock(:space, :key)")
                connection.execute(lock, {"space": _LOCK_SPACE, "key": _MIGRATION_LOCK})
            if _revision(connection) != HEAD:
                _upgrade(connection)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, HEAD)
    except CommandError as error:
        raise ReleaseError(
            "the history's database has tables of another Slipway",
            about=f"revision {_revision(connection)}, this Slipway knows {HEAD}",
            remedy="Install the newer Slipway that made them, or name another database",
        ) from error


def _make_file(path: Path) -> None:
    """Make the file for its owner alone: plans and evidence are not for everyone on the machine."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        path.touch(mode=0o600)


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
        return engine
    options = {"connect_timeout": 10, "application_name": "slipway"}
    return create_engine(url, poolclass=NullPool, connect_args=options)


def _on_sqlite_connect(connection: Any, record: object) -> None:
    # sqlite3 would begin transactions by itself, and not before DDL; _on_sqlite_begin does it right.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")


def _on_sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _use_wal(engine: Engine) -> None:
    """Let readers read while one writes. The mode stays with the file.

    SQLite does not wait for its turn at this change, so that processes which start at once are told "locked".
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        raw = engine.raw_connection()
        try:
            cursor = raw.cursor()
            mode = cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode == "wal":
                return
            raise OSError(f"the file system has no shared memory for SQLite's WAL (journal mode {mode})")
        except engine.dialect.dbapi.OperationalError:  # type: ignore[union-attr]
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        finally:
            raw.close()
