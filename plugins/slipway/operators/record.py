"""The last step: the release is good, or its evidence is kept and the endpoint goes back to the last good one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from slipway.errors import ClusterError, LockError, ReleaseError, SlipwayError
from slipway.operators.assets import ENDPOINTS, MODELS, tell_endpoint
from slipway.operators.deploy_steps import workload_trigger
from slipway.operators.draining import GONE_MARGIN_SECONDS, PodsGoneTrigger
from slipway.operators.links import EndpointLink
from slipway.operators.lock import refuse_overtaken
from slipway.operators.notes import say_failure
from slipway.operators.prober import PROBE_POD_SECONDS, PodEndTrigger, Through, start_probe, take_probe
from slipway.operators.returning import begin_return, ended_as, keep_evidence, tidy_up
from slipway.operators.settling import end_step_pods, settle
from slipway.operators.steps import LOCK_MARGIN_SECONDS, Work, hold_lock, lock_holder, plan_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.releases.records import Release

TRIGGER_MARGIN_SECONDS = 300
GOOD_SECONDS = 600
LAST_SECONDS = 60
"""For saying how the release ended and giving the lock back."""
MOST_ATTEMPTS = 3
"""How often a good release that was gone back to is waited for and asked before the return counts as failed."""


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
    operator_extra_links = (EndpointLink(),)

    def __init__(self, *, release: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.release = release
        # Not by the constructor: Airflow gives a mapped task's operator its inlets and outlets itself.
        self.inlets, self.outlets = [MODELS], [ENDPOINTS]

    def execute(self, context: Context) -> None:
        """Say that the release is good, or begin the way back."""
        with self._ending(context) as work:
            if work.release.status != "pending":
                self.log.info("%s is already %s", work.release.title, work.release.status)
                if work.release.status == "good":
                    self._settle_again(work, context)
                else:
                    # An attempt before this one ended it, and Airflow did not hear that it failed: never a green run.
                    self.end(f"{work.release.title} failed; {ended_as(work)}", why=self.reason(work))
                return
            if any(probe.through == "published" for probe in work.history.probes(work.release.id)):
                self.lock(work, context, seconds=GOOD_SECONDS + drain_seconds(work))
                self._good(work)
            else:
                self.lock(work, context, seconds=return_seconds(work))
                self._go_back(work)

    def lock(self, work: Work, context: Context, *, seconds: float) -> None:
        """See that the lock is still this run's, and hold it for that long.

        Under a new number: Airflow starts this step at once when somebody marks the run as failed, and the worker of
        the step in whose middle that happened learns of it only with its next heartbeat.

        Raises:
            ReleaseError: another run has taken it. The release ends here, and the cluster is that run's.
        """
        try:
            hold_lock(work, context, seconds=seconds, anew=True)
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

    def restored(
        self, context: Context, event: dict[str, Any], good: int, fencing: int, attempt: int = 1
    ) -> None:
        """Go on when the good release is available again, or never will be."""
        from slipway.cluster.verdict import Verdict

        with self._resumed(context, fencing) as work:
            verdict = Verdict.model_validate(event)
            if verdict.doom is not None:
                self._broken(work, verdict.doom.error())
            self.log.info("%s", verdict.what)
            self._probe(work, good, "release", attempt=attempt)

    def probed(
        self,
        context: Context,
        event: dict[str, Any],
        good: int,
        through: Through,
        fencing: int,
        attempt: int = 1,
    ) -> None:
        """Go on when a probe of the good release has ended."""
        with self._resumed(context, fencing) as work:
            release = work.history.get(good)
            try:
                result = take_probe(work.cluster(), plan_of(release), name=event["name"])
            except SlipwayError as error:
                _raise_if_passing(error)
                self._ask_again(work, context, release, error, attempt=attempt)
            work.history.record_probe(good, through=through, result=result.model_dump(mode="json"))
            self.log.info("%s answers (%s): %s", release.title, through, result.answer)
            if through == "release":
                self._probe(work, good, "published", attempt=attempt)
            tidy_up(work, release, say=self.log.info)
            self._failed(work, f"{release.title} serves again")

    def _good(self, work: Work) -> None:
        """Tidy up, then say that the release is good: a run that is lost in between is found by the reconciler."""
        refuse_overtaken(work)
        try:
            drains = settle(work, say=self.log.info)
        except SlipwayError as error:
            _raise_if_passing(error)
            work.history.mark_good(work.release.id)  # it serves, whatever else could not be done
            raise
        self._wind_up(work, seconds=drain_seconds(work) if drains else LAST_SECONDS)
        work.history.mark_good(work.release.id)
        self.log.info("%s is good and serves", work.release.title)
        if drains:
            self._wait_for_drain(work)

    def _settle_again(self, work: Work, context: Context) -> None:
        """Finish what an attempt before this one began, if it still has its lock."""
        try:
            hold_lock(work, context, seconds=GOOD_SECONDS + drain_seconds(work))
        except LockError:
            return
        if settle(work, say=self.log.info):
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
        self._wait(work, way.good, attempt=1)

    def _ask_again(
        self, work: Work, context: Context, good: Release, error: SlipwayError, *, attempt: int
    ) -> NoReturn:
        """Wait and probe once more: a pod that died meanwhile, the server's or the probe's own, comes back."""
        from slipway.cluster import lease

        if attempt == MOST_ATTEMPTS:
            self._broken(work, error)
        self.log.warning("%s does not answer; it is asked again: %s", good.title, error)
        holder, fencing = lock_holder(context), work.fenced().fencing
        seconds = int(return_seconds(work)) + LOCK_MARGIN_SECONDS
        fencing = lease.renew(
            work.cluster(), **work.place, holder=holder, fencing=fencing, seconds=seconds, anew=True
        )
        work.fence(holder=holder, fencing=fencing)
        self._wait(work, good, attempt=attempt + 1)

    def _wait(self, work: Work, good: Release, *, attempt: int) -> NoReturn:
        trigger = workload_trigger(work.cluster(), plan_of(good), release=good.label)
        kwargs = {"good": good.id, "fencing": work.fenced().fencing, "attempt": attempt}
        timeout = timedelta(seconds=trigger.seconds + TRIGGER_MARGIN_SECONDS)
        self.defer(trigger=trigger, method_name="restored", kwargs=kwargs, timeout=timeout)

    def _probe(self, work: Work, good: int, through: Through, *, attempt: int) -> NoReturn:
        release = work.history.get(good)
        plan = plan_of(release)
        name = f"{plan.object_name}-back-{work.release.number}-{attempt}-{through}"
        start_probe(work.cluster(), plan, release=release.label, through=through, name=name)
        trigger = PodEndTrigger(
            connection=plan.connection, namespace=plan.namespace, name=name, seconds=PROBE_POD_SECONDS + 60
        )
        fencing = work.fenced().fencing
        kwargs = {"good": good, "through": through, "fencing": fencing, "attempt": attempt}
        timeout = timedelta(seconds=trigger.seconds + TRIGGER_MARGIN_SECONDS)
        self.defer(trigger=trigger, method_name="probed", kwargs=kwargs, timeout=timeout)

    def _wind_up(self, work: Work, *, seconds: float = LAST_SECONDS) -> None:
        """Delete the pods of steps that were lost, and hold the lock for what is left to do.

        Were this step lost now, the next run would else wait for all of the time that it took the lock for.

        Raises:
            LockError: it is somebody else's by now.
        """
        if work.fencing is None:
            return
        try:
            end_step_pods(work, say=self.log.info)
            work.fenced().keep(seconds=int(seconds))
        except ClusterError as error:  # neither changes how the release ended
            self.log.warning("not all could be tidied up: %s", error)

    def _failed(self, work: Work, outcome: str) -> None:
        self._wind_up(work)
        reason = self.reason(work)
        work.history.mark_failed(work.release.id, failure=reason)
        self.end(f"{work.release.title} failed; {outcome}", why=reason)

    def _broken(self, work: Work, error: SlipwayError) -> NoReturn:
        self._wind_up(work)
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
            if work.history.get(work.release.id).status == "good":
                tell_endpoint(work, context)
        except SlipwayError as error:
            say_failure(context, error)
            if getattr(error, "is_transient", False):
                raise AirflowException(f"{error}; it will be tried again") from None
            self._unlock(work, context)
            raise AirflowFailException(str(error)) from None

    def _unlock(self, work: Work, context: Context) -> None:
        """Give the lock back, unless another attempt at this step has it under a newer number by now."""
        from slipway.cluster import lease

        try:
            holder, fencing = lock_holder(context), work.fencing
            lease.release(work.cluster(), **work.place, holder=holder, fencing=fencing)
        except SlipwayError as error:  # it runs out by itself
            self.log.warning("the lock of %s could not be given back: %s", work.plan.endpoint, error)
        else:
            self.log.info("the lock of %s is free", work.plan.endpoint)


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
