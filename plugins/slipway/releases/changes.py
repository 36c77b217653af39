"""What runs do to an endpoint without making a release: scaling and removing, written before anything changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import select

from slipway.releases.database import Database
from slipway.releases.records import GOOD, SUPERSEDED, ChangeRecord
from slipway.releases.rows import change_of, clean, existing, good_one
from slipway.releases.tables import ChangeRow


class Changes:
    """The part of the history that is about changes."""

    database: Database

    def begin_change(
        self,
        *,
        release_id: int,
        run_id: str,
        kind: Literal["scale", "remove", "restart"],
        detail: Mapping[str, Any],
        reason: str = "",
        actor: str = "",
    ) -> ChangeRecord:
        """Write a change before it is made. A run that already wrote its change gets that one back.

        Raises:
            ReleaseError: there is no such release.
        """
        with self.database.writing() as session:
            endpoint = existing(session, release_id, lock=True).endpoint
            row = session.scalars(select(ChangeRow).filter_by(endpoint=endpoint, run_id=run_id)).one_or_none()
            if row is None:
                row = ChangeRow(
                    endpoint=endpoint,
                    run_id=run_id,
                    release_id=release_id,
                    kind=kind,
                    status="pending",
                    detail=dict(detail),
                    reason=clean(reason),
                    actor=clean(actor),
                    created_at=datetime.now(UTC),
                )
                session.add(row)
                session.flush()
            return change_of(row)

    def finish_change(
        self, change_id: int, *, failure: str | None = None, detail: Mapping[str, Any] | None = None
    ) -> ChangeRecord:
        """Say how a change ended. The first end stays."""
        with self.database.writing() as session:
            row = session.get_one(ChangeRow, change_id, with_for_update=True)
            if row.status == "pending":
                row.status = "failed" if failure else "done"
                row.failure, row.finished_at = clean(failure) if failure else None, datetime.now(UTC)
                row.detail = {**row.detail, **(detail or {})}
            return change_of(row)

    def change_by_run(self, endpoint: str, run_id: str) -> ChangeRecord | None:
        """Return what a run wrote that it would do to an endpoint."""
        wanted = select(ChangeRow).filter_by(endpoint=endpoint, run_id=run_id)
        with self.database.reading() as session:
            row = session.scalars(wanted).one_or_none()
            return change_of(row) if row else None

    def pending_changes(self) -> Sequence[ChangeRecord]:
        """Return all changes that are not finished, the oldest first."""
        wanted = select(ChangeRow).where(ChangeRow.status == "pending").order_by(ChangeRow.id)
        with self.database.reading() as session:
            return [change_of(row) for row in session.scalars(wanted)]

    def changes(self, endpoint: str, *, limit: int = 50) -> Sequence[ChangeRecord]:
        """Return an endpoint's changes, the newest first."""
        wanted = select(ChangeRow).filter_by(endpoint=endpoint).order_by(ChangeRow.id.desc()).limit(limit)
        with self.database.reading() as session:
            return [change_of(row) for row in session.scalars(wanted)]

    def retire(self, endpoint: str) -> None:
        """Note that nothing of an endpoint serves any more: it was removed. Its releases stay in the history."""
        with self.database.writing(endpoint=endpoint) as session:
            row = good_one(session, endpoint)
            if row is not None and row.status == GOOD:
                row.status = SUPERSEDED
