"""The first tables: releases, probes, benchmarks, findings.

A migration is history too: it says in its own words what it made, and never imports ``tables``.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("endpoint", sa.String(length=253), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(length=600), nullable=False),
        sa.Column("cluster", sa.String(length=253), nullable=False),
        sa.Column("namespace", sa.String(length=253), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("label", sa.String(length=63), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("plan_digest", sa.String(length=64), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("overrides", sa.JSON(), nullable=False),
        sa.Column("objects", sa.LargeBinary(), nullable=False),
        sa.Column("images", sa.JSON(), nullable=False),
        sa.Column("weights_source", sa.Text(), nullable=False),
        sa.Column("weights_digest", sa.String(length=128), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("fencing", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'good', 'failed', 'superseded', 'broken')", name=op.f("ck_releases_status")
        ),
        sa.CheckConstraint("number > 0", name=op.f("ck_releases_number")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint("endpoint", "number", name=op.f("uq_releases_endpoint_number")),
        sa.UniqueConstraint("endpoint", "run_id", name=op.f("uq_releases_endpoint_run_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_releases_status"), "releases", ["status"], unique=False)
    op.create_index(
        "uq_releases_good",
        "releases",
        ["endpoint"],
        unique=True,
        sqlite_where=sa.text("status = 'good'"),
        postgresql_where=sa.text("status = 'good'"),
    )
    op.create_table(
        "benchmarks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("workload", sa.String(length=253), nullable=False),
        sa.Column("valid", sa.Boolean(), nullable=False),
        sa.Column("raw", sa.JSON(), nullable=False),
        sa.Column("raw_reference", sa.String(length=1024), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("duration", sa.Double(), nullable=True),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("total_input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("total_output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("request_throughput", sa.Double(), nullable=True),
        sa.Column("request_goodput", sa.Double(), nullable=True),
        sa.Column("output_throughput", sa.Double(), nullable=True),
        sa.Column("total_token_throughput", sa.Double(), nullable=True),
        sa.Column("mean_ttft_ms", sa.Double(), nullable=True),
        sa.Column("p50_ttft_ms", sa.Double(), nullable=True),
        sa.Column("p99_ttft_ms", sa.Double(), nullable=True),
        sa.Column("mean_tpot_ms", sa.Double(), nullable=True),
        sa.Column("p50_tpot_ms", sa.Double(), nullable=True),
        sa.Column("p99_tpot_ms", sa.Double(), nullable=True),
        sa.Column("mean_itl_ms", sa.Double(), nullable=True),
        sa.Column("p50_itl_ms", sa.Double(), nullable=True),
        sa.Column("p99_itl_ms", sa.Double(), nullable=True),
        sa.Column("mean_e2el_ms", sa.Double(), nullable=True),
        sa.Column("p50_e2el_ms", sa.Double(), nullable=True),
        sa.Column("p99_e2el_ms", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["release_id"], ["releases.id"], name=op.f("fk_benchmarks_release_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_benchmarks")),
        sa.UniqueConstraint(
            "release_id", "raw_reference", name=op.f("uq_benchmarks_release_id_raw_reference")
        ),
    )
    op.create_index(op.f("ix_benchmarks_release_id"), "benchmarks", ["release_id"], unique=False)
    op.create_index(op.f("ix_benchmarks_workload"), "benchmarks", ["workload"], unique=False)
    op.create_table(
        "findings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("check_id", sa.String(length=253), nullable=False),
        sa.Column("severity", sa.String(length=32), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["release_id"], ["releases.id"], name=op.f("fk_findings_release_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_findings")),
    )
    op.create_index(op.f("ix_findings_release_id"), "findings", ["release_id"], unique=False)
    op.create_table(
        "probes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("through", sa.String(length=16), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["release_id"], ["releases.id"], name=op.f("fk_probes_release_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probes")),
    )
    op.create_index(op.f("ix_probes_release_id"), "probes", ["release_id"], unique=False)
