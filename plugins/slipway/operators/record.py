"""The last step: the release is good, or its evidence is kept and the endpoint goes back to the last good one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from slipway.errors import ReleaseError, SlipwayError
from slipway.manifests.render import RELEASE_LABEL, Rendered
from slipway.operators.steps import FAILURE, Work, lock_holder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.releases.records import Release

RESTORE_SECONDS = 900


class RecordOperator(BaseOperator):
    """Finish the release, whatever became of the steps before it. A teardown: it always runs.

    It looks at what is known of the release, not at the colours of tasks: a release is good when a probe through
    the published Service has succeeded. Otherwise the evidence goes to the artefact store first; then the last good
    release's stored objects are applied again and waited for, or, if there is none, the workload is scaled to 0 and
    kept for a look. The lock is given back in the end in every case.

    Limits: a return is waited for, not probed; if it fails too, the release is ``broken`` and nothing is tried
    again by itself.
    """

    template_fields: Sequence[str] = ("release",)

    def __init__(self, *, release: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.release = release

    def execute(self, context: Context) -> None:
        """Finish the release and give the lock back."""
        work = Work(self.release)
        try:
            if work.release.status != "pending":
                self.log.info("%s is already %s", work.release.title, work.release.status)
            elif any(probe.through == "published" for probe in work.history.probes(work.release.id)):
                self._good(work)
            else:
                self._failed(work, context)
        except SlipwayError as error:
            context["ti"].xcom_push(key=FAILURE, value=str(error))
            raise AirflowFailException(str(error)) from None
        finally:
            self._unlock(work, context)

    def _good(self, work: Work) -> None:
        from slipway.cluster.apply import inventory_of, prune
        from slipway.releases.inventory import inventory_object

        earlier = self._since_last_good(work)
        release = work.history.mark_good(work.release.id)
        self.log.info("%s is good and serves", release.title)
        cluster = work.cluster()
        cluster.apply(inventory_object(release))
        old = [ref for one in earlier for ref in inventory_of(Rendered.from_bytes(one.objects).objects())]
        for ref in prune(cluster, old=old, new=inventory_of(work.rendered.objects())):
            self.log.info("pruned %s", ref)

    def _since_last_good(self, work: Work) -> list[Release]:
        """The last good release and those that failed after it: together all that may have left objects."""
        last = work.history.last_good(work.plan.endpoint)
        first = last.number if last else 1
        releases = work.history.list(endpoint=work.plan.endpoint, limit=work.release.number - first + 1)
        return [release for release in releases if first <= release.number < work.release.number]

    def _failed(self, work: Work, context: Context) -> None:
        reason = work.history.get(work.release.id).failure or "the run ended before the release was proven"
        last = work.history.last_good(work.plan.endpoint)
        cluster = work.cluster()
        self._keep_evidence(work, cluster)
        try:
            outcome = self._return_to(last, work, cluster)
        except SlipwayError as error:
            both = f"{reason} | and the return failed: {error}"
            work.history.mark_failed(work.release.id, failure=both, broken=True)
            raise ReleaseError(
                f"{work.release.title} failed ({reason}) and the return failed too", why=str(error)
            ) from error
        work.history.mark_failed(work.release.id, failure=reason)
        raise ReleaseError(f"{work.release.title} failed; {outcome}", why=reason)

    def _keep_evidence(self, work: Work, cluster: Cluster) -> None:
        from slipway.cluster.evidence import as_text, collect
        from slipway.releases.artifacts import Artifacts

        place = {"namespace": work.plan.namespace, "endpoint": work.plan.object_name}
        try:
            evidence = collect(cluster, **place, release=work.rendered.release)
            name = f"evidence/{work.plan.object_name}/{work.release.number}.json"
            self.log.info("%s", as_text(evidence))
            kept = Artifacts.open().put(name, json.dumps(evidence, indent=1, ensure_ascii=False).encode())
            self.log.info("evidence is kept in %s", kept)
        except SlipwayError as error:
            self.log.warning("the evidence could not be kept: %s", error)

    def _return_to(self, last: Release | None, work: Work, cluster: Cluster) -> str:
        from slipway.cluster.apply import apply, inventory_of, prune
        from slipway.cluster.objects import labels_of, ref_of
        from slipway.cluster.watch import wait_for_workload_sync

        name, namespace = work.plan.object_name, work.plan.namespace
        live = cluster.get(api_version="apps/v1", kind="StatefulSet", name=name, namespace=namespace)
        label = labels_of(live).get(RELEASE_LABEL) if live else None
        if last is None:
            if live is None or label != work.rendered.release:
                return "nothing of it runs"
            cluster.scale(ref_of(live), replicas=0)
            return "there is no good release to return to, the workload is scaled to 0 and kept for a look"
        rendered = Rendered.from_bytes(last.objects)
        if label == rendered.release and label != work.rendered.release:
            return f"{last.title} was not touched and serves"
        apply(cluster, rendered.stages["workload"] + rendered.stages["publication"], force=True)
        verdict = wait_for_workload_sync(
            cluster,
            kind="StatefulSet",
            namespace=namespace,
            name=name,
            endpoint=name,
            release=rendered.release,
            deadline_seconds=RESTORE_SECONDS,
            on_progress=lambda line: self.log.info("%s", line),
        )
        if verdict.doom is not None:
            raise verdict.doom.error()
        old = inventory_of(work.rendered.objects())
        for ref in prune(cluster, old=old, new=inventory_of(rendered.objects())):
            self.log.info("pruned %s", ref)
        return f"{last.title} serves again"

    def _unlock(self, work: Work, context: Context) -> None:
        from slipway.cluster import lease

        lease.release(
            work.cluster(),
            namespace=work.plan.namespace,
            endpoint_object=work.plan.object_name,
            holder=lock_holder(context),
        )
        self.log.info("the lock of %s is free", work.plan.endpoint)
