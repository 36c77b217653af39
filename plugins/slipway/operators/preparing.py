"""Preparing a cluster: plan, approval by a person, lock, one task for each step, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from slipway.catalog.read import include_directory, read_catalog
from slipway.errors import ClusterError, LockError, SlipwayError, UsageError
from slipway.manifests.cluster_objects import cluster_record
from slipway.operators.connections import cluster_of, credentials_of
from slipway.operators.lock import LockTrigger
from slipway.operators.request import actor_of, refuse_unknown_conf, refuse_without_fernet_key
from slipway.operators.steps import LOCK_MARGIN_SECONDS, lock_holder, one_line_failures

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.prepare.outlook import Outlook
    from slipway.prepare.steps import Step
    from slipway.prepare.target import Target
    from slipway.releases.preparations import PreparationRecord, Preparations

LOCK_SECONDS = 600 + LOCK_MARGIN_SECONDS


def is_true(value: Any) -> bool:
    """Whether a parameter that came through a template is true."""
    return str(value).lower() == "true"


@contextmanager
def tried_again() -> Iterator[None]:
    """Let Airflow try a task again whose fault may pass: an API server that is away, a webhook that starts."""
    try:
        yield
    except SlipwayError as error:
        if not getattr(error, "is_transient", False):
            raise
        raise AirflowException(f"{error}; it will be tried again") from None


class _Preparing(BaseOperator):
    """What the tasks of a preparation share: the cluster, the steps, and the history of this run.

    Args:
        cluster: its name in the catalog.
        steps: ids of the steps that are asked for, as a list or as JSON; all when empty.
        take_over: whether fields that other field managers hold are taken over.
    """

    template_fields: Sequence[str] = ("cluster", "steps", "take_over")

    def __init__(self, *, cluster: str, steps: Any = (), take_over: Any = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster, self.steps, self.take_over = cluster, steps, take_over

    def chosen(self) -> list[Step]:
        """The steps that are asked for."""
        from slipway.prepare.steps import chosen

        names = json.loads(self.steps) if isinstance(self.steps, str) else self.steps
        return chosen(cluster_record(read_catalog(), self.cluster), names or [])

    def connection(self) -> str:
        """The id of the connection of somebody who may set the cluster up."""
        record = cluster_record(read_catalog(), self.cluster)
        return record.setup.connection or record.connection

    def target(self) -> Target:
        """The cluster, to look at and to write to."""
        from slipway.prepare.target import target_of

        return target_of(
            read_catalog(),
            self.cluster,
            include=include_directory(),
            cluster=cluster_of(self.connection()),
            credentials=credentials_of,
            take_over=is_true(self.take_over),
        )

    def history(self) -> Preparations:
        """The history of preparations."""
        from slipway.releases.preparations import Preparations

        return Preparations.open()

    def planned(self, context: Context) -> PreparationRecord:
        """What this run planned."""
        return self.history().get(self.cluster, run_id=lock_holder(context))


class PlanPreparationOperator(_Preparing):
    """Look at all steps, show what each would change, and write the plan into the history.

    Returns the ids of the steps that have something to do, and nothing else: the plan itself is in the history.
    """

    template_fields: Sequence[str] = (*_Preparing.template_fields, "reason")

    def __init__(self, *, reason: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reason = reason

    def execute(self, context: Context) -> list[str]:
        """Plan."""
        from slipway.prepare.outlook import table
        from slipway.prepare.run import plan

        with one_line_failures(context), tried_again():
            refuse_unknown_conf(context)
            refuse_without_fernet_key()
            outlooks = plan(self.target(), self.chosen())
            for line in table(outlooks).splitlines():
                self.log.info("%s", line)
            kept = self.history().begin(
                self.cluster,
                run_id=lock_holder(context),
                plan=[one.model_dump(mode="json") for one in outlooks],
                reason=self.reason or "",
                actor=actor_of(context),
            )
            return [one["step"] for one in kept.plan if one["state"] != "there"]


class ApprovePreparationOperator(ApprovalOperator):
    """Ask a person on a page that shows the plan; wait without a worker, for as long as it takes.

    Nobody is asked where nothing is to be done, or where the run itself says ``approve`` (a system that triggers it by
    the API).

    Args:
        cluster: its name in the catalog.
        approve: whether the run is approved already.
    """

    template_fields: Sequence[str] = (*ApprovalOperator.template_fields, "cluster", "approve")

    def __init__(self, *, cluster: str, approve: Any = False, **kwargs: Any) -> None:
        super().__init__(subject="Prepare {{ params.cluster }}", body="The plan.", **kwargs)
        self.cluster, self.approve = cluster, approve

    def execute(self, context: Context) -> Any:
        """Ask, unless nobody needs to be asked."""
        from slipway.prepare.outlook import Outlook, markdown
        from slipway.releases.preparations import Preparations

        with one_line_failures(context):
            history, run_id = Preparations.open(), lock_holder(context)
            planned = history.get(self.cluster, run_id=run_id)
            outlooks = [Outlook.model_validate(one) for one in planned.plan]
            if all(one.state == "there" for one in outlooks):
                self.log.info("all is there; nobody is asked")
                return None
            if planned.approver:
                self.log.info("%s has approved it", planned.approver)
                return None
            if is_true(self.approve):
                history.approve(self.cluster, run_id=run_id, approver=actor_of(context))
                self.log.info("approved by the run itself, started by %s", actor_of(context))
                return None
        self.body = markdown(outlooks)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Note who decided; turned down, nothing after this runs."""
        from slipway.releases.preparations import Preparations

        who = (event.get("responded_by_user") or {}).get("name") or "a person"
        run_id = lock_holder(context)
        if "error" not in event:
            history = Preparations.open()
            approved = event["chosen_options"] == [self.APPROVE]
            decide = history.approve if approved else history.reject
            decide(self.cluster, run_id=run_id, approver=who)
            self.log.info("%s by %s", "approved" if approved else "turned down", who)
        return super().execute_complete(context, event)


class LockClusterOperator(_Preparing):
    """Take the cluster's lock; wait deferred, without a worker, while another run holds it."""

    def execute(self, context: Context) -> None:
        """Take it or wait for it."""
        from slipway.cluster import lease
        from slipway.prepare.lock import PLACE

        with one_line_failures(context), tried_again():
            self.planned(context)
            connection, holder = self.connection(), lock_holder(context)
            if (
                lease.acquire(cluster_of(connection), **PLACE, holder=holder, seconds=LOCK_SECONDS)
                is not None
            ):
                return
        self.log.info("another run prepares %s; waiting in order of arrival", self.cluster)
        self.defer(
            trigger=LockTrigger(connection=connection, holder=holder, **PLACE),
            method_name="resume",
            timeout=self.execution_timeout or timedelta(hours=12),
        )

    def resume(self, context: Context, event: dict[str, Any]) -> None:
        """Go on after the wait."""
        self.log.info("the cluster's lock is this run's (fencing number %s)", event["fencing"])


class PrepareStepOperator(_Preparing):
    """Make one step, if anything of it is missing; repeating it does no harm.

    Args:
        step: its id; one task is mapped over those of the plan.
    """

    template_fields: Sequence[str] = (*_Preparing.template_fields, "step")

    def __init__(self, *, step: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step

    def execute(self, context: Context) -> None:
        """Make the step."""
        from dataclasses import replace

        from slipway.prepare.refusals import remedy_of
        from slipway.prepare.steps import make

        with one_line_failures(context), tried_again():
            planned, target = self.planned(context), self.target()
            if not planned.approver or planned.status == "rejected":
                raise UsageError(
                    "nobody has approved this run's plan",
                    about=self.cluster,
                    remedy="Answer its question first",
                )
            steps = {one.id: one for one in self.chosen()}
            step = steps[self.step]
            self._wait_for(target, [steps[name] for name in step.after if name in steps])
            cluster = self._fenced(context, target.cluster, seconds=step.seconds)
            shown = {one["step"]: one for one in planned.plan}[self.step]
            approved = {change["about"]: change["digest"] for change in shown["changes"]}
            try:
                before = make(replace(target, cluster=cluster), step, approved=approved)
            except ClusterError as error:
                for line in remedy_of(error).splitlines():
                    self.log.error("%s", line)
                raise
            self.log.info("%s", "it was there" if before.state == "there" else f"made: {_told(before)}")

    def _wait_for(self, target: Target, needed: Sequence[Step]) -> None:
        """Try again later while a step that this one needs is not there: tasks of one run may overtake each other."""
        from slipway.prepare.steps import look

        lacking = [step.id for step in needed if look(target, step).state != "there"]
        if lacking:
            raise AirflowException(f"{self.step} needs {', '.join(lacking)}, which is not there yet")

    def _fenced(self, context: Context, cluster: Cluster, *, seconds: int) -> Cluster:
        """Renew the lock for as long as the step may take, and return the cluster that asks for it at each write."""
        from slipway.cluster import lease
        from slipway.cluster.fencing import FencedCluster
        from slipway.prepare.lock import PLACE

        holder, found = lock_holder(context), lease.holder_of(cluster, **PLACE)
        if found is None or found.holder != holder:
            raise LockError(
                "this run has lost the cluster's lock",
                about=self.cluster,
                why=f"{found.holder if found else 'nobody'} holds it",
                remedy="Trigger a new run",
            )
        lives = seconds + LOCK_MARGIN_SECONDS
        lease.renew(cluster, **PLACE, holder=holder, fencing=found.fencing, seconds=lives)
        return FencedCluster(cluster, **PLACE, holder=holder, fencing=found.fencing)


class FinishPreparationOperator(_Preparing):
    """Say how it ended, by looking at the cluster, and give the lock back. A teardown: it always runs."""

    def execute(self, context: Context) -> None:
        """Look at all steps again."""
        from slipway.cluster import lease
        from slipway.prepare.lock import PLACE
        from slipway.prepare.run import plan

        with one_line_failures(context), tried_again():
            target, run_id = self.target(), lock_holder(context)
            outlooks = plan(target, self.chosen())
            failures = {one.step: one.reason or "it is not there" for one in outlooks if one.state != "there"}
            self.history().finish(self.cluster, run_id=run_id, failures=failures)
            lease.release(target.cluster, **PLACE, holder=run_id)
            if failures:
                first = next(one for one in outlooks if one.state != "there")
                more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
                raise ClusterError(
                    f"{first.step} is not there{more}",
                    about=self.cluster,
                    why=first.reason,
                    remedy=first.remedy,
                )
        self.log.info("%s is what its record says", self.cluster)


def _told(outlook: Outlook) -> str:
    return ", ".join(change.about for change in outlook.changes)
