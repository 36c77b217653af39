"""Regular probes of all endpoints that serve, one task for each cluster."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from slipway.errors import ProbeError, SlipwayError
from slipway.operators.alerts import ALERT_CONNECTION, AlertNotifier
from slipway.operators.connections import cluster_of
from slipway.operators.prober import delete_probe, has_ended, start_probe, take_probe
from slipway.operators.steps import FAILURE, one_line_failures, plan_of, workload_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.manifests.plan import Plan
    from slipway.releases.records import Release
    from slipway.releases.store import History

AT_ONCE = 16
"""How many probe pods of a cluster there are at once: each asks for 256 MiB of memory."""
POD_SECONDS = 240.0


class ChooseClustersOperator(BaseOperator):
    """Choose the clusters in which something serves."""

    def execute(self, context: Context) -> list[str]:
        """Return their names."""
        from slipway.releases.store import History

        with one_line_failures(context):
            history = History.open()
            history.forget_old_states()
            return sorted({release.cluster for release in history.good_ones()})


class ProbeClusterOperator(BaseOperator):
    """Probe every published endpoint of a cluster from pods, keep what they say, and tell changes of state.

    An endpoint that a run is changing just now is left out; one that is scaled to 0 counts as stopped, which is no
    fault. A probe that could not be made says nothing of its endpoint: the task fails with the reason.

    Args:
        cluster: the cluster's name.
        alerts: Airflow connections, each of which a change of state is told through (``AlertNotifier``). A change
            that could not be told is told by the next run.
    """

    template_fields: Sequence[str] = ("cluster",)

    def __init__(self, *, cluster: Any, alerts: Sequence[str] = (ALERT_CONNECTION,), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster, self.alerts = cluster, tuple(alerts)

    def execute(self, context: Context) -> None:
        """Probe, keep and tell."""
        from slipway.releases.store import History

        with one_line_failures(context):
            history, not_made = History.open(), list[str]()
            changing = {release.endpoint for release in history.pending() if release.fencing is not None}
            changing |= {change.endpoint for change in history.pending_changes()}
            releases = [
                release
                for release in history.good_ones()
                if release.cluster == self.cluster and release.endpoint not in changing
            ]
            for seen in self._look(releases, run=str(context["run_id"])):
                if seen.not_made:
                    not_made.append(f"{seen.release.endpoint}: {seen.not_made}")
                    continue
                self._keep(history, seen)
        self._tell(history, context)
        if not_made:
            line = f"{len(not_made)} of {len(releases)} probes could not be made; {not_made[0]}"
            context["ti"].xcom_push(key=FAILURE, value=line)
            raise AirflowFailException(line)

    def _look(self, releases: list[Release], *, run: str) -> Iterator[Seen]:
        if not releases:
            return
        cluster, waiting, running = cluster_of(plan_of(releases[0]).connection), list(releases), list[Seen]()
        while waiting or running:
            while waiting and len(running) < AT_ONCE:
                seen = _started(cluster, waiting.pop(0), run=run)
                if seen.is_done:
                    yield seen
                else:
                    running.append(seen)
            for seen in list(running):
                if seen.look(cluster):
                    running.remove(seen)
                    yield seen
            time.sleep(0.5 if running else 0)

    def _keep(self, history: History, seen: Seen) -> None:
        state = history.record_state(
            seen.release.endpoint,
            cluster=seen.release.cluster,
            release_number=seen.release.number,
            **seen.values,
        )
        took = f", {state.seconds:.2f} s" if state.seconds is not None else ""
        first = f", first token after {state.ttft_seconds:.3f} s" if state.ttft_seconds is not None else ""
        self.log.info("%s: %s%s%s %s", state.endpoint, state.state, took, first, state.reason)

    def _tell(self, history: History, context: Context) -> None:
        for state in history.untold_states():
            if state.cluster != self.cluster:
                continue
            try:
                for connection in self.alerts:
                    AlertNotifier(connection=connection)({**context, "change": state})
                history.note_told(state.id)
            except SlipwayError as error:
                self.log.warning("the change of %s is told by the next run: %s", state.endpoint, error)


@dataclass
class Seen:
    """The probe of one endpoint, on its way or done.

    Attributes:
        values: what the history keeps of it.
        not_made: why there was no probe.
    """

    release: Release
    plan: Plan
    pod: str = ""
    deadline: float = 0.0
    values: dict[str, Any] = field(default_factory=dict)
    not_made: str = ""

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to wait for."""
        return bool(self.values or self.not_made)

    def look(self, cluster: Cluster) -> bool:
        """Take the result if there is one; whether it is done."""
        try:
            pod = cluster.get(api_version="v1", kind="Pod", name=self.pod, namespace=self.plan.namespace)
            if not has_ended(pod):
                if time.monotonic() > self.deadline:
                    delete_probe(cluster, self.plan, name=self.pod)
                    self.not_made = f"the probe's pod did not end in {POD_SECONDS:.0f} s"
                return self.is_done
            result = take_probe(cluster, self.plan, name=self.pod)
        except ProbeError as error:
            self.values = {"state": "failing", "reason": str(error)}
        except SlipwayError as error:
            self.not_made = str(error)
        else:
            seconds = sum(step.seconds for step in result.steps)
            self.values = {"state": "serving", "seconds": seconds, "ttft_seconds": result.ttft_seconds}
        return True


def _started(cluster: Cluster, release: Release, *, run: str) -> Seen:
    """Look at the workload; where it should serve, start the pod that asks."""
    import hashlib

    from slipway.cluster.controllers import find_workload

    plan = plan_of(release)
    seen = Seen(release=release, plan=plan)
    try:
        live = find_workload(cluster, **workload_of(plan, release=release.label))
        if live is None:
            what = f"{plan.controller} {plan.namespace}/{plan.controller_name}"
            seen.values = {"state": "failing", "reason": f"{what} is gone: somebody deleted it"}
        elif live["spec"].get("replicas") == 0:
            seen.values = {"state": "stopped", "reason": "scaled to 0"}
        else:
            seen.pod = f"{plan.object_name}-watch-{hashlib.sha256(run.encode()).hexdigest()[:8]}"
            seen.deadline = time.monotonic() + POD_SECONDS
            start_probe(cluster, plan, release=release.label, through="published", name=seen.pod)
    except SlipwayError as error:
        seen.not_made = str(error)
    return seen
