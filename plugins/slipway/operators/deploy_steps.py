"""The steps that look at and change the cluster: check, apply, wait, publish."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway.catalog.names import ENDPOINT_LABEL, RELEASE_LABEL
from slipway.cluster.controllers import retire_others
from slipway.cluster.verdict import condition, moment
from slipway.errors import ClusterError
from slipway.manifests.plan import Plan
from slipway.operators.returning import scale_up
from slipway.operators.steps import Step, Work, one_line_failures

if TYPE_CHECKING:
    from airflow.sdk import Context


class CheckOperator(Step):
    """Check that the cluster can take this plan; a blocking finding ends the run with its remedy."""

    def work(self, work: Work, context: Context) -> None:
        """Run the checks, store and print the findings."""
        from slipway.checks.findings import blocking, table
        from slipway.checks.plan import subject_of
        from slipway.checks.run import run_checks

        findings = run_checks(work.cluster(), subject_of(work.plan, work.rendered))
        work.history.record_findings(work.release.id, findings)
        for line in table(findings).splitlines():
            self.log.info("%s", line)
        stops = blocking(findings)
        if stops:
            more = f" (and {len(stops) - 1} more)" if len(stops) > 1 else ""
            first = stops[0]
            raise ClusterError(
                f"the check of {first.check} found a blocking problem{more}",
                about=first.about,
                why=first.reason,
                remedy=first.remedy,
            )


class ApplyOperator(Step):
    """Dry-run all objects of the release on the server, then apply storage and workload."""

    def work(self, work: Work, context: Context) -> None:
        """Apply; publication objects are only dry-run here, they move when the release is proven."""
        from slipway.cluster.apply import apply, dry_run

        cluster, plan = work.fenced(), work.plan
        dry_run(cluster, work.rendered.objects())
        self.log.info("the API server accepts all %d objects", len(work.rendered.objects()))
        place = {"namespace": plan.namespace, "endpoint": plan.object_name}
        for ref in retire_others(cluster, **place, keep=plan.controller):
            self.log.info("deleted %s: this release is a %s", ref, plan.controller)
        for ref in apply(cluster, work.rendered.stages["storage"] + work.rendered.stages["workload"]):
            self.log.info("applied %s", ref)
        scale_up(cluster, plan, say=self.log.info)


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

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow stores to start the trigger again after a restart."""
        return f"{type(self).__module__}.{type(self).__name__}", {
            key: getattr(self, key) for key in self.KEYS
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch the workload; one event with the verdict."""
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook

        from slipway.cluster.watch import wait_for_workload

        async with AsyncKubernetesHook(conn_id=self.connection).get_conn() as client:
            verdict = await wait_for_workload(
                client,
                kind=self.kind,
                namespace=self.namespace,
                name=self.name,
                endpoint=self.endpoint_object,
                release=self.release,
                deadline_seconds=self.seconds,
                on_progress=lambda line: self.log.info("%s", line),
            )
        yield TriggerEvent(verdict.model_dump(mode="json"))


def workload_trigger(plan: Plan, *, release: str) -> WorkloadTrigger:
    """The trigger that waits for a release: its time to start, twice, since a first pod may be evicted."""
    return WorkloadTrigger(
        connection=plan.connection,
        namespace=plan.namespace,
        endpoint_object=plan.object_name,
        kind=plan.controller,
        name=plan.controller_name,
        release=release,
        seconds=2.0 * plan.server.startup_seconds,
    )


class WaitOperator(Step):
    """Wait deferred until the workload is really available; fail at once when it is known that it never will be."""

    def work(self, work: Work, context: Context) -> Any:
        """Defer to the trigger."""
        trigger = workload_trigger(work.plan, release=work.rendered.release)
        self.defer(trigger=trigger, method_name="resume", timeout=timedelta(seconds=trigger.seconds + 120))

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Read the verdict."""
        from slipway.cluster.verdict import Verdict

        with one_line_failures(context, self.release):
            verdict = Verdict.model_validate(event)
            if verdict.log:
                self.log.info("the end of the container's log:\n%s", verdict.log)
            if verdict.doom is not None:
                raise verdict.doom.error()
            self._note_times(Work(self.release), context)
        self.log.info("%s", verdict.what)

    def _note_times(self, work: Work, context: Context) -> None:
        """Leave when the release's pod was made and when it was ready, for benchmarks/orchestration."""
        labels = {ENDPOINT_LABEL: work.plan.object_name, RELEASE_LABEL: work.rendered.release}
        pods = work.cluster().list(api_version="v1", kind="Pod", namespace=work.plan.namespace, labels=labels)
        created = [moment(pod["metadata"]["creationTimestamp"]) for pod in pods]
        ready = [moment(condition(pod, "Ready").get("lastTransitionTime")) for pod in pods]
        if pods and all(created) and all(ready):
            times = {
                "created": min(time.timestamp() for time in created if time),
                "ready": max(time.timestamp() for time in ready if time),
            }
            context["ti"].xcom_push(key="server_times", value=times)


class PublishOperator(Step):
    """Move the published Service to this release, which the probe has proven."""

    def work(self, work: Work, context: Context) -> None:
        """Apply the publication objects."""
        from slipway.cluster.apply import apply

        if not work.history.probes(work.release.id):
            raise ClusterError(
                "a release that no probe has proven is not published", about=work.release.title
            )
        for ref in apply(work.fenced(), work.rendered.stages["publication"]):
            self.log.info("applied %s", ref)
