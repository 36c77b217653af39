"""What the steps of a deployment share: the release they work on, and how they fail.

A step knows its release by the reference that the resolve step left ({"release": id, "digest": sha256}) and reads
everything else from the release's stored bytes, so that a cleared or retried task does what the run once planned
and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from slipway.errors import LockError, ReleaseError, SlipwayError
from slipway.manifests.plan import Plan
from slipway.manifests.render import Rendered
from slipway.operators.connections import cluster_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.releases.records import Release

LOCK_MARGIN_SECONDS = 300
FAILURE = "failure"
"""The XCom key of a failed step's one line; the terminal reads it through the REST API."""


class Work:
    """One step's view of its release: the release, its plan and objects, and its cluster."""

    def __init__(self, reference: dict[str, Any]) -> None:
        from slipway.releases.store import History

        self.history = History.open()
        self.release: Release = self.history.get(reference["release"])
        if self.release.digest != reference["digest"]:
            raise ReleaseError(
                "the release is not the one that this run resolved",
                about=self.release.title,
                remedy="Trigger a new run",
            )
        self.plan = Plan.model_validate(self.release.plan)
        self.rendered = Rendered.from_bytes(self.release.objects)

    def must_be(self, status: str) -> None:
        """Refuse to go on with a release that is not what the step needs.

        Raises:
            ReleaseError: the run was cleared after its end; a newer release may serve by now.
        """
        if self.release.status != status:
            raise ReleaseError(
                f"the release is not {status} and this step does not run on it",
                about=f"{self.release.title}, {self.release.status}",
                remedy="Trigger a new run instead of clearing this one",
            )

    def cluster(self) -> Cluster:
        """Open the cluster of the plan."""
        return cluster_of(self.plan.connection)


def lock_holder(context: Context) -> str:
    """The name under which a run holds an endpoint's lock."""
    run = context["dag_run"]
    return f"{run.dag_id}/{run.run_id}"


@contextmanager
def one_line_failures(context: Context, reference: dict[str, Any] | None = None) -> Iterator[None]:
    """Turn Slipway's errors into a failed task with one line, without a retry: the same input fails again.

    The line is also noted on the release, where the record step and people find it.
    """
    try:
        yield
    except SlipwayError as error:
        step = context["ti"].task_id
        context["ti"].xcom_push(key=FAILURE, value=str(error))
        if reference is not None:
            note_failure(reference, step=step, error=error)
        raise AirflowFailException(f"{step}: {error}") from None


def note_failure(reference: dict[str, Any], *, step: str, error: SlipwayError) -> None:
    """Note on a pending release why its run failed; the first reason stays."""
    from slipway.releases.store import History

    History.open().note_failure(reference["release"], f"{step}: {error}")


class Step(BaseOperator):
    """A step that runs in an Airflow worker.

    Args:
        release: the resolve step's reference, usually ``resolve.output``.
        finished: the step works on a release that is good already (a benchmark), not on a pending one.
    """

    template_fields: Sequence[str] = ("release",)
    takes_lock = False

    def __init__(self, *, release: Any, finished: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.release, self.finished = release, finished

    def execute(self, context: Context) -> Any:
        """Open the release and do the step's work."""
        with one_line_failures(context, self.release):
            work = self.open(context)
            return self.work(work, context)

    def open(self, context: Context) -> Work:
        """Open the release, and see that it may still be worked on and that this run holds the endpoint's lock."""
        work = Work(self.release)
        work.must_be("good" if self.finished else "pending")
        if not self.takes_lock:
            hold_lock(work, context, task=self)
        return work

    def work(self, work: Work, context: Context) -> Any:
        """What the step does; subclasses say it."""
        raise ReleaseError("this step has no work", about=type(self).__name__)


def hold_lock(work: Work, context: Context, *, task: BaseOperator) -> None:
    """Renew the endpoint's lock for as long as ``task`` may run.

    The lock is renewed by each step for its own longest time, so that the lock of a run that died is free soon
    after the step that it died in should have ended.

    Raises:
        LockError: another run has taken it.
    """
    from slipway.cluster import lease

    cluster, holder = work.cluster(), lock_holder(context)
    place = {"namespace": work.plan.namespace, "endpoint_object": work.plan.object_name}
    found = lease.holder_of(cluster, **place)
    if found is None or found.holder != holder:
        raise LockError(
            "this run has lost the endpoint's lock",
            about=work.plan.endpoint,
            why=f"{found.holder if found else 'nobody'} holds it",
            remedy="Trigger a new run",
        )
    timeout = task.execution_timeout.total_seconds() if task.execution_timeout else 600.0
    lease.renew(
        cluster,
        **place,
        holder=holder,
        fencing=found.fencing,
        seconds=int(timeout) + LOCK_MARGIN_SECONDS,
    )
