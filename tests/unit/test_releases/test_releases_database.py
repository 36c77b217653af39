"""How the history's database is named, made, migrated, and shared by several processes."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import stat
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

import slipway.releases
from slipway.errors import ReleaseError, UsageError
from slipway.releases.database import HEAD, Database
from slipway.releases.database import database_url as named_url
from slipway.releases.store import History
from slipway.releases.tables import Table
from tests.unit.test_releases.pending import pending_values

WRITERS, EACH = 4, 8


def test_an_unset_url_is_a_file_in_the_users_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLIPWAY_DATABASE_URL", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    History.open()
    path = tmp_path / "slipway" / "history.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("not a url", "not a database URL"),
        ("postgresql://ada:s3cret@host:port/db", "not a database URL"),
        ("mysql://ada:s3cret@host/db", "mysql is no database that the history knows"),
        ("postgresql+asyncpg://ada:s3cret@host/db", r"postgresql\+asyncpg is no database"),
        ("postgresql://ada:s3cret@host", "names no database"),
        ("sqlite://", "needs an absolute path"),
        ("sqlite:///history.db", "needs an absolute path"),
    ],
)
def test_a_url_that_cannot_be_meant_is_a_users_mistake(
    url: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", url)
    with pytest.raises(UsageError, match=why) as caught:
        named_url()
    assert caught.value.exit_status == 2
    assert "s3cret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_one_line_without_the_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"postgresql://ada:s3cret@/history?host={tmp_path}")
    with pytest.raises(ReleaseError, match="cannot be used") as caught:
        History.open()
    assert caught.value.exit_status == 1
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.db"
    path.write_text("this is a text of more than sixteen bytes and no database")
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{path}")
    with pytest.raises(ReleaseError, match="file is not a database"):
        History.open()


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{tmp_path / 'file' / 'history.db'}")
    with pytest.raises(ReleaseError, match=r"cannot be used.*history\.db"):
        History.open()


def test_migrations_make_the_tables_that_the_code_has(database_url: str) -> None:
    database = Database(named_url())
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Table.metadata) == []
        assert context.get_current_revision() == HEAD


def test_an_older_history_keeps_its_releases_and_their_results(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.releases.database.HEAD", "0001")
    database = Database(named_url())
    now = datetime.now(UTC)
    values = pending_values(created_at=now, status="pending", number=1, plan_digest="0" * 64)
    columns = {
        key: json.dumps(value) if isinstance(value, dict | list) else value for key, value in values.items()
    }
    names, marks = ", ".join(columns), ", ".join(f":{key}" for key in columns)
    with database.writing() as session:
        columns["objects"] = gzip.compress(columns["objects"])
        session.execute(text(f"INSERT INTO releases ({names}) VALUES ({marks})"), columns)
        probe = "release_id, through, answer, result, created_at) VALUES (1, 'release', '', '{}', :now)"
        session.execute(text(f"INSERT INTO probes ({probe}"), {"now": now})
    monkeypatch.undo()
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", database_url)

    history = History.open()

    [release] = history.list()
    assert (release.number, release.rollback_of, release.evidence) == (1, None, None)
    assert len(history.probes(release.id)) == 1


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(slipway.releases.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_an_up_to_date_history_opens_without_alembic(database_url: str) -> None:
    History.open()
    program = "import sys; from slipway.releases.store import History; History.open(); print('alembic' in sys.modules)"
    assert _python(program) == "False"


def test_importing_the_package_imports_no_sqlalchemy() -> None:
    program = (
        "import sys, slipway.releases, slipway.releases.records, slipway.releases.artifacts; "
        "print('sqlalchemy' in sys.modules or 'boto3' in sys.modules)"
    )
    assert _python(program) == "False"


def test_tables_of_a_newer_slipway_are_left_alone(database_url: str) -> None:
    database = Database(named_url())
    with database.writing() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ReleaseError, match=rf"another Slipway \(revision 9999, this Slipway knows {HEAD}\)"):
        History.open()


def test_a_migration_that_is_cut_off_leaves_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(connection: object) -> None:
        real(connection)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    real = slipway.releases.database._upgrade  # type: ignore[attr-defined]
    monkeypatch.setattr("slipway.releases.database._upgrade", cut_off)
    with pytest.raises(KeyboardInterrupt):
        History.open()
    monkeypatch.setattr("slipway.releases.database._upgrade", real)
    assert History.open().list() == []


def test_two_good_releases_of_an_endpoint_cannot_be_written(database_url: str) -> None:
    history = History.open()
    for _ in range(2):
        history.create_pending(**pending_values())
    with pytest.raises(ReleaseError, match=r"(?i)unique"), history.database.writing() as session:
        session.execute(text("UPDATE releases SET status = 'good'"))


def write_some(writer: int) -> list[int]:
    """What one of several writers does; opens the history itself, so that they migrate at once, too."""
    history = History.open()
    return [
        history.create_pending(**pending_values(run_id=f"{writer}/{count}")).number for count in range(EACH)
    ]


@pytest.mark.parametrize("several", ["threads", "processes"])
def test_writers_that_start_at_once_get_all_numbers_once(database_url: str, several: str) -> None:
    writers = WRITERS if several == "threads" else 2
    pool: ThreadPoolExecutor | ProcessPoolExecutor = ThreadPoolExecutor(writers)
    if several == "processes":
        pool = ProcessPoolExecutor(writers, mp_context=multiprocessing.get_context("spawn"))
    with pool:
        numbers = [number for written in pool.map(write_some, range(writers)) for number in written]
    assert sorted(numbers) == list(range(1, writers * EACH + 1))


def make_good(run: int) -> str:
    history = History.open()
    release = history.by_run("qwen3-tiny", f"r{run}")
    assert release is not None
    try:
        return history.mark_good(release.id).status
    except ReleaseError:
        return "refused"


def test_releases_that_finish_at_once_leave_the_newest_good(database_url: str) -> None:
    history = History.open()
    releases = [history.create_pending(**pending_values(run_id=f"r{run}")) for run in range(WRITERS * 2)]
    with ThreadPoolExecutor(WRITERS) as pool:
        outcomes = list(pool.map(make_good, range(WRITERS * 2)))
    good = history.last_good("qwen3-tiny")
    assert good is not None
    assert good.number == releases[-1].number
    assert outcomes[-1] == "good"
    assert sum(release.status == "good" for release in history.list()) == 1


def retry(attempt: int) -> int:
    return History.open().create_pending(**pending_values(run_id="the same run")).id


def test_attempts_of_one_run_at_once_make_one_release(database_url: str) -> None:
    with ThreadPoolExecutor(WRITERS) as pool:
        assert len(set(pool.map(retry, range(WRITERS * 2)))) == 1


def test_readers_read_while_one_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{tmp_path / 'history.db'}")
    history = History.open()
    history.create_pending(**pending_values())
    with history.database.writing() as session:
        session.execute(text("UPDATE releases SET reason = 'later'"))
        assert History.open().list()[0].reason == "a test"
    assert history.list()[0].reason == "later"


def _python(program: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_engine_keeps_no_connection(database_url: str) -> None:
    database = Database(named_url())
    with database.reading() as session:
        session.execute(text("SELECT 1"))
    assert type(database.engine.pool).__name__ == "NullPool"


def test_the_server_is_asked_through_psycopg2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", "postgresql://ada@host/history")
    assert create_engine(named_url()).dialect.driver == "psycopg2"
