"""The steps that look at and change the cluster: check, apply, wait, publish."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway.catalog.names import ENDPOINT_LABEL, RELEASE_LABEL
from slipway.cluster.verdict import condition, moment
from slipway.cluster.waiting import Target
from slipway.errors import ClusterError
from slipway.manifests.plan import Plan
from slipway.operators.canary import judge, start_watch, take_watch, watch_timeout, weighted_route
from slipway.operators.connections import opener_of
from slipway.operators.links import EndpointLink, PodLink, pod_address
from slipway.operators.rollout import apply_release, as_it_stands, standing_of
from slipway.operators.steps import Step, Work, hold_lock, log_group, one_line_failures

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.cluster.objects import Object
    from slipway.cluster.verdict import Doom


class CheckOperator(Step):
    """Check that the cluster can take this plan; a blocking finding ends the run with its remedy."""

    def work(self, work: Work, context: Context) -> None:
        """Run the checks, store and print the findings."""
        from slipway.checks.findings import blocking, table
        from slipway.checks.plan import subject_of
        from slipway.checks.run import run_checks

        findings = run_checks(work.cluster(), subject_of(work.plan, work.rendered))
        work.history.record_findings(work.release.id, findings)
        with log_group(self.log, "Findings"):
            for line in table(findings).splitlines():
                self.log.info("%s", line)
        stops = blocking(findings)
        if stops:
            more = f" (and {len(stops) - 1} more)" if len(stops) > 1 else ""
            first = stops[0]
            remedy, _, rest = first.remedy.partition("\n")
            raise ClusterError(
                f"the check of {first.check} found a blocking problem{more}",
                about=first.about,
                why=first.reason,
                remedy=f"{remedy.rstrip(':')}, which this step's log prints" if rest else remedy,
            )


class ApplyOperator(Step):
    """Dry-run all objects of the release on the server, then apply storage and workload."""

    def work(self, work: Work, context: Context) -> None:
        """Apply; publication objects are only dry-run here, they move when the release is proven."""
        rollout = work.plan.rollout
        self.log.info("strategy %s: %s", rollout.strategy, rollout.reason)
        apply_release(work, say=self.log.info)


class WorkloadTrigger(BaseTrigger):
    """Wait until a release's workload is available, or until it is known why it never will be."""

    KEYS = ("connection", "namespace", "endpoint_object", "kind", "name", "release", "seconds")

    def __init__(
        self,
        *,
        connection: str,
        namespace: str,
        endpoint_object: str,
        kind: str,
        name: str,
        release: str,
        seconds: float,
    ) -> None:
        super().__init__()
        self.connection, self.namespace, self.endpoint_object = connection, namespace, endpoint_object
        self.kind, self.name = kind, name
        self.release, self.seconds = release, seconds

    @property
    def target(self) -> Target:
        """What is waited for."""
        return Target(
            kind=self.kind,
            namespace=self.namespace,
            name=self.name,
            endpoint=self.endpoint_object,
            release=self.release,
        )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow stores to start the trigger again after a restart."""
        return f"{type(self).__module__}.{type(self).__name__}", {
            key: getattr(self, key) for key in self.KEYS
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch the workload; one event with the verdict."""
        from slipway.cluster.shared import seat
        from slipway.cluster.watch import wait_for_workload

        async with seat(self.connection, self.namespace, opener=opener_of(self.connection)) as taken:
            verdict = await wait_for_workload(
                taken,
                self.target,
                deadline_seconds=self.seconds,
                on_progress=lambda line: self.log.info("%s", line),
            )
        yield TriggerEvent(verdict.model_dump(mode="json"))


def workload_trigger(cluster: Cluster, plan: Plan, *, release: str) -> WorkloadTrigger:
    """The trigger that waits for a release: its time to start, twice, since a first pod may be evicted."""
    workload = standing_of(cluster, plan).of(release, kind=plan.controller)
    return WorkloadTrigger(
        connection=plan.connection,
        namespace=plan.namespace,
        endpoint_object=plan.object_name,
        kind=plan.controller,
        name=workload.ref.name if workload else plan.controller_name,
        release=release,
        seconds=2.0 * plan.server.startup_seconds,
    )


def with_sizing(doom: Doom, plan: Plan) -> Doom:
    """Put beside a limit that was too small what the endpoint was said to need."""
    if doom.reason != "OOMKilled" or not plan.sizing:
        return doom
    return doom.model_copy(update={"why": f"{doom.why}; its sizing: {plan.sizing}"})


class WaitOperator(Step):
    """Wait deferred until the workload is really available; fail at once when it is known that it never will be."""

    operator_extra_links = (EndpointLink(), PodLink())

    def work(self, work: Work, context: Context) -> Any:
        """Defer to the trigger, unless nothing about the pods changed and they are available already."""
        from slipway.cluster.watch import is_available

        cluster = work.cluster()
        trigger = workload_trigger(cluster, work.plan, release=work.rendered.release)
        if is_available(cluster, trigger.target):
            self.log.info("available already")
            self._note_times(self._pods(work), context)
            return
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=trigger.seconds + 120))

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Read the verdict."""
        from slipway.cluster.verdict import Verdict

        with one_line_failures(context, self.release):
            verdict = Verdict.model_validate(event)
            if verdict.log:
                with log_group(self.log, "The end of the container's log"):
                    self.log.info("%s", verdict.log)
            work = Work(self.release)
            pods = self._pods(work)
            if verdict.doom is not None:
                raise with_sizing(verdict.doom, work.plan).error()
            self._note_times(pods, context)
        self.log.info("%s", verdict.what)

    def _pods(self, work: Work) -> list[Object]:
        """The release's pods; the first of them is what the task's link leads to."""
        labels = {ENDPOINT_LABEL: work.plan.object_name, RELEASE_LABEL: work.rendered.release}
        pods = work.cluster().list(api_version="v1", kind="Pod", namespace=work.plan.namespace, labels=labels)
        self.pod_address = pod_address(work.plan, pods[0]["metadata"]["name"]) if pods else ""
        return pods

    def _note_times(self, pods: list[Object], context: Context) -> None:
        """Leave when the release's pod was made and when it was ready, for benchmarks/orchestration."""
        created = [moment(pod["metadata"]["creationTimestamp"]) for pod in pods]
        ready = [moment(condition(pod, "Ready").get("lastTransitionTime")) for pod in pods]
        if pods and all(created) and all(ready):
            times = {
                "created": min(time.timestamp() for time in created if time),
                "ready": max(time.timestamp() for time in ready if time),
            }
            context["ti"].xcom_push(key="server_times", value=times)


class PublishOperator(Step):
    """Move the published Service to this release, which the probe has proven; a canary's requests first in steps."""

    def work(self, work: Work, context: Context) -> None:
        """Apply the publication objects, or begin with the first share of the requests."""
        if not work.history.probes(work.release.id):
            raise ClusterError(
                "a release that no probe has proven is not published", about=work.release.title
            )
        good = work.history.last_good(work.plan.endpoint)
        standing = standing_of(work.cluster(), work.plan)
        if (
            work.plan.rollout.strategy == "canary"
            and good
            and standing.published
            not in (
                None,
                work.rendered.release,
            )
        ):
            self._share(work, context, step=0)
        self._publish(work)

    def watched(self, context: Context, event: dict[str, Any], step: int) -> None:
        """Go on when a step of a canary has been watched."""
        with one_line_failures(context, self.release):
            work = self.open(context)
            weight = work.plan.rollout.canary.weights[step]
            seen = take_watch(work.cluster(), work.plan, name=event["name"], weight=weight)
            self.log.info("%d %%: %s", weight, judge(seen, work.plan, weight=weight))
            if step + 1 < len(work.plan.rollout.canary.weights):
                self._share(work, context, step=step + 1)
            self._publish(work)

    def _share(self, work: Work, context: Context, *, step: int) -> NoReturn:
        good = work.history.last_good(work.plan.endpoint)
        assert good is not None  # the first step looked
        weight = work.plan.rollout.canary.weights[step]
        work.fenced().apply(weighted_route(good, work, weight=weight), force=True)
        self.log.info("%d %% of the requests go to %s", weight, work.release.title)
        trigger = start_watch(work.cluster(), work, step=step)
        hold_lock(work, context, seconds=trigger.seconds)
        self.defer(
            trigger=trigger, method_name="watched", kwargs={"step": step}, timeout=watch_timeout(trigger)
        )

    def _publish(self, work: Work) -> None:
        from slipway.cluster.apply import apply

        placed = as_it_stands(work.cluster(), work.plan, work.rendered)
        for ref in apply(work.fenced(), placed.stages["publication"]):
            self.log.info("applied %s", ref)
