"""What a release showed: findings, probes and benchmarks, written once and never changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select

from slipway.releases.database import Database
from slipway.releases.figures import figures_of, is_valid, without_lists
from slipway.releases.records import BenchmarkRecord, FindingLike, FindingRecord, ProbeRecord
from slipway.releases.rows import benchmark_of, clean, existing, finding_of, probe_of
from slipway.releases.tables import BenchmarkRow, FindingRow, ProbeRow


class Results:
    """The part of the history that is about one release's results. Lists come in the order of their writing.

    Args:
        database: an open history database.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    def record_findings(self, release_id: int, findings: Iterable[FindingLike]) -> None:
        """Keep what the checks found; what an earlier attempt of the same check step found is replaced.

        Raises:
            ReleaseError: there is no such release.
        """
        with self.database.writing() as session:
            existing(session, release_id)
            session.execute(delete(FindingRow).where(FindingRow.release_id == release_id))
            session.add_all(
                FindingRow(
                    release_id=release_id,
                    check=finding.check,
                    severity=finding.severity,
                    about=clean(finding.about),
                    reason=clean(finding.reason),
                    remedy=clean(finding.remedy),
                    created_at=datetime.now(UTC),
                )
                for finding in findings
            )

    def findings(self, release_id: int) -> Sequence[FindingRecord]:
        """Return what the last check of a release found."""
        with self.database.reading() as session:
            rows = session.scalars(
                select(FindingRow).where(FindingRow.release_id == release_id).order_by(FindingRow.id)
            )
            return [finding_of(row) for row in rows]

    def record_probe(self, release_id: int, *, through: str, result: Mapping[str, Any]) -> ProbeRecord:
        """Keep a successful probe.

        Args:
            release_id: the release.
            through: ``release`` or ``published``.
            result: the probe's result; its ``answer``, where it has one, is kept beside it.

        Raises:
            ReleaseError: there is no such release.
        """
        with self.database.writing() as session:
            existing(session, release_id)
            row = ProbeRow(
                release_id=release_id,
                through=through,
                answer=clean(str(result.get("answer") or "")),
                result=dict(result),
                created_at=datetime.now(UTC),
            )
            session.add(row)
            session.flush()
            return probe_of(row)

    def probes(self, release_id: int) -> Sequence[ProbeRecord]:
        """Return the successful probes of a release."""
        with self.database.reading() as session:
            rows = session.scalars(
                select(ProbeRow).where(ProbeRow.release_id == release_id).order_by(ProbeRow.id)
            )
            return [probe_of(row) for row in rows]

    def record_benchmark(
        self, release_id: int, *, workload: str, raw: Mapping[str, Any], raw_reference: str
    ) -> BenchmarkRecord:
        """Keep a benchmark. The same reference twice is the same benchmark and is kept once.

        Args:
            release_id: the release that was measured.
            workload: the workload's name.
            raw: the client's JSON.
            raw_reference: where the artefact store has it unmodified.

        Raises:
            ReleaseError: there is no such release.
        """
        with self.database.writing() as session:
            # With the release's row held, a second writer of the same reference sees the first one's row.
            existing(session, release_id, lock=True)
            same = (BenchmarkRow.release_id == release_id) & (BenchmarkRow.raw_reference == raw_reference)
            row = session.scalars(select(BenchmarkRow).where(same)).one_or_none()
            if row is None:
                row = BenchmarkRow(
                    release_id=release_id,
                    workload=workload,
                    valid=is_valid(raw),
                    raw=without_lists(raw),
                    raw_reference=raw_reference,
                    created_at=datetime.now(UTC),
                    **figures_of(raw).model_dump(),
                )
                session.add(row)
                session.flush()
            return benchmark_of(row)

    def benchmarks(self, release_id: int) -> Sequence[BenchmarkRecord]:
        """Return the benchmarks of a release."""
        with self.database.reading() as session:
            rows = session.scalars(
                select(BenchmarkRow).where(BenchmarkRow.release_id == release_id).order_by(BenchmarkRow.id)
            )
            return [benchmark_of(row) for row in rows]
