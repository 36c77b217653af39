"""What the regular probes saw: states and when they changed, and hours of figures; never a row for each probe."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from slipway.releases.database import Database
from slipway.releases.records import HourRecord, StateRecord, StateSeen
from slipway.releases.rows import clean, state_of
from slipway.releases.tables import HourRow, StateRow

KEPT_HOURS = timedelta(days=90)
KEPT_STATES = timedelta(days=400)


class States:
    """The part of the history that is about the regular probes."""

    database: Database

    def record_state(self, endpoint: str, *, now: datetime | None = None, **values: Any) -> StateRecord:
        """Keep what a probe saw of one endpoint; the values are those of a ``StateSeen``."""
        return self.record_states([StateSeen(endpoint=endpoint, **values)], now=now)[0]

    def record_states(self, seen: Sequence[StateSeen], *, now: datetime | None = None) -> list[StateRecord]:
        """Keep what probes saw of many endpoints, each once, in one transaction: one for each costs ten times as much.

        A change to ``failing``, and from there to ``serving``, is to be told (``alerted`` False); a first probe that
        succeeds, and a stop by hand, are not.
        """
        now = now or datetime.now(UTC)
        names = {one.endpoint for one in seen}
        with self.database.writing(endpoint=names) as session:
            latest, hours = _latest(session, names), _hours(session, names, now)
            rows = []
            for one in seen:
                row = _row(latest.get(one.endpoint), one, now)
                session.add(row)
                rows.append(row)
                if one.state != "stopped":
                    session.add(_add_up(hours.get(one.endpoint), one, now))
            session.flush()
            return [state_of(row) for row in rows]

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


def _latest(session: Session, endpoints: Collection[str]) -> dict[str, StateRow]:
    newest = select(func.max(StateRow.id)).where(StateRow.endpoint.in_(endpoints)).group_by(StateRow.endpoint)
    wanted = select(StateRow).where(StateRow.id.in_(newest))
    return {row.endpoint: row for row in session.scalars(wanted)}


def _row(row: StateRow | None, seen: StateSeen, now: datetime) -> StateRow:
    """The row of the state that goes on, or of the one that begins."""
    if row is None or row.state != seen.state:
        failed_before = row is not None and row.state == "failing"
        news = seen.state == "failing" or (seen.state == "serving" and failed_before)
        place = {"endpoint": seen.endpoint, "cluster": seen.cluster}
        row = StateRow(**place, state=seen.state, since=now, alerted=not news)
    row.reason, row.release_number, row.seen = clean(seen.reason), seen.release_number, now
    row.seconds, row.ttft_seconds = seen.seconds, seen.ttft_seconds
    return row


def _hour(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _hours(session: Session, endpoints: Collection[str], now: datetime) -> dict[str, HourRow]:
    wanted = select(HourRow).where(HourRow.endpoint.in_(endpoints), HourRow.hour == _hour(now))
    return {row.endpoint: row for row in session.scalars(wanted)}


def _add_up(row: HourRow | None, seen: StateSeen, now: datetime) -> HourRow:
    if row is None:
        row = HourRow(endpoint=seen.endpoint, hour=_hour(now), probes=0, failures=0, streamed=0)
        row.seconds_sum = row.seconds_max = row.ttft_sum = row.ttft_max = 0.0
    row.probes += 1
    row.failures += seen.state == "failing"
    row.seconds_sum += seen.seconds or 0.0
    row.seconds_max = max(row.seconds_max, seen.seconds or 0.0)
    if seen.ttft_seconds is not None:
        row.streamed += 1
        row.ttft_sum += seen.ttft_seconds
        row.ttft_max = max(row.ttft_max, seen.ttft_seconds)
    return row
