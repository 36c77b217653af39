"""Regular probes of all endpoints that serve, one task for each cluster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from slipway.cluster.listed import ListedCluster
from slipway.errors import SlipwayError
from slipway.operators.alerts import ALERT_CONNECTION, AlertNotifier, Change
from slipway.operators.connections import cluster_of
from slipway.operators.drift import differences
from slipway.operators.notes import say_failure
from slipway.operators.restarting import due, restart
from slipway.operators.steps import lock_holder, one_line_failures, plan_of
from slipway.operators.watch_pods import Seen, look_at
from slipway.releases.lines import line_of
from slipway.releases.records import Release, StateRecord, StateSeen

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.releases.store import History


TELL_SECONDS = 60.0
"""For all changes together: a receiver that hangs must not hold the task for as long as there are changes."""


class ChooseClustersOperator(BaseOperator):
    """Choose the clusters in which something serves."""

    def execute(self, context: Context) -> list[str]:
        """Return their names."""
        from slipway.releases.store import History

        with one_line_failures(context):
            history = History.open()
            history.forget_old_states()
            history.forget_old_drifts()
            return history.clusters_in_use()


class ProbeClusterOperator(BaseOperator):
    """Probe every published endpoint of a cluster from pods, keep what they say, and tell changes of state.

    While the pods start, each is compared with its release: what somebody changed since is kept and told likewise, and
    left as it is.

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
            history, not_made, releases = History.open(), list[str](), list[Release]()
            changing = _changing(history)
            for release in history.good_ones(cluster=self.cluster):
                if release.endpoint not in changing:
                    releases.append(release)
            if releases:
                cluster = cluster_of(plan_of(releases[0]).connection)
                listed = ListedCluster(cluster)
                groups = look_at(
                    cluster,
                    releases,
                    run=str(context["run_id"]),
                    listed=listed,
                    meanwhile=lambda: self._compare(history, listed, releases),
                )
                with closing(groups):
                    for group in groups:
                        not_made += [
                            f"{one.release.endpoint}: {one.not_made}" for one in group if one.not_made
                        ]
                        states = self._keep(history, [one for one in group if not one.not_made])
                        self._restart_where_due(cluster, history, group, states, context)
        self._tell(history, context)
        if not_made:
            line = f"{len(not_made)} of {len(releases)} probes could not be made; {not_made[0]}"
            say_failure(context, line)
            raise AirflowFailException(line)

    def _compare(self, history: History, listed: ListedCluster, releases: list[Release]) -> None:
        """Keep how endpoints differ from their releases; what a run began to change meanwhile is left out."""
        found, known = dict[int, list[dict[str, str]]](), history.drifted()
        for release in releases:
            try:
                found[release.id] = differences(listed, release)
            except SlipwayError as error:
                self.log.warning("%s could not be compared with its release: %s", release.endpoint, error)
        for release in _still_serving(history, releases):
            differs = found.get(release.id)
            if differs is not None and (differs or release.endpoint in known):
                drift = history.record_drift(
                    release.endpoint,
                    cluster=release.cluster,
                    release_number=release.number,
                    differences=differs,
                )
                if drift is not None:
                    self.log.info("%s", line_of(drift))

    def _restart_where_due(
        self,
        cluster: Cluster,
        history: History,
        group: list[Seen],
        states: list[StateRecord],
        context: Context,
    ) -> None:
        """Start the pods of endpoints anew whose records want that; one that cannot be is looked at again."""
        releases = {seen.release.endpoint: seen.release for seen in group}
        for state in due(history, states):
            release = releases[state.endpoint]
            try:
                what = restart(cluster, history, release, run=lock_holder(context), reason=state.reason)
            except SlipwayError as error:
                what = f"its pods could not be started anew: {error}"
            self.log.warning("%s: %s", state.endpoint, what)

    def _keep(self, history: History, group: list[Seen]) -> list[StateRecord]:
        """Keep what was seen; what a run began to change meanwhile is left out."""
        serving = {release.id for release in _still_serving(history, [seen.release for seen in group])}
        states = history.record_states(
            [
                StateSeen(
                    endpoint=seen.release.endpoint,
                    cluster=seen.release.cluster,
                    release_number=seen.release.number,
                    **seen.values,
                )
                for seen in group
                if seen.release.id in serving
            ]
        )
        for state in states:
            took = f", {state.seconds:.2f} s" if state.seconds is not None else ""
            first = (
                f", first token after {state.ttft_seconds:.3f} s" if state.ttft_seconds is not None else ""
            )
            self.log.info("%s: %s%s%s %s", state.endpoint, state.state, took, first, state.reason)
        return states

    def _tell(self, history: History, context: Context) -> None:
        untold: list[Change] = [*history.untold_states(), *history.untold_drifts()]
        changes, deadline = (
            [one for one in untold if one.cluster == self.cluster],
            time.monotonic() + TELL_SECONDS,
        )
        for number, change in enumerate(changes):
            if time.monotonic() > deadline:
                self.log.warning("%d changes are left to be told by the next run", len(changes) - number)
                return
            try:
                for connection in self.alerts:
                    AlertNotifier(connection=connection)({**context, "change": change})
                if isinstance(change, StateRecord):
                    history.note_told(change.id)
                else:
                    history.note_drift_told(change.id)
            except SlipwayError as error:
                self.log.warning("the change of %s is told by the next run: %s", change.endpoint, error)


def _still_serving(history: History, releases: list[Release]) -> list[Release]:
    """Those that are good as before, and which no run is changing just now."""
    changing, good = _changing(history), history.good_ids()
    return [one for one in releases if one.id in good and one.endpoint not in changing]


def _changing(history: History) -> set[str]:
    """The endpoints that a run is changing just now."""
    releases = {release.endpoint for release in history.pending() if release.fencing is not None}
    return releases | {change.endpoint for change in history.pending_changes()}
