"""What the regular looks found changed since the release: only changes are kept, and nothing of what is as it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select

from slipway.releases.database import Database
from slipway.releases.records import DriftRecord
from slipway.releases.rows import clean
from slipway.releases.tables import DriftRow

KEPT_DRIFTS = timedelta(days=400)
_MOST = 50


class Drifts:
    """The part of the history that is about what others changed."""

    database: Database

    def record_drift(
        self,
        endpoint: str,
        *,
        cluster: str,
        release_number: int,
        differences: Iterable[Mapping[str, str]],
        now: datetime | None = None,
    ) -> DriftRecord | None:
        """Keep how an endpoint differs from its release; None where it is, and was, as it was released.

        Other differences than before, also none, are to be told (``alerted`` False). The same found again are not, and
        when the manager wrote last does not make them others.
        """
        now = now or datetime.now(UTC)
        found = [{key: clean(value) for key, value in one.items()} for one in differences][:_MOST]
        with self.database.writing(endpoint=endpoint) as session:
            wanted = select(DriftRow).filter_by(endpoint=endpoint).order_by(DriftRow.id.desc()).limit(1)
            row = session.scalars(wanted).first()
            if row is None and not found:
                return None
            if row is None or _essence(row.differences) != _essence(found):
                row = DriftRow(endpoint=endpoint, cluster=cluster, since=now, alerted=False)
                session.add(row)
            row.differences, row.release_number, row.seen = found, release_number, now
            session.flush()
            return _record(row)

    def drifted(self) -> dict[str, DriftRecord]:
        """Return how endpoints differ now, by endpoint; those that are as they were released are left out."""
        latest = select(func.max(DriftRow.id)).group_by(DriftRow.endpoint)
        wanted = select(DriftRow).where(DriftRow.id.in_(latest))
        with self.database.reading() as session:
            return {row.endpoint: _record(row) for row in session.scalars(wanted) if row.differences}

    def drifts(self, endpoint: str, *, limit: int = 20) -> Sequence[DriftRecord]:
        """Return how an endpoint differed, the newest first."""
        wanted = select(DriftRow).filter_by(endpoint=endpoint).order_by(DriftRow.id.desc()).limit(limit)
        with self.database.reading() as session:
            return [_record(row) for row in session.scalars(wanted)]

    def untold_drifts(self) -> Sequence[DriftRecord]:
        """Return what nobody was told of yet, the oldest first."""
        wanted = select(DriftRow).where(DriftRow.alerted.is_(False)).order_by(DriftRow.id)
        with self.database.reading() as session:
            return [_record(row) for row in session.scalars(wanted)]

    def note_drift_told(self, drift_id: int) -> None:
        """Note that it was told."""
        with self.database.writing() as session:
            session.get_one(DriftRow, drift_id, with_for_update=True).alerted = True

    def forget_old_drifts(self, *, now: datetime | None = None) -> None:
        """Delete what was last seen more than 400 days ago."""
        now = now or datetime.now(UTC)
        with self.database.writing() as session:
            session.execute(delete(DriftRow).where(DriftRow.seen < now - KEPT_DRIFTS))


def _essence(differences: Iterable[Mapping[str, str]]) -> list[list[tuple[str, str]]]:
    return sorted(sorted((key, one[key]) for key in one if key != "at") for one in differences)


def _record(row: DriftRow) -> DriftRecord:
    return DriftRecord(**{name: getattr(row, name) for name in DriftRecord.model_fields})
