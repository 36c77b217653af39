"""The life of an endpoint after its deployment: rollbacks, changes by hand, states, and hours of probes.

Columns are added, never rewritten: SQLite would make the table anew, and dropping the old one deletes the rows of the
tables that refer to it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    op.add_column("releases", sa.Column("rollback_of", sa.Integer(), nullable=True))
    op.add_column("releases", sa.Column("returning_to", sa.Integer(), nullable=True))
    op.add_column("releases", sa.Column("evidence", sa.Text(), nullable=True))
    op.create_table(
        "changes",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("endpoint", sa.String(length=253), nullable=False),
        sa.Column("run_id", sa.String(length=600), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('pending', 'done', 'failed')", name=op.f("ck_changes_status")),
        sa.ForeignKeyConstraint(
            ["release_id"], ["releases.id"], name=op.f("fk_changes_release_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_changes")),
        sa.UniqueConstraint("endpoint", "run_id", name=op.f("uq_changes_endpoint_run_id")),
    )
    op.create_index(op.f("ix_changes_release_id"), "changes", ["release_id"], unique=False)
    op.create_index(op.f("ix_changes_status"), "changes", ["status"], unique=False)
    op.create_table(
        "states",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("endpoint", sa.String(length=253), nullable=False),
        sa.Column("cluster", sa.String(length=253), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("release_number", sa.Integer(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("ttft_seconds", sa.Double(), nullable=True),
        sa.Column("alerted", sa.Boolean(), nullable=False),
        sa.CheckConstraint("state IN ('serving', 'failing', 'stopped')", name=op.f("ck_states_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_states")),
    )
    op.create_index(op.f("ix_states_endpoint"), "states", ["endpoint"], unique=False)
    op.create_index(op.f("ix_states_alerted"), "states", ["alerted"], unique=False)
    op.create_table(
        "probe_hours",
        sa.Column("endpoint", sa.String(length=253), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("seconds_sum", sa.Double(), nullable=False),
        sa.Column("seconds_max", sa.Double(), nullable=False),
        sa.Column("streamed", sa.Integer(), nullable=False),
        sa.Column("ttft_sum", sa.Double(), nullable=False),
        sa.Column("ttft_max", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "hour", name=op.f("pk_probe_hours")),
    )
