"""What the regular probes saw: states and when they changed, and hours of figures; never a row for each probe."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from slipway.releases.database import Database
from slipway.releases.records import HourRecord, State, StateRecord
from slipway.releases.rows import clean, state_of
from slipway.releases.tables import HourRow, StateRow

KEPT_HOURS = timedelta(days=90)
KEPT_STATES = timedelta(days=400)


class States:
    """The part of the history that is about the regular probes."""

    database: Database

    def record_state(
        self,
        endpoint: str,
        *,
        cluster: str,
        state: State,
        release_number: int,
        reason: str = "",
        seconds: float | None = None,
        ttft_seconds: float | None = None,
        now: datetime | None = None,
    ) -> StateRecord:
        """Keep what a probe saw.

        A change to ``failing``, and from there to ``serving``, is to be told (``alerted`` False); a first probe that
        succeeds, and a stop by hand, are not.
        """
        now = now or datetime.now(UTC)
        with self.database.writing(endpoint=endpoint) as session:
            row = _latest(session, endpoint)
            if row is None or row.state != state:
                failed_before = row is not None and row.state == "failing"
                row = StateRow(
                    endpoint=endpoint,
                    cluster=cluster,
                    state=state,
                    since=now,
                    alerted=not (state == "failing" or (state == "serving" and failed_before)),
                )
                session.add(row)
            row.reason, row.release_number, row.seen = clean(reason), release_number, now
            row.seconds, row.ttft_seconds = seconds, ttft_seconds
            if state != "stopped":
                _add_up(session, endpoint, now, state == "failing", seconds, ttft_seconds)
            session.flush()
            return state_of(row)

    def untold_states(self) -> Sequence[StateRecord]:
        """Return the changes of state that nobody was told of yet, the oldest first."""
        wanted = select(StateRow).where(StateRow.alerted.is_(False)).order_by(StateRow.id)
        with self.database.reading() as session:
            return [state_of(row) for row in session.scalars(wanted)]

    def note_told(self, state_id: int) -> None:
        """Note that a change was told."""
        with self.database.writing() as session:
            session.get_one(StateRow, state_id, with_for_update=True).alerted = True

    def states(self, endpoint: str, *, limit: int = 50) -> Sequence[StateRecord]:
        """Return an endpoint's states, the newest first."""
        wanted = select(StateRow).filter_by(endpoint=endpoint).order_by(StateRow.id.desc()).limit(limit)
        with self.database.reading() as session:
            return [state_of(row) for row in session.scalars(wanted)]

    def hours(self, endpoint: str, *, limit: int = 24) -> Sequence[HourRecord]:
        """Return the figures of an endpoint's last hours, the newest first."""
        wanted = select(HourRow).filter_by(endpoint=endpoint).order_by(HourRow.hour.desc()).limit(limit)
        with self.database.reading() as session:
            return [
                HourRecord(**{name: getattr(row, name) for name in HourRecord.model_fields})
                for row in session.scalars(wanted)
            ]

    def forget_old_states(self, *, now: datetime | None = None) -> None:
        """Delete hours older than 90 days and states that ended more than 400 days ago."""
        now = now or datetime.now(UTC)
        with self.database.writing() as session:
            session.execute(delete(HourRow).where(HourRow.hour < now - KEPT_HOURS))
            session.execute(delete(StateRow).where(StateRow.seen < now - KEPT_STATES))


def _latest(session: Session, endpoint: str) -> StateRow | None:
    wanted = select(StateRow).filter_by(endpoint=endpoint).order_by(StateRow.id.desc()).limit(1)
    return session.scalars(wanted).first()


def _add_up(
    session: Session, endpoint: str, now: datetime, failed: bool, seconds: float | None, ttft: float | None
) -> None:
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    row = session.get(HourRow, (endpoint, hour))
    if row is None:
        row = HourRow(endpoint=endpoint, hour=hour, probes=0, failures=0, streamed=0)
        row.seconds_sum = row.seconds_max = row.ttft_sum = row.ttft_max = 0.0
        session.add(row)
    row.probes += 1
    row.failures += failed
    row.seconds_sum += seconds or 0.0
    row.seconds_max = max(row.seconds_max, seconds or 0.0)
    if ttft is not None:
        row.streamed += 1
        row.ttft_sum += ttft
        row.ttft_max = max(row.ttft_max, ttft)
