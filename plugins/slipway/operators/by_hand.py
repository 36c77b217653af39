"""What all jobs have in common that a person or another system starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param

ENDPOINT_PATTERN = r"^[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?$"
"""What the catalog takes as a name, for forms about endpoints that need not be in it any more."""

RETRIES: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(seconds=5)}
RECORD_RETRIES: dict[str, Any] = {"retries": 5, "retry_delay": timedelta(seconds=15)}
"""Of the step that must not be lost: an API server that is away for a minute costs no return."""


def job_by_hand(
    *, dag_id: str, doc_md: str, params: dict[str, Param], about: str = "release", most_runs: int = 16
) -> DAG:
    """Make a DAG without a schedule and without tasks.

    There is no dagrun_timeout: it would skip the teardown that returns to the last good release.

    Args:
        dag_id: the DAG's id.
        doc_md: what people read above the form.
        params: the form.
        about: a tag: what kind of thing the job changes.
        most_runs: how many runs there may be at once.
    """
    return DAG(
        dag_id=dag_id,
        doc_md=doc_md,
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=most_runs,
        params=params,
        default_args={**RETRIES, "owner": "slipway"},
        tags=["slipway", about],
    )
