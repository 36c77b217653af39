"""Which assets were told of to Airflow, and since when."""

from __future__ import annotations

from datetime import UTC, datetime

from slipway.releases.database import Database
from slipway.releases.tables import ToldAssetRow


class ToldAssets:
    """The part of the history that is about Airflow's assets."""

    database: Database

    def seconds_since_told(self, asset: str, *, now: datetime | None = None) -> float | None:
        """Return how long ago a run first told of an asset; None where that is this one, which is noted."""
        now = now or datetime.now(UTC)
        with self.database.writing(endpoint=f"asset {asset}") as session:
            row = session.get(ToldAssetRow, asset)
            if row is not None:
                return (now - row.since).total_seconds()
            session.add(ToldAssetRow(name=asset, since=now))
            return None
