"""The history's tables. A change here needs a migration beside those in ``migrations/versions``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, in UTC in the database: SQLite keeps no time zone, so there it is written and read as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Write UTC; a moment without a time zone is a programmer's mistake."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """What all tables share: names of constraints that migrations can refer to, and how types are kept."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012


class ReleaseRow(Table):
    """A release. ``objects`` is gzip; its digest is that of the bytes before compression."""

    __tablename__ = "releases"
    __table_args__ = (
        UniqueConstraint("endpoint", "number"),
        UniqueConstraint("endpoint", "run_id"),
        CheckConstraint("status IN ('pending', 'good', 'failed', 'superseded', 'broken')", name="status"),
        CheckConstraint("number > 0", name="number"),
        # At most one release of an endpoint is good, whatever the program above does.
        Index(
            "uq_releases_good",
            "endpoint",
            unique=True,
            sqlite_where=text("status = 'good'"),
            postgresql_where=text("status = 'good'"),
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    endpoint: Mapped[str] = mapped_column(String(253))
    number: Mapped[int]
    run_id: Mapped[str] = mapped_column(String(600))
    cluster: Mapped[str] = mapped_column(String(253))
    namespace: Mapped[str] = mapped_column(String(253))
    status: Mapped[str] = mapped_column(String(16), index=True)
    label: Mapped[str] = mapped_column(String(63))
    digest: Mapped[str] = mapped_column(String(64))
    plan_digest: Mapped[str] = mapped_column(String(64))
    plan: Mapped[dict[str, Any]]
    overrides: Mapped[dict[str, Any]]
    objects: Mapped[bytes] = mapped_column(LargeBinary)
    images: Mapped[list[str]]
    weights_source: Mapped[str] = mapped_column(Text)
    weights_digest: Mapped[str | None] = mapped_column(String(128))
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    fencing: Mapped[int | None] = mapped_column(BigInteger)
    failure: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    rollback_of: Mapped[int | None]
    returning_to: Mapped[int | None]
    evidence: Mapped[str | None] = mapped_column(Text)


class ProbeRow(Table):
    """A successful probe of a release."""

    __tablename__ = "probes"

    id: Mapped[int] = mapped_column(primary_key=True)
    release_id: Mapped[int] = mapped_column(ForeignKey("releases.id", ondelete="CASCADE"), index=True)
    through: Mapped[str] = mapped_column(String(16))
    answer: Mapped[str] = mapped_column(Text)
    result: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class BenchmarkRow(Table):
    """A benchmark of a release; the figures are ``slipway.releases.records.Figures``."""

    __tablename__ = "benchmarks"
    __table_args__ = (UniqueConstraint("release_id", "raw_reference"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    release_id: Mapped[int] = mapped_column(ForeignKey("releases.id", ondelete="CASCADE"), index=True)
    workload: Mapped[str] = mapped_column(String(253), index=True)
    valid: Mapped[bool]
    raw: Mapped[dict[str, Any]]
    raw_reference: Mapped[str] = mapped_column(String(1024))
    created_at: Mapped[datetime]
    duration: Mapped[float | None]
    completed: Mapped[int]
    failed: Mapped[int]
    total_input_tokens: Mapped[int | None] = mapped_column(BigInteger)
    total_output_tokens: Mapped[int | None] = mapped_column(BigInteger)
    request_throughput: Mapped[float | None]
    request_goodput: Mapped[float | None]
    output_throughput: Mapped[float | None]
    total_token_throughput: Mapped[float | None]
    mean_ttft_ms: Mapped[float | None]
    p50_ttft_ms: Mapped[float | None]
    p99_ttft_ms: Mapped[float | None]
    mean_tpot_ms: Mapped[float | None]
    p50_tpot_ms: Mapped[float | None]
    p99_tpot_ms: Mapped[float | None]
    mean_itl_ms: Mapped[float | None]
    p50_itl_ms: Mapped[float | None]
    p99_itl_ms: Mapped[float | None]
    mean_e2el_ms: Mapped[float | None]
    p50_e2el_ms: Mapped[float | None]
    p99_e2el_ms: Mapped[float | None]


class FindingRow(Table):
    """A finding of the last check of a release."""

    __tablename__ = "findings"

    id: Mapped[int] = mapped_column(primary_key=True)
    release_id: Mapped[int] = mapped_column(ForeignKey("releases.id", ondelete="CASCADE"), index=True)
    check: Mapped[str] = mapped_column("check_id", String(253))
    severity: Mapped[str] = mapped_column(String(32))
    about: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    remedy: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


class ChangeRow(Table):
    """What a run did to an endpoint without making a release: scaling, removing."""

    __tablename__ = "changes"
    __table_args__ = (
        UniqueConstraint("endpoint", "run_id"),
        CheckConstraint("status IN ('pending', 'done', 'failed')", name="status"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    endpoint: Mapped[str] = mapped_column(String(253))
    run_id: Mapped[str] = mapped_column(String(600))
    release_id: Mapped[int] = mapped_column(ForeignKey("releases.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16), index=True)
    detail: Mapped[dict[str, Any]]
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    failure: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class StateRow(Table):
    """A state of an endpoint, from its first probe in that state to its last."""

    __tablename__ = "states"
    __table_args__ = (CheckConstraint("state IN ('serving', 'failing', 'stopped')", name="state"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    endpoint: Mapped[str] = mapped_column(String(253), index=True)
    cluster: Mapped[str] = mapped_column(String(253))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    release_number: Mapped[int]
    since: Mapped[datetime]
    seen: Mapped[datetime]
    seconds: Mapped[float | None]
    ttft_seconds: Mapped[float | None]
    alerted: Mapped[bool] = mapped_column(index=True)


class DriftRow(Table):
    """How an endpoint differs from its release; ``differences`` is a list of mappings, empty when it no longer does."""

    __tablename__ = "drifts"

    id: Mapped[int] = mapped_column(primary_key=True)
    endpoint: Mapped[str] = mapped_column(String(253), index=True)
    cluster: Mapped[str] = mapped_column(String(253))
    release_number: Mapped[int]
    differences: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    since: Mapped[datetime]
    seen: Mapped[datetime]
    alerted: Mapped[bool] = mapped_column(index=True)


class ToldAssetRow(Table):
    """An asset of Airflow's and when a run first told of it."""

    __tablename__ = "told_assets"

    name: Mapped[str] = mapped_column(String(600), primary_key=True)
    since: Mapped[datetime]


class HourRow(Table):
    """The probes of one endpoint in one hour, added up."""

    __tablename__ = "probe_hours"

    endpoint: Mapped[str] = mapped_column(String(253), primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    probes: Mapped[int]
    failures: Mapped[int]
    seconds_sum: Mapped[float]
    seconds_max: Mapped[float]
    streamed: Mapped[int]
    ttft_sum: Mapped[float]
    ttft_max: Mapped[float]


class InspectionRow(Table):
    """One look at a cluster with all that it found; ``findings`` is a list of mappings."""

    __tablename__ = "inspections"
    __table_args__ = (UniqueConstraint("cluster", "run_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    cluster: Mapped[str] = mapped_column(String(253))
    run_id: Mapped[str] = mapped_column(String(600))
    counts: Mapped[dict[str, Any]]
    findings: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(index=True)


class PreparationRow(Table):
    """One preparation of a cluster; ``plan`` is a list of outlooks, ``failures`` maps steps to reasons."""

    __tablename__ = "preparations"
    __table_args__ = (
        UniqueConstraint("cluster", "run_id"),
        CheckConstraint("status IN ('planned', 'done', 'failed', 'rejected')", name="status"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    cluster: Mapped[str] = mapped_column(String(253))
    run_id: Mapped[str] = mapped_column(String(600))
    status: Mapped[str] = mapped_column(String(16))
    plan: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    approver: Mapped[str] = mapped_column(Text)
    failures: Mapped[dict[str, Any]]
    reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(index=True)
    finished_at: Mapped[datetime | None]
