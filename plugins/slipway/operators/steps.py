"""What the steps of a deployment share: the release they work on, and how they fail.

A step knows its release by the reference that the resolve step left ({"release": id, "digest": sha256}) and reads
everything else from the release's stored bytes, so that a cleared or retried task does what the run once planned
and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, get_args

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowFailException
from pydantic import ValidationError

from slipway.catalog.records import Record
from slipway.errors import LockError, ReleaseError, SlipwayError
from slipway.manifests.plan import Controller, Plan
from slipway.manifests.render import Rendered
from slipway.operators.connections import cluster_of
from slipway.operators.links import EndpointLink
from slipway.operators.notes import say_failure
from slipway.pods import describe_invalid

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.cluster.fencing import FencedCluster
    from slipway.releases.records import Release

LOCK_MARGIN_SECONDS = 300


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
        self.plan = plan_of(self.release)
        self.rendered = Rendered.from_bytes(self.release.objects)
        self._fenced: FencedCluster | None = None

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
        """Open the cluster of the plan, to read."""
        return cluster_of(self.plan.connection)

    def is_homeless(self) -> bool:
        """Whether the endpoint's namespace is gone, and with it all that the endpoint had there, its lock too."""
        return self.cluster().get(api_version="v1", kind="Namespace", name=self.plan.namespace) is None

    @property
    def place(self) -> dict[str, str]:
        """Where the endpoint's lock is."""
        return {"namespace": self.plan.namespace, "endpoint_object": self.plan.object_name}

    @property
    def workload(self) -> dict[str, str]:
        """How the release's workload is found."""
        return workload_of(self.plan, release=self.rendered.release)

    def fence(self, *, holder: str, fencing: int) -> FencedCluster:
        """Keep, and return, the cluster in which each write asks for the lock first."""
        from slipway.cluster.fencing import FencedCluster

        self._fenced = FencedCluster(self.cluster(), **self.place, holder=holder, fencing=fencing)
        return self._fenced

    @property
    def fencing(self) -> int | None:
        """The number of the step's lock; None while it holds none."""
        return self._fenced.fencing if self._fenced else None

    def fenced(self) -> FencedCluster:
        """The cluster to write to.

        Raises:
            LockError: the step holds no lock.
        """
        if self._fenced is None:
            raise LockError("this step holds no lock and changes nothing", about=self.plan.endpoint)
        return self._fenced


def workload_of(plan: Plan, *, release: str) -> dict[str, str]:
    """How a release's workload is found (``cluster.controllers.find_workload``), whichever name it stands under."""
    place = {"namespace": plan.namespace, "endpoint": plan.object_name}
    return {"kind": plan.controller, **place, "release": release}


def plan_of(release: Release) -> Plan:
    """Read the plan of a release.

    An older Slipway's plan may lack what today's has. What it lacks is taken from the plan that the catalog gives for
    the endpoint now: it is needed to wait for and to ask a release whose objects are there as bytes, and a release
    that cannot be gone back to after an upgrade would be worth nothing.

    Raises:
        ReleaseError: it cannot be completed either.
    """
    try:
        return Plan.model_validate(release.plan)
    except ValidationError as error:
        try:
            return _completed(release)
        except (SlipwayError, ValidationError):
            raise ReleaseError(
                "the release's plan cannot be read",
                about=f"{release.title} of {release.endpoint}",
                why=describe_invalid(error),
                remedy="Another version of Slipway planned it: deploy the endpoint anew",
            ) from error


def _completed(release: Release) -> Plan:
    from slipway.catalog.read import read_catalog
    from slipway.manifests.planning import make_plan

    now = make_plan(read_catalog(), release.endpoint)
    values = _filled(now, release.plan)
    kinds = {obj["kind"] for obj in Rendered.from_bytes(release.objects).stages["workload"]}
    values["controller"] = next((kind for kind in get_args(Controller) if kind in kinds), now.controller)
    return Plan.model_validate(values)


def _filled(now: Record, old: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a record has now, with their old values where there are any."""
    values: dict[str, Any] = {}
    for name in type(now).model_fields:
        present = getattr(now, name)
        if isinstance(present, Record) and isinstance(old.get(name), dict):
            values[name] = _filled(present, old[name])
        else:
            values[name] = old.get(name, present)
    return values


def lock_holder(context: Context) -> str:
    """The name under which a run holds an endpoint's lock."""
    run = context["dag_run"]
    return f"{run.dag_id}/{run.run_id}"


@contextmanager
def log_group(log: Any, title: str) -> Iterator[None]:
    """Fold what is logged in between under a title, in Airflow's log view."""
    log.info("::group::%s", title)
    try:
        yield
    finally:
        log.info("::endgroup::")


@contextmanager
def one_line_failures(context: Context, reference: dict[str, Any] | None = None) -> Iterator[None]:
    """Turn Slipway's errors into a failed task with one line, without a retry: the same input fails again.

    The line is also noted on the release, where the record step and people find it.
    """
    try:
        yield
    except SlipwayError as error:
        step = context["ti"].task_id
        if reference is not None:
            note_failure(reference, step=step, error=error)
        say_failure(context, error)
        raise AirflowFailException(f"{step}: {error}") from None


def note_failure(reference: dict[str, Any], *, step: str, error: SlipwayError) -> None:
    """Note on a pending release, or on a change, why its run failed; the first reason stays."""
    from slipway.releases.store import History

    history, failure = History.open(), f"{step}: {error}"
    if "change" in reference:
        history.finish_change(reference["change"], failure=failure)
    else:
        history.note_failure(reference["release"], failure)


class Step(BaseOperator):
    """A step that runs in an Airflow worker.

    Args:
        release: the resolve step's reference, usually ``resolve.output``.
        finished: the step works on a release that is good already (a benchmark), not on a pending one; None where it
            does not matter what became of the release (a removal).
    """

    template_fields: Sequence[str] = ("release",)
    operator_extra_links: Sequence[BaseOperatorLink] = (EndpointLink(),)
    takes_lock = False

    def __init__(self, *, release: Any, finished: bool | None = False, **kwargs: Any) -> None:
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
        if self.finished is not None:
            work.must_be("good" if self.finished else "pending")
        # Nothing can be locked where the endpoint's namespace is gone: what no longer serves can still be removed.
        if not self.takes_lock and not (self.finished is None and work.is_homeless()):
            hold_lock(work, context, task=self)
        return work

    def work(self, work: Work, context: Context) -> Any:
        """What the step does; subclasses say it."""
        raise ReleaseError("this step has no work", about=type(self).__name__)


def hold_lock(
    work: Work,
    context: Context,
    *,
    task: BaseOperator | None = None,
    seconds: float = 600.0,
    anew: bool = False,
) -> FencedCluster:
    """Renew the endpoint's lock for as long as the step may run, and return the cluster to write to.

    The lock is renewed by each step for its own longest time, so that the lock of a run that died is free soon
    after the step that it died in should have ended.

    Args:
        work: the step's work.
        context: of the task.
        task: its execution timeout is the time, where it has one.
        seconds: else this.
        anew: whatever still lives of the steps before writes nothing more.

    Raises:
        LockError: another run has taken it.
    """
    from slipway.cluster import lease

    cluster, holder = work.cluster(), lock_holder(context)
    found = lease.holder_of(cluster, **work.place)
    if found is None or found.holder != holder:
        raise LockError(
            "this run has lost the endpoint's lock",
            about=work.plan.endpoint,
            why=f"{found.holder if found else 'nobody'} holds it",
            remedy="Trigger a new run",
        )
    timeout = task.execution_timeout.total_seconds() if task and task.execution_timeout else seconds
    fencing = lease.renew(
        cluster,
        **work.place,
        holder=holder,
        fencing=found.fencing,
        seconds=int(timeout) + LOCK_MARGIN_SECONDS,
        anew=anew,
    )
    return work.fence(holder=holder, fencing=fencing)
