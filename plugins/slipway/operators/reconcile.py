"""The reconciler: releases and changes whose run is gone are brought to an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowSkipException

from slipway.errors import ReleaseError
from slipway.operators.record import RecordOperator
from slipway.operators.steps import LOCK_MARGIN_SECONDS, Work, lock_holder, one_line_failures, plan_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.releases.records import Release
    from slipway.releases.store import History

_NOT_FOUND = 404
_ENDED = ("success", "failed")


class FindGoneOperator(BaseOperator):
    """Find pending releases and changes whose run has ended without finishing them, or does not exist any more.

    A run that was killed, marked failed, timed out or deleted leaves such; so does one of an Airflow whose database was
    lost. A run that was cleared runs again and is left alone. One history belongs to one Airflow: another's runs look
    deleted here.
    """

    def execute(self, context: Context) -> list[dict[str, str | int]]:
        """Return a reference for each."""
        from slipway.releases.store import History

        with one_line_failures(context):
            history, found = History.open(), list[dict[str, str | int]]()
            for release in history.pending():
                state = run_state(context, release.run_id)
                if state in _ENDED or state is None:
                    self.log.info(
                        "%s of %s: run %s", release.title, release.endpoint, state or "does not exist"
                    )
                    history.note_failure(release.id, f"its run {release.run_id} {why_gone(state)}")
                    if _is_readable(history, release):
                        found.append({"release": release.id, "digest": release.digest})
            for change in history.pending_changes():
                state = run_state(context, change.run_id)
                if state in _ENDED or state is None:
                    self.log.info("%s of %s: run %s", change.kind, change.endpoint, state or "does not exist")
                    digest = history.get(change.release_id).digest
                    found.append({"release": change.release_id, "digest": digest, "change": change.id})
            return found


class ReconcileOperator(RecordOperator):
    """Finish what a run that is gone left behind, as that run's last step would have.

    The lock is taken from the dead run, so that whatever of it still lives writes nothing more. Where a newer release
    serves, the run never held the lock, or the namespace is gone, nothing in the cluster is touched.
    """

    def execute(self, context: Context) -> None:
        """Finish a change or a release."""
        if "change" in self.release:
            self._finish_change()
            return
        with self._ending(context) as work:
            release = work.release
            serving = work.history.last_good(release.endpoint)
            if release.status != "pending":
                return
            overtaken = serving and serving.number > release.number
            if release.fencing is None or overtaken or work.is_homeless():
                self._give_back(work, release.run_id)
                self._failed(work, "nothing was changed by it that still counts")
                return
        super().execute(context)

    def lock(self, work: Work, context: Context, *, seconds: float) -> None:
        """Take the lock from the dead run; another run that holds it comes first, and this is looked at again later."""
        from slipway.cluster import lease

        fencing = lease.take_over(
            work.cluster(),
            namespace=work.plan.namespace,
            endpoint_object=work.plan.object_name,
            dead=work.release.run_id,
            holder=lock_holder(context),
            seconds=int(seconds) + LOCK_MARGIN_SECONDS,
        )
        if fencing is None:
            raise AirflowSkipException("another run holds the endpoint's lock; this is looked at again later")
        work.history.set_fencing(work.release.id, fencing)
        work.fence(holder=lock_holder(context), fencing=fencing)

    def end(self, line: str, *, why: str) -> None:
        """Say how it ended: finishing it is what this run is for, so it does not fail."""
        self.log.info("%s: %s", line, why)

    def _finish_change(self) -> None:
        work = Work(self.release)
        wanted = self.release["change"]
        change = next((one for one in work.history.pending_changes() if one.id == wanted), None)
        if change is None:
            return
        self._give_back(work, change.run_id)
        work.history.finish_change(change.id, failure=f"its run {change.run_id} is gone")
        self.log.info("the %s of %s failed: its run is gone", change.kind, change.endpoint)

    def _give_back(self, work: Work, holder: str) -> None:
        from slipway.cluster import lease

        lease.release(
            work.cluster(),
            namespace=work.plan.namespace,
            endpoint_object=work.plan.object_name,
            holder=holder,
        )


def run_state(context: Context, run_id: str) -> str | None:
    """The state of the run that a release or a change names, or None when Airflow knows no such run.

    Raises:
        AirflowRuntimeError: Airflow's API server could not say.
    """
    dag_id, _, run = run_id.partition("/")
    ti: Any = context["ti"]
    try:
        state = ti.get_dagrun_state(dag_id, run)
        return str(getattr(state, "value", state))
    except AirflowRuntimeError as error:
        detail = error.error.detail or {}
        if detail.get("status_code") == _NOT_FOUND:
            return None
        raise


def why_gone(state: str | None) -> str:
    """How messages say it."""
    return "does not exist any more" if state is None else f"ended ({state}) without finishing it"


def _is_readable(history: History, release: Release) -> bool:
    """Whether the release can be worked on; one that cannot is broken, and a person has to look."""
    try:
        plan_of(release)
    except ReleaseError as error:
        history.mark_failed(release.id, failure=str(error), broken=True)
        return False
    return True
