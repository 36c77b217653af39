"""Runs migrations on the connection, and in the transaction, that ``slipway.releases.database`` gives."""

from __future__ import annotations

from alembic import context

from slipway.releases.tables import Table

context.configure(connection=context.config.attributes["connection"], target_metadata=Table.metadata)
context.run_migrations()
