"""The last step: the release is good, or its evidence is kept and the endpoint goes back to the last good one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from slipway.errors import LockError, ReleaseError, SlipwayError
from slipway.manifests.render import Rendered
from slipway.operators.deploy_steps import workload_trigger
from slipway.operators.draining import GONE_MARGIN_SECONDS, PodsGoneTrigger
from slipway.operators.prober import PROBE_POD_SECONDS, PodEndTrigger, Through, start_probe, take_probe
from slipway.operators.returning import begin_return, keep_evidence, tidy_up
from slipway.operators.rollout import as_it_stands, in_both_colours
from slipway.operators.steps import FAILURE, Work, hold_lock, lock_holder, plan_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.releases.records import Release

TRIGGER_MARGIN_SECONDS = 300
GOOD_SECONDS = 600
MOST_RELEASES = 1000


class RecordOperator(BaseOperator):
    """Finish the release, whatever became of the steps before it. A teardown: it always runs.

    It looks at what is known of the release, not at the colours of tasks: a release is good when a probe through
    the published Service has succeeded. Otherwise the evidence goes to the artefact store first; then the last good
    release's stored objects are applied again, waited for, and probed from a pod through its own Service and through
    the published one, all deferred; or, if there is none, the workload is scaled to 0 and kept for a look. If the
    return fails too, the release is ``broken`` and nothing is tried again by itself.

    The lock is given back in the end, except when the cluster was away: then the task is tried again, and if that
    does not help either, the release stays pending for the reconciler.

    A repeated task goes on where the one before ended, by what the history says.
    """

    template_fields: Sequence[str] = ("release",)

    def __init__(self, *, release: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.release = release

    def execute(self, context: Context) -> None:
        """Say that the release is good, or begin the way back."""
        with self._ending(context) as work:
            if work.release.status != "pending":
                self.log.info("%s is already %s", work.release.title, work.release.status)
                if work.release.status == "good":
                    self._settle_again(work, context)
                return
            if any(probe.through == "published" for probe in work.history.probes(work.release.id)):
                self.lock(work, context, seconds=GOOD_SECONDS + drain_seconds(work))
                self._good(work)
            else:
                self.lock(work, context, seconds=return_seconds(work))
                self._go_back(work)

    def lock(self, work: Work, context: Context, *, seconds: float) -> None:
        """See that the lock is still this run's, and hold it for that long.

        Raises:
            ReleaseError: another run has taken it. The release ends here, and the cluster is that run's.
        """
        try:
            hold_lock(work, context, seconds=seconds)
        except LockError as error:
            failure = f"{self.reason(work)} | {error.why}"
            work.history.mark_failed(work.release.id, failure=failure)
            raise ReleaseError(f"{work.release.title} failed; {error.what}", why=failure) from error

    def reason(self, work: Work) -> str:
        """Why the release failed."""
        failure = work.history.get(work.release.id).failure
        return failure or "the run ended before the release was proven"

    def end(self, line: str, *, why: str) -> None:
        """Say how a failed release ended: the run fails."""
        raise ReleaseError(line, why=why)

    def restored(self, context: Context, event: dict[str, Any], good: int, fencing: int) -> None:
        """Go on when the good release is available again, or never will be."""
        from slipway.cluster.verdict import Verdict

        with self._resumed(context, fencing) as work:
            verdict = Verdict.model_validate(event)
            if verdict.doom is not None:
                self._broken(work, verdict.doom.error())
            self.log.info("%s", verdict.what)
            self._probe(work, good, "release", fencing)

    def probed(
        self, context: Context, event: dict[str, Any], good: int, through: Through, fencing: int
    ) -> None:
        """Go on when a probe of the good release has ended."""
        with self._resumed(context, fencing) as work:
            release = work.history.get(good)
            try:
                result = take_probe(work.cluster(), plan_of(release), name=event["name"])
            except SlipwayError as error:
                _raise_if_passing(error)
                self._broken(work, error)
            work.history.record_probe(good, through=through, result=result.model_dump(mode="json"))
            self.log.info("%s answers (%s): %s", release.title, through, result.answer)
            if through == "release":
                self._probe(work, good, "published", fencing)
            tidy_up(work, release, say=self.log.info)
            self._failed(work, f"{release.title} serves again")

    def _good(self, work: Work) -> None:
        release = work.history.mark_good(work.release.id)
        self.log.info("%s is good and serves", release.title)
        self._settle(work, release)

    def _settle_again(self, work: Work, context: Context) -> None:
        """Finish what an attempt before this one began, if it still has its lock."""
        try:
            hold_lock(work, context, seconds=GOOD_SECONDS + drain_seconds(work))
        except LockError:
            return
        self._settle(work, work.release)

    def _settle(self, work: Work, release: Release) -> None:
        """Keep the release in its cluster, and delete what the releases before it left. Safe to repeat.

        A workload that stood beside it goes now; the run ends when its pods have drained and are gone.
        """
        from slipway.cluster.apply import inventory_of, prune
        from slipway.cluster.controllers import KINDS
        from slipway.releases.inventory import inventory_object

        cluster, plan = work.fenced(), work.plan
        own = inventory_of(as_it_stands(cluster, plan, work.rendered).objects())
        cluster.apply(inventory_object(release, inventory=own))
        old = [
            ref
            for one in (*since_last_good(work), release)
            for ref in in_both_colours(Rendered.from_bytes(one.objects).objects(), endpoint=plan.object_name)
        ]
        pruned = prune(cluster, old=list(dict.fromkeys(old)), new=own)
        for ref in pruned:
            self.log.info("pruned %s", ref)
        if any(ref.kind in KINDS for ref in pruned):
            self._wait_for_drain(work)

    def _wait_for_drain(self, work: Work) -> NoReturn:
        plan, seconds = work.plan, drain_seconds(work)
        self.log.info("the pods of before finish their requests, for %.0f s at most", seconds)
        trigger = PodsGoneTrigger(
            connection=plan.connection,
            namespace=plan.namespace,
            endpoint_object=plan.object_name,
            seconds=seconds,
            but_release=work.rendered.release,
        )
        self.defer(trigger=trigger, method_name="drained", timeout=timedelta(seconds=seconds + 120))

    def drained(self, context: Context, event: dict[str, Any]) -> None:
        """Go on when the pods of before are gone, or do not end: that takes nothing from the release."""
        with self._ending(context) as work:
            left = ", ".join(event["left"]) or "none"
            self.log.info("%s serves; pods of before that are left: %s", work.release.title, left)

    def _go_back(self, work: Work) -> None:
        keep_evidence(work, say=self.log.info)
        try:
            way = begin_return(work, say=self.log.info)
        except SlipwayError as error:
            _raise_if_passing(error)
            self._broken(work, error)
        if way.good is None:
            self._failed(work, way.outcome)
            return
        plan = plan_of(way.good)
        trigger = workload_trigger(work.cluster(), plan, release=way.good.label)
        kwargs = {"good": way.good.id, "fencing": work.fenced().fencing}
        timeout = timedelta(seconds=trigger.seconds + TRIGGER_MARGIN_SECONDS)
        self.defer(trigger=trigger, method_name="restored", kwargs=kwargs, timeout=timeout)

    def _probe(self, work: Work, good: int, through: Through, fencing: int) -> NoReturn:
        release = work.history.get(good)
        plan = plan_of(release)
        name = f"{plan.object_name}-back-{work.release.number}-{through}"
        start_probe(work.cluster(), plan, release=release.label, through=through, name=name)
        trigger = PodEndTrigger(
            connection=plan.connection, namespace=plan.namespace, name=name, seconds=PROBE_POD_SECONDS + 60
        )
        kwargs = {"good": good, "through": through, "fencing": fencing}
        timeout = timedelta(seconds=trigger.seconds + TRIGGER_MARGIN_SECONDS)
        self.defer(trigger=trigger, method_name="probed", kwargs=kwargs, timeout=timeout)

    def _failed(self, work: Work, outcome: str) -> None:
        reason = self.reason(work)
        work.history.mark_failed(work.release.id, failure=reason)
        self.end(f"{work.release.title} failed; {outcome}", why=reason)

    def _broken(self, work: Work, error: SlipwayError) -> NoReturn:
        reason = self.reason(work)
        failure = f"{reason} | and the return failed: {error}"
        work.history.mark_failed(work.release.id, failure=failure, broken=True)
        raise ReleaseError(
            f"{work.release.title} failed ({reason}) and the return failed too", why=str(error)
        ) from error

    @contextmanager
    def _resumed(self, context: Context, fencing: int) -> Iterator[Work]:
        with self._ending(context) as work:
            if work.release.status != "pending":
                raise ReleaseError("the release was finished meanwhile", about=work.release.title)
            work.fence(holder=lock_holder(context), fencing=fencing)
            yield work

    @contextmanager
    def _ending(self, context: Context) -> Iterator[Work]:
        """Give the lock back however it ends, but not when it goes on in the triggerer or in another attempt."""
        work = Work(self.release)
        try:
            yield work
            self._unlock(work, context)
        except SlipwayError as error:
            context["ti"].xcom_push(key=FAILURE, value=str(error))
            if getattr(error, "is_transient", False):
                raise AirflowException(f"{error}; it will be tried again") from None
            self._unlock(work, context)
            raise AirflowFailException(str(error)) from None

    def _unlock(self, work: Work, context: Context) -> None:
        from slipway.cluster import lease

        try:
            holder = lock_holder(context)
            lease.release(
                work.cluster(),
                namespace=work.plan.namespace,
                endpoint_object=work.plan.object_name,
                holder=holder,
            )
        except SlipwayError as error:  # it runs out by itself
            self.log.warning("the lock of %s could not be given back: %s", work.plan.endpoint, error)
        else:
            self.log.info("the lock of %s is free", work.plan.endpoint)


def since_last_good(work: Work) -> list[Release]:
    """The good release before this one and those that failed after it: together all that may have left objects."""
    former = work.history.last_good(work.plan.endpoint, before=work.release.number)
    first = former.number if former else 1
    releases = work.history.list(endpoint=work.plan.endpoint, limit=MOST_RELEASES)
    return [release for release in releases if first <= release.number < work.release.number]


def drain_seconds(work: Work) -> float:
    """The longest that the pods of before may take to end."""
    return float(work.plan.server.drain_seconds + GONE_MARGIN_SECONDS)


def return_seconds(work: Work) -> float:
    """The longest that a return may take: the good release's start, and two probes."""
    good = work.history.last_good(work.plan.endpoint)
    start = 2.0 * plan_of(good).server.startup_seconds if good else 0.0
    return start + 2 * PROBE_POD_SECONDS + 3 * TRIGGER_MARGIN_SECONDS


def _raise_if_passing(error: SlipwayError) -> None:
    """Leave a fault of the cluster that may pass to another attempt: it says nothing of the release."""
    if getattr(error, "is_transient", False) or isinstance(error, LockError):
        raise error
