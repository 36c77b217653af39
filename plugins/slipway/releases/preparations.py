"""The history of preparing clusters: what was planned, who approved it, and how each step ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select

from slipway.errors import ReleaseError
from slipway.releases.database import Database, database_url
from slipway.releases.rows import clean
from slipway.releases.tables import PreparationRow

Status = Literal["planned", "done", "failed", "rejected"]


class PreparationRecord(BaseModel):
    """One preparation of a cluster.

    Attributes:
        run_id: who prepared: a run of the DAG, or a terminal.
        plan: the outlook of each step, as it was shown.
        approver: who approved it or turned it down; "" while nobody has.
        failures: why each step failed that did.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    cluster: str
    run_id: str
    status: Status
    plan: list[dict[str, Any]]
    approver: str
    failures: dict[str, Any]
    reason: str
    actor: str
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


class Preparations:
    """Preparations of clusters. Safe in several threads and processes: every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @staticmethod
    def open() -> Preparations:
        """Open the history that the environment names; its tables are made or brought up to date first.

        Raises:
            UsageError: ``SLIPWAY_DATABASE_URL`` cannot be meant.
            ReleaseError: the database cannot be opened, or is a newer Slipway's.
        """
        return Preparations(Database(database_url()))

    def begin(
        self, cluster: str, *, run_id: str, plan: Iterable[Mapping[str, Any]], reason: str, actor: str
    ) -> PreparationRecord:
        """Write what is planned, before anything changes.

        A run that plans again (a task that is tried again) replaces its own plan, unless somebody has approved it: then
        that stays what counts.
        """
        listed = [_clean(dict(one)) for one in plan]
        with self.database.writing() as session:
            row = session.scalars(_of_run(cluster, run_id)).one_or_none()
            if row is None:
                row = PreparationRow(
                    cluster=cluster, run_id=run_id, approver="", created_at=datetime.now(UTC)
                )
                session.add(row)
            if not row.approver:
                row.status, row.plan, row.failures = "planned", listed, {}
                row.reason, row.actor = clean(reason), clean(actor)
            session.flush()
            return _record_of(row)

    def approve(self, cluster: str, *, run_id: str, approver: str) -> PreparationRecord:
        """Note who approved."""
        return self._change(cluster, run_id, approver=approver)

    def reject(self, cluster: str, *, run_id: str, approver: str) -> PreparationRecord:
        """Note who turned it down; nothing was made."""
        return self._change(
            cluster, run_id, approver=approver, status="rejected", finished_at=datetime.now(UTC)
        )

    def finish(self, cluster: str, *, run_id: str, failures: Mapping[str, str]) -> PreparationRecord:
        """Note how it ended: done where no step failed."""
        status = "failed" if failures else "done"
        told = {step: clean(why) for step, why in failures.items()}
        return self._change(cluster, run_id, status=status, failures=told, finished_at=datetime.now(UTC))

    def get(self, cluster: str, *, run_id: str) -> PreparationRecord:
        """Return what a run does to a cluster.

        Raises:
            ReleaseError: it has planned nothing.
        """
        with self.database.reading() as session:
            return _record_of(
                _existing(session.scalars(_of_run(cluster, run_id)).one_or_none(), cluster, run_id)
            )

    def list(self, *, cluster: str | None = None, limit: int = 50) -> Sequence[PreparationRecord]:
        """Return the latest preparations, the newest first, of one cluster or of all."""
        wanted = select(PreparationRow).order_by(PreparationRow.created_at.desc(), PreparationRow.id.desc())
        if cluster is not None:
            wanted = wanted.where(PreparationRow.cluster == cluster)
        with self.database.reading() as session:
            return [_record_of(row) for row in session.scalars(wanted.limit(limit))]

    def _change(self, cluster: str, run_id: str, **values: Any) -> PreparationRecord:
        with self.database.writing() as session:
            row = _existing(session.scalars(_of_run(cluster, run_id)).one_or_none(), cluster, run_id)
            for name, value in values.items():
                setattr(row, name, value)
            session.flush()
            return _record_of(row)


def _of_run(cluster: str, run_id: str) -> Any:
    return select(PreparationRow).filter_by(cluster=cluster, run_id=run_id)


def _existing(row: PreparationRow | None, cluster: str, run_id: str) -> PreparationRow:
    if row is None:
        raise ReleaseError(
            "nothing was planned",
            about=f"{cluster}, {run_id}",
            remedy="Do Airflow's services use the same SLIPWAY_DATABASE_URL?",
        )
    return row


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return clean(value) if isinstance(value, str) else value


def _record_of(row: PreparationRow) -> PreparationRecord:
    return PreparationRecord(**{name: getattr(row, name) for name in PreparationRecord.model_fields})
