"""The note of a run: which endpoint, which release, and what became of it, where people list runs.

A task may not write its own run's note: Airflow's task API has no such call. So tasks leave what is known as XComs,
and a listener, which Airflow calls in the scheduler when a run ends, makes the note of them in that moment's own
transaction. It asks for nothing else, so it cannot hold the scheduler up.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.sdk.exceptions import AirflowRuntimeError

from slipway.airflow_rest import FAILURE, REFUSED
from slipway.errors import SlipwayError, UsageError

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

ABOUT = "run_about"
"""The XCom key of what a run is about; a step that finishes well says with it what it means that all did."""

_LONGEST = 1000  # Airflow's own limit for notes


def say_about(context: Context, about: str, *, done: str) -> None:
    """Leave what the run is about, for its note.

    Args:
        context: of the task.
        about: the endpoint, and what of it.
        done: what it is when the run succeeds.
    """
    context["ti"].xcom_push(key=ABOUT, value={"about": about, "done": done})


def say_failure(context: Context, failure: SlipwayError | str) -> None:
    """Leave why a step failed, for the run's note and the terminal.

    Airflow's API server may not take it just now. That must not hide the reason: the release has it as well.
    """
    try:
        context["ti"].xcom_push(key=FAILURE, value=str(failure))
        if isinstance(failure, UsageError):  # the asker's mistake, and nothing that broke
            context["ti"].xcom_push(key=REFUSED, value=True)
    except AirflowRuntimeError as error:
        log.warning("the reason could not be left for the run's note: %s", error)


class RunNotes:
    """Airflow's listener. An error in it is logged by Airflow and changes nothing."""

    @hookimpl
    def on_dag_run_success(self, dag_run: Any, msg: str) -> None:
        """Say how it ended."""
        _note(dag_run, succeeded=True)

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any, msg: str) -> None:
        """Say why it failed."""
        _note(dag_run, succeeded=False)


def note_of(left: list[tuple[str, Any]], *, succeeded: bool, asked: str | None = None) -> str | None:
    """Make a note of the XComs that tasks left, in the order of their writing; None where there is nothing to say.

    Args:
        left: keys and values.
        succeeded: whether the run did.
        asked: the endpoint that the run was asked for: one that is refused at once knows no more.
    """
    abouts = [value for key, value in left if key == ABOUT]
    failures = [str(value) for key, value in left if key == FAILURE]
    if asked and failures and not abouts:
        abouts = [{"about": asked}]
    if not abouts:
        return None
    # The last step's line says what became of it all.
    why = failures[-1] if failures else "the run failed"
    outcome = abouts[-1].get("done", "done") if succeeded else why
    note = f"{abouts[-1]['about']}: {outcome}"
    return note if len(note) <= _LONGEST else note[: _LONGEST - 1] + "…"


def _note(dag_run: Any, *, succeeded: bool) -> None:
    from airflow.models.xcom import XComModel
    from sqlalchemy import select
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None:
        return
    wanted = select(XComModel).where(
        XComModel.dag_id == dag_run.dag_id,
        XComModel.run_id == dag_run.run_id,
        XComModel.key.in_([ABOUT, FAILURE]),
    )
    with session.no_autoflush:
        rows = session.scalars(wanted.order_by(XComModel.timestamp)).unique().all()
    left = [(row.key, XComModel.deserialize_value(row)) for row in rows]
    note = note_of(left, succeeded=succeeded, asked=(dag_run.conf or {}).get("endpoint"))
    if note and not dag_run.note:  # a person's own stays
        dag_run.note = note
