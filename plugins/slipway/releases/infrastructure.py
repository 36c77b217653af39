"""The history of whole clusters: what each look at one found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import delete, func, select

from slipway.releases.database import Database, database_url
from slipway.releases.records import FindingLike
from slipway.releases.rows import clean
from slipway.releases.tables import InspectionRow

KEPT = timedelta(days=180)
_FIELDS = ("check", "severity", "about", "reason", "remedy")


class InspectionRecord(BaseModel):
    """One look at a cluster.

    Attributes:
        run_id: who looked: a run of the DAG.
        counts: how many findings of each severity.
        findings: each with check, severity, about, reason and remedy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int
    cluster: str
    run_id: str
    counts: dict[str, int]
    findings: list[dict[str, str]]
    created_at: AwareDatetime


class Infrastructure:
    """What was found in clusters. Safe in several threads and processes: every call is one transaction."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @staticmethod
    def open() -> Infrastructure:
        """Open the history that the environment names; its tables are made or brought up to date first.

        Raises:
            UsageError: ``SLIPWAY_DATABASE_URL`` cannot be meant.
            ReleaseError: the database cannot be opened, or is a newer Slipway's.
        """
        return Infrastructure(Database(database_url()))

    def record(
        self, cluster: str, *, run_id: str, findings: Iterable[FindingLike], now: datetime | None = None
    ) -> InspectionRecord:
        """Keep what a run found in a cluster; what an earlier attempt of the same run found is replaced.

        Looks that are older than half a year are dropped.
        """
        now = now or datetime.now(UTC)
        listed = [{field: clean(str(getattr(one, field))) for field in _FIELDS} for one in findings]
        with self.database.writing() as session:
            session.execute(
                delete(InspectionRow).where(InspectionRow.cluster == cluster, InspectionRow.run_id == run_id)
            )
            session.execute(delete(InspectionRow).where(InspectionRow.created_at < now - KEPT))
            row = InspectionRow(
                cluster=cluster,
                run_id=run_id,
                counts=dict(Counter(one["severity"] for one in listed)),
                findings=listed,
                created_at=now,
            )
            session.add(row)
            session.flush()
            return _record_of(row)

    def latest(self) -> Sequence[InspectionRecord]:
        """Return the latest look at each cluster, by the clusters' names."""
        newest = select(func.max(InspectionRow.id)).group_by(InspectionRow.cluster)
        wanted = select(InspectionRow).where(InspectionRow.id.in_(newest)).order_by(InspectionRow.cluster)
        with self.database.reading() as session:
            return [_record_of(row) for row in session.scalars(wanted)]

    def list(self, *, cluster: str | None = None, limit: int = 50) -> Sequence[InspectionRecord]:
        """Return the latest looks, the newest first, at one cluster or at all."""
        wanted = select(InspectionRow).order_by(InspectionRow.created_at.desc(), InspectionRow.id.desc())
        if cluster is not None:
            wanted = wanted.where(InspectionRow.cluster == cluster)
        with self.database.reading() as session:
            return [_record_of(row) for row in session.scalars(wanted.limit(limit))]


def _record_of(row: InspectionRow) -> InspectionRecord:
    return InspectionRecord(
        id=row.id,
        cluster=row.cluster,
        run_id=row.run_id,
        counts=row.counts,
        findings=row.findings,
        created_at=row.created_at,
    )
