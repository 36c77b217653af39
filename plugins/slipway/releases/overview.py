"""What people look at: endpoints and their releases in a few columns each, without their objects and plans."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from slipway.releases.database import Database
from slipway.releases.records import BenchmarkRecord, EndpointLine, ReleaseLine
from slipway.releases.rows import benchmark_of, state_of
from slipway.releases.tables import BenchmarkRow, DriftRow, ReleaseRow, StateRow

_COLUMNS = [getattr(ReleaseRow, name) for name in ReleaseLine.model_fields]


class Overview:
    """The part of the history that pages show."""

    database: Database

    def endpoints(self) -> Sequence[EndpointLine]:
        """Return every endpoint that was ever deployed, by name, each with its newest release and how it stands."""
        newest = select(func.max(ReleaseRow.id)).group_by(ReleaseRow.endpoint)
        states = select(func.max(StateRow.id)).group_by(StateRow.endpoint)
        drifts = select(func.max(DriftRow.id)).group_by(DriftRow.endpoint)
        good = select(ReleaseRow.endpoint, ReleaseRow.number).where(ReleaseRow.status == "good")
        with self.database.reading() as session:
            serving = {endpoint: number for endpoint, number in session.execute(good)}
            seen = {
                row.endpoint: row for row in session.scalars(select(StateRow).where(StateRow.id.in_(states)))
            }
            drifted = {
                row.endpoint: len(row.differences)
                for row in session.scalars(select(DriftRow).where(DriftRow.id.in_(drifts)))
            }
            wanted = select(*_COLUMNS).where(ReleaseRow.id.in_(newest)).order_by(ReleaseRow.endpoint)
            return [
                EndpointLine(
                    newest=line,
                    good=serving.get(line.endpoint),
                    state=state_of(seen[line.endpoint]) if line.endpoint in seen else None,
                    differences=drifted.get(line.endpoint, 0),
                )
                for row in session.execute(wanted)
                for line in [ReleaseLine(**row._mapping)]
            ]

    def good_ids(self) -> set[int]:
        """Return the ids of the releases that serve."""
        with self.database.reading() as session:
            return set(session.scalars(select(ReleaseRow.id).where(ReleaseRow.status == "good")))

    def clusters_in_use(self) -> list[str]:
        """Return the clusters in which something serves."""
        wanted = select(ReleaseRow.cluster).where(ReleaseRow.status == "good").distinct()
        with self.database.reading() as session:
            return sorted(session.scalars(wanted))

    def lines(self, endpoint: str, *, limit: int = 50) -> Sequence[ReleaseLine]:
        """Return an endpoint's releases, the newest first."""
        wanted = select(*_COLUMNS).where(ReleaseRow.endpoint == endpoint)
        with self.database.reading() as session:
            rows = session.execute(wanted.order_by(ReleaseRow.number.desc()).limit(limit))
            return [ReleaseLine(**row._mapping) for row in rows]

    def line(self, release_id: int) -> ReleaseLine | None:
        """Return one release, or None where there is none of that id."""
        with self.database.reading() as session:
            row = session.execute(select(*_COLUMNS).where(ReleaseRow.id == release_id)).first()
            return ReleaseLine(**row._mapping) if row else None

    def measured(self, endpoint: str, *, limit: int = 20) -> Sequence[tuple[int, BenchmarkRecord]]:
        """Return an endpoint's latest benchmarks with the numbers of their releases, the newest first."""
        wanted = (
            select(ReleaseRow.number, BenchmarkRow)
            .join(ReleaseRow, ReleaseRow.id == BenchmarkRow.release_id)
            .where(ReleaseRow.endpoint == endpoint)
            .order_by(BenchmarkRow.id.desc())
            .limit(limit)
        )
        with self.database.reading() as session:
            return [(number, benchmark_of(row)) for number, row in session.execute(wanted)]
