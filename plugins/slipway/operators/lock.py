"""Taking and giving back an endpoint's lock, in order of arrival."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway.errors import LockError, ReleaseError, SlipwayError
from slipway.operators.connections import open_cluster
from slipway.operators.steps import LOCK_MARGIN_SECONDS, Step, Work, lock_holder, one_line_failures

if TYPE_CHECKING:
    from airflow.sdk import Context

LOCK_SECONDS = 600 + LOCK_MARGIN_SECONDS


class LockTrigger(BaseTrigger):
    """Wait until the lock of an endpoint is this run's. Carries a connection id, never a kubeconfig."""

    def __init__(self, *, connection: str, namespace: str, endpoint_object: str, holder: str) -> None:
        super().__init__()
        self.connection, self.namespace = connection, namespace
        self.endpoint_object, self.holder = endpoint_object, holder

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow stores to start the trigger again after a restart."""
        keys = ("connection", "namespace", "endpoint_object", "holder")
        return f"{type(self).__module__}.{type(self).__name__}", {key: getattr(self, key) for key in keys}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask every two seconds; asking also keeps this run's place in the queue."""
        from slipway.cluster import lease

        extra = (await Connection.async_get(self.connection)).extra_dejson
        cluster = await asyncio.to_thread(open_cluster, self.connection, extra)
        while True:
            fencing = await asyncio.to_thread(
                lease.acquire,
                cluster,
                namespace=self.namespace,
                endpoint_object=self.endpoint_object,
                holder=self.holder,
                seconds=LOCK_SECONDS,
            )
            if fencing is not None:
                yield TriggerEvent({"fencing": fencing})
                return
            await asyncio.sleep(2)


class LockOperator(Step):
    """Take the endpoint's lock; wait deferred, without a worker, while another run holds it."""

    takes_lock = True

    def execute(self, context: Context) -> Any:
        """Take the lock. A run that cannot have it has changed nothing, and its release ends here."""
        with self._ending(context):
            return super().execute(context)

    @contextmanager
    def _ending(self, context: Context) -> Iterator[None]:
        try:
            yield
        except AirflowFailException:
            self._finish(context)
            raise

    def _finish(self, context: Context) -> None:
        """End the release and leave the queue: without the lock no teardown of this run will."""
        from slipway.cluster import lease

        work = Work(self.release)
        if self.finished is False and work.release.status == "pending":
            reason = work.release.failure or "the endpoint's lock could not be taken"
            work.history.mark_failed(work.release.id, failure=reason)
        holder = lock_holder(context)
        try:
            lease.release(
                work.cluster(),
                namespace=work.plan.namespace,
                endpoint_object=work.plan.object_name,
                holder=holder,
            )
        except SlipwayError as error:  # it runs out by itself
            self.log.warning("the lock's queue could not be left: %s", error)

    def work(self, work: Work, context: Context) -> Any:
        """Take the lock or defer until it is free."""
        from slipway.cluster import lease

        if self.finished is None and work.is_homeless():
            self.log.info("namespace %s is gone: there is nothing to lock", work.plan.namespace)
            return None
        holder = lock_holder(context)
        fencing = lease.acquire(
            work.cluster(),
            namespace=work.plan.namespace,
            endpoint_object=work.plan.object_name,
            holder=holder,
            seconds=LOCK_SECONDS,
        )
        if fencing is None:
            self.log.info("another run holds the lock of %s; waiting in order of arrival", work.plan.endpoint)
            trigger = LockTrigger(
                connection=work.plan.connection,
                namespace=work.plan.namespace,
                endpoint_object=work.plan.object_name,
                holder=holder,
            )
            timeout = self.execution_timeout or timedelta(hours=12)
            self.defer(trigger=trigger, method_name="resume", timeout=timeout)
        return self._locked(work, fencing)

    def resume(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on after the wait."""
        with self._ending(context), one_line_failures(context, self.release):
            work = self.open(context)
            return self._locked(work, event["fencing"])

    def _locked(self, work: Work, fencing: int | None) -> None:
        if fencing is None:
            raise LockError("the endpoint's lock could not be taken", about=work.plan.endpoint)
        if self.finished is False:
            refuse_overtaken(work)
            work.history.set_fencing(work.release.id, fencing)
        self.log.info("the lock of %s is this run's (fencing number %s)", work.plan.endpoint, fencing)


def refuse_overtaken(work: Work) -> None:
    """Refuse to deploy an older release over a newer one that became good while this run waited.

    Raises:
        ReleaseError: names the newer one.
    """
    serving = work.history.last_good(work.plan.endpoint)
    if serving is not None and serving.number > work.release.number:
        raise ReleaseError(
            "a newer release serves already",
            about=f"{work.release.title} of {work.plan.endpoint}",
            why=f"{serving.title} is good",
            remedy="Trigger a new run",
        )
