"""What somebody changed about endpoints since they were released: one row from when it was first seen to when last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    op.create_table(
        "drifts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("endpoint", sa.String(length=253), nullable=False),
        sa.Column("cluster", sa.String(length=253), nullable=False),
        sa.Column("release_number", sa.Integer(), nullable=False),
        sa.Column("differences", sa.JSON(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("alerted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drifts")),
    )
    op.create_index(op.f("ix_drifts_endpoint"), "drifts", ["endpoint"], unique=False)
    op.create_index(op.f("ix_drifts_alerted"), "drifts", ["alerted"], unique=False)
