"""The history of releases in SQL: written before anything changes, and changed only as a release may change."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from slipway.errors import ReleaseError
from slipway.releases.changes import Changes
from slipway.releases.database import Database, database_url
from slipway.releases.drifts import Drifts
from slipway.releases.overview import Overview
from slipway.releases.records import BROKEN, FAILED, GOOD, PENDING, SUPERSEDED, Release
from slipway.releases.results import Results
from slipway.releases.rows import (
    by_number,
    by_run,
    clean,
    existing,
    good_one,
    last_number,
    name_of,
    plan_digest,
    refuse_change,
    release_of,
    still_pending,
)
from slipway.releases.states import States
from slipway.releases.tables import ReleaseRow
from slipway.releases.told import ToldAssets


class History(Results, Changes, States, Drifts, ToldAssets, Overview):
    """Releases and their results. Safe in several threads and processes: every call is one transaction."""

    @staticmethod
    def open() -> History:
        """Open the history that the environment names; its tables are made or brought up to date first.

        Raises:
            UsageError: ``SLIPWAY_DATABASE_URL`` cannot be meant.
            ReleaseError: the database cannot be opened, or is a newer Slipway's.
        """
        return History(Database(database_url()))

    def create_pending(
        self,
        *,
        endpoint: str,
        run_id: str,
        cluster: str,
        namespace: str,
        plan: Mapping[str, Any],
        overrides: Mapping[str, Any],
        objects: bytes,
        digest: str,
        label: str,
        images: Sequence[str],
        weights_source: str,
        weights_digest: str | None = None,
        rollback_of: int | None = None,
        reason: str = "",
        actor: str = "",
    ) -> Release:
        """Write a release before anything changes. It gets the endpoint's next number.

        A run that already wrote its release gets that one back, with what it planned then: a retried step must not
        plan anew from a catalog that has changed.

        Args:
            endpoint: the endpoint's name.
            run_id: the run, unique among all runs that deploy.
            cluster: the cluster's name.
            namespace: where the objects go.
            plan: the plan as JSON.
            overrides: what the run changed about the endpoint.
            objects: the rendered objects.
            digest: sha256 of ``objects``.
            label: value of ``slipway.io/release`` on the pods.
            images: all images of the release.
            weights_source: where the weights come from.
            weights_digest: of weights that are there already: a rollback's.
            rollback_of: the number of the release whose bytes these are.
            reason: why, in a person's words.
            actor: who started the run.

        Raises:
            ReleaseError: the run's release is finished, or ``objects`` are not what ``digest`` says.
        """
        if hashlib.sha256(objects).hexdigest() != digest:
            raise ReleaseError(
                "the rendered objects are not those of the digest", about=f"{endpoint}, {digest[:12]}"
            )
        with self.database.writing(endpoint=endpoint) as session:
            known = by_run(session, endpoint, run_id)
            if known is not None:
                return release_of(still_pending(known))
            row = ReleaseRow(
                endpoint=endpoint,
                number=last_number(session, endpoint) + 1,
                run_id=run_id,
                cluster=cluster,
                namespace=namespace,
                status=PENDING,
                label=label,
                digest=digest,
                plan_digest=plan_digest(plan),
                plan=dict(plan),
                overrides=dict(overrides),
                objects=gzip.compress(objects, mtime=0),
                images=list(images),
                weights_source=weights_source,
                weights_digest=weights_digest,
                rollback_of=rollback_of,
                reason=clean(reason),
                actor=clean(actor),
                created_at=datetime.now(UTC),
            )
            session.add(row)
            session.flush()
            return release_of(row)

    def get(self, release_id: int) -> Release:
        """Return a release.

        Raises:
            ReleaseError: there is none, or its stored objects are damaged.
        """
        with self.database.reading() as session:
            return release_of(existing(session, release_id))

    def by_run(self, endpoint: str, run_id: str) -> Release | None:
        """Return the release that a run made of an endpoint, finished or not; None when it made none yet."""
        with self.database.reading() as session:
            row = by_run(session, endpoint, run_id)
            return release_of(row) if row else None

    def last_good(self, endpoint: str, *, before: int | None = None) -> Release | None:
        """Return the release that serves, or served last, or None when the endpoint never had a good one.

        Args:
            endpoint: the endpoint's name.
            before: only releases of a lower number, among them those that a newer one superseded since.
        """
        wanted = select(ReleaseRow).where(ReleaseRow.endpoint == endpoint).order_by(ReleaseRow.number.desc())
        if before is None:
            wanted = wanted.where(ReleaseRow.status == GOOD)
        else:
            wanted = wanted.where(ReleaseRow.status.in_([GOOD, SUPERSEDED]), ReleaseRow.number < before)
        with self.database.reading() as session:
            row = session.scalars(wanted.limit(1)).first()
            return release_of(row) if row else None

    def pending(self) -> Sequence[Release]:
        """Return all releases that are not finished, the oldest first: what the reconciler looks at."""
        wanted = select(ReleaseRow).where(ReleaseRow.status == PENDING).order_by(ReleaseRow.id)
        with self.database.reading() as session:
            return [release_of(row) for row in session.scalars(wanted)]

    def set_fencing(self, release_id: int, fencing: int) -> Release:
        """Keep the fencing number of the lock under which the release changes the cluster.

        Raises:
            ReleaseError: the release is finished, or was worked on under a later lock.
        """
        with self._changing(release_id) as row:
            if row.fencing is not None and fencing < row.fencing:
                raise ReleaseError(
                    "the lock is older than the one under which the release was worked on",
                    about=name_of(row),
                    why=f"fencing number {fencing} after {row.fencing}",
                )
            row.fencing = fencing
            return release_of(row)

    def set_weights(self, release_id: int, *, source: str, digest: str) -> Release:
        """Keep what was really downloaded.

        Raises:
            ReleaseError: the release is finished.
        """
        with self._changing(release_id) as row:
            row.weights_source, row.weights_digest = source, digest
            return release_of(row)

    def set_returning(self, release_id: int, number: int) -> Release:
        """Keep which good release the endpoint goes back to, before it does.

        Raises:
            ReleaseError: the release is finished.
        """
        with self._changing(release_id) as row:
            row.returning_to = number
            return release_of(row)

    def set_evidence(self, release_id: int, reference: str) -> Release:
        """Keep where the evidence lies; a later attempt would find less, so the first stays."""
        with self._changing(release_id) as row:
            row.evidence = row.evidence or reference
            return release_of(row)

    def by_number(self, endpoint: str, number: int) -> Release | None:
        """Return an endpoint's release of a number."""
        with self.database.reading() as session:
            row = by_number(session, endpoint, number)
            return release_of(row) if row else None

    def good_ones(self, *, cluster: str | None = None) -> Sequence[Release]:
        """Return the release that serves of every endpoint, of one cluster or of all."""
        wanted = select(ReleaseRow).where(ReleaseRow.status == GOOD).order_by(ReleaseRow.endpoint)
        if cluster is not None:
            wanted = wanted.where(ReleaseRow.cluster == cluster)
        with self.database.reading() as session:
            return [release_of(row) for row in session.scalars(wanted)]

    def note_failure(self, release_id: int, failure: str) -> Release:
        """Keep the first thing that went wrong; later ones, and those of a finished release, change nothing."""
        with self.database.writing() as session:
            row = existing(session, release_id, lock=True)
            if row.status == PENDING and row.failure is None:
                row.failure = clean(failure)
            return release_of(row)

    def mark_good(self, release_id: int) -> Release:
        """Finish a release that serves; the one that served before is superseded. Twice is once.

        Raises:
            ReleaseError: it is finished otherwise, or a newer one is good already.
        """
        endpoint = self.get(release_id).endpoint
        with self.database.writing(endpoint=endpoint) as session:
            row = existing(session, release_id, lock=True)
            if row.status == GOOD:
                return release_of(row)
            refuse_change(row, to=GOOD)
            former = good_one(session, endpoint)
            if former is not None:
                if former.number > row.number:
                    raise ReleaseError(
                        "a newer release serves already",
                        about=name_of(row),
                        why=f"release {former.number} is good",
                        remedy="Trigger a new run",
                    )
                former.status = SUPERSEDED
                session.flush()  # before the other row: at no moment two are good
            row.status, row.failure, row.finished_at = GOOD, None, datetime.now(UTC)
            return release_of(row)

    def mark_failed(self, release_id: int, *, failure: str, broken: bool = False) -> Release:
        """Finish a release that does not serve. Twice is once: the first failure stays.

        Args:
            release_id: the release.
            failure: why.
            broken: the return to the last good release failed too; a person has to look.

        Raises:
            ReleaseError: it is finished otherwise.
        """
        status = BROKEN if broken else FAILED
        with self.database.writing() as session:
            row = existing(session, release_id, lock=True)
            if row.status != status:
                refuse_change(row, to=status)
                row.status, row.failure, row.finished_at = status, clean(failure), datetime.now(UTC)
            return release_of(row)

    def list(self, *, endpoint: str | None = None, limit: int = 50) -> Sequence[Release]:
        """Return the newest releases first, of one endpoint or of all."""
        wanted = select(ReleaseRow).order_by(ReleaseRow.id.desc()).limit(limit)
        if endpoint is not None:
            wanted = wanted.where(ReleaseRow.endpoint == endpoint)
        with self.database.reading() as session:
            return [release_of(row) for row in session.scalars(wanted)]

    def restore(self, release: Release) -> Release:
        """Put back a release that was read from a cluster, under its number. One that is here already stays as it is.

        A cluster says of the release that serves "good", also when a later one that another cluster knows of
        superseded it: so the one with the highest number stays good.

        Raises:
            ReleaseError: this history has another release, or another run's, under that number.
        """
        with self.database.writing(endpoint=release.endpoint) as session:
            known = by_number(session, release.endpoint, release.number)
            if known is not None:
                if (known.digest, known.run_id) == (release.digest, release.run_id):
                    return release_of(known)
                raise ReleaseError(
                    "the history has another release under this number",
                    about=name_of(known),
                    why=f"its digest is {known.digest[:12]}, the cluster's {release.digest[:12]}",
                )
            fields = release.model_dump(exclude={"id", "objects"})
            row = ReleaseRow(**fields, objects=gzip.compress(release.objects, mtime=0))
            former = good_one(session, release.endpoint)
            if row.status == GOOD and former is not None:
                older = former if former.number < row.number else row
                older.status = SUPERSEDED
                session.flush()
            session.add(row)
            session.flush()
            return release_of(row)

    @contextmanager
    def _changing(self, release_id: int) -> Iterator[ReleaseRow]:
        """A release's row, held and still pending."""
        with self.database.writing() as session:
            yield still_pending(existing(session, release_id, lock=True))
