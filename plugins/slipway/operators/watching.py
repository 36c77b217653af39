"""Regular probes of all endpoints that serve, one task for each cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from slipway.errors import SlipwayError
from slipway.operators.alerts import ALERT_CONNECTION, AlertNotifier
from slipway.operators.connections import cluster_of
from slipway.operators.steps import FAILURE, one_line_failures, plan_of
from slipway.operators.watch_pods import Seen, look_at

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.releases.records import Release
    from slipway.releases.store import History


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
        if releases:
            yield from look_at(cluster_of(plan_of(releases[0]).connection), releases, run=run)

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
