"""From rows to records, and what may be done with a row."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from slipway.errors import ReleaseError
from slipway.releases.records import (
    GOOD,
    LEGAL_CHANGES,
    PENDING,
    BenchmarkRecord,
    ChangeRecord,
    Figures,
    FindingRecord,
    ProbeRecord,
    Release,
    StateRecord,
    Status,
)
from slipway.releases.tables import BenchmarkRow, ChangeRow, FindingRow, ProbeRow, ReleaseRow, StateRow


def release_of(row: ReleaseRow) -> Release:
    """Return a release.

    Raises:
        ReleaseError: its objects are not the bytes that were stored: applying them would deploy something unknown.
    """
    try:
        objects = gzip.decompress(row.objects)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(row) from error
    own = {name: getattr(row, name) for name in Release.model_fields if name != "objects"}
    release = Release(objects=objects, **own)
    if not release.has_its_objects():
        raise _damaged(row)
    return release


def _damaged(row: ReleaseRow) -> ReleaseError:
    return ReleaseError(
        "the stored objects of the release are damaged",
        about=name_of(row),
        why="they do not have the digest that they were stored with",
        remedy="Trigger a new run, and look at the disk and the database",
    )


def finding_of(row: FindingRow) -> FindingRecord:
    """Return a finding."""
    return FindingRecord(**{name: getattr(row, name) for name in FindingRecord.model_fields})


def probe_of(row: ProbeRow) -> ProbeRecord:
    """Return a probe."""
    return ProbeRecord(**{name: getattr(row, name) for name in ProbeRecord.model_fields})


def benchmark_of(row: BenchmarkRow) -> BenchmarkRecord:
    """Return a benchmark."""
    figures = Figures(**{name: getattr(row, name) for name in Figures.model_fields})
    own = {name: getattr(row, name) for name in BenchmarkRecord.model_fields if name != "figures"}
    return BenchmarkRecord(figures=figures, **own)


def change_of(row: ChangeRow) -> ChangeRecord:
    """Return a change."""
    return ChangeRecord(**{name: getattr(row, name) for name in ChangeRecord.model_fields})


def state_of(row: StateRow) -> StateRecord:
    """Return a state."""
    return StateRecord(**{name: getattr(row, name) for name in StateRecord.model_fields})


def existing(session: Session, release_id: int, *, lock: bool = False) -> ReleaseRow:
    """Return a release's row, held until the transaction ends when ``lock`` is given.

    Raises:
        ReleaseError: there is none.
    """
    row = session.get(ReleaseRow, release_id, with_for_update=True if lock else None)
    if row is None:
        raise ReleaseError(
            "there is no such release",
            about=f"id {release_id}",
            remedy="Do Airflow and the terminal use the same SLIPWAY_DATABASE_URL?",
        )
    return row


def by_run(session: Session, endpoint: str, run_id: str) -> ReleaseRow | None:
    """Return what a run made of an endpoint."""
    return session.scalars(select(ReleaseRow).filter_by(endpoint=endpoint, run_id=run_id)).one_or_none()


def by_number(session: Session, endpoint: str, number: int) -> ReleaseRow | None:
    """Return an endpoint's release of a number."""
    return session.scalars(select(ReleaseRow).filter_by(endpoint=endpoint, number=number)).one_or_none()


def good_one(session: Session, endpoint: str) -> ReleaseRow | None:
    """Return the release that serves; there is at most one."""
    return session.scalars(select(ReleaseRow).filter_by(endpoint=endpoint, status=GOOD)).one_or_none()


def last_number(session: Session, endpoint: str) -> int:
    """Return the highest number given so far, 0 before the first."""
    return session.scalar(select(func.max(ReleaseRow.number)).filter_by(endpoint=endpoint)) or 0


def name_of(row: ReleaseRow) -> str:
    """How messages name a release."""
    return f"release {row.number} of {row.endpoint}, {row.status}"


def still_pending(row: ReleaseRow) -> ReleaseRow:
    """Return the row if it may still be worked on.

    Raises:
        ReleaseError: it is finished.
    """
    if row.status != PENDING:
        raise ReleaseError(
            "the release is finished and does not change any more",
            about=name_of(row),
            remedy="Trigger a new run instead of clearing the old one",
        )
    return row


def refuse_change(row: ReleaseRow, *, to: Status) -> None:
    """Refuse what a release of this status may not become.

    Raises:
        ReleaseError: the change is not legal.
    """
    status: Any = row.status
    if to not in LEGAL_CHANGES[status]:
        raise ReleaseError(
            f"a release that is {row.status} does not become {to}",
            about=name_of(row),
            remedy="Trigger a new run: it makes a release of its own",
        )


def plan_digest(plan: Mapping[str, Any]) -> str:
    """Return the sha256 of a plan as canonical JSON."""
    text = json.dumps(plan, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def clean(text: str) -> str:
    """Return text that every database takes: without NUL and without halves of surrogate pairs.

    A model with random weights says such things.
    """
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
