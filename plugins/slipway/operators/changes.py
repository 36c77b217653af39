"""What scaling and removing share: a change is written before it is made, and finished by what is really there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from slipway.errors import ReleaseError, SlipwayError, UsageError
from slipway.operators.links import EndpointLink
from slipway.operators.notes import say_about, say_failure
from slipway.operators.request import actor_of, refuse_unknown_conf, refuse_without_fernet_key
from slipway.operators.steps import Work, lock_holder, one_line_failures
from slipway.releases.records import ChangeRecord, Release

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.releases.store import History


class BeginChangeOperator(BaseOperator):
    """Write what this run will do to an endpoint, and refuse what it may not. Subclasses say what.

    A retried or cleared step of the same run finds what it already wrote.

    Args:
        endpoint: the endpoint's name.
        reason: why, for the history.
    """

    template_fields: Sequence[str] = ("endpoint", "reason")
    operator_extra_links = (EndpointLink(),)
    kind: Literal["scale", "remove"]

    def __init__(self, *, endpoint: str, reason: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.endpoint, self.reason = endpoint, reason

    def execute(self, context: Context) -> dict[str, str | int]:
        """Write the change; returns the reference that the other steps carry."""
        from slipway.releases.store import History

        with one_line_failures(context):
            refuse_unknown_conf(context)
            refuse_without_fernet_key()
            history = History.open()
            release = self.release_of(history)
            change = history.begin_change(
                release_id=release.id,
                run_id=lock_holder(context),
                kind=self.kind,
                detail=self.detail(release),
                reason=self.reason or "",
                actor=actor_of(context),
            )
            if change.status != "pending":
                raise ReleaseError(
                    "what this run was to do is done already",
                    about=f"{change.kind} of {self.endpoint}, {change.status}",
                    remedy="Trigger a new run instead of clearing this one",
                )
            say_about(context, f"{self.endpoint}, {self.kind} of {release.title}", done="done")
        self.log.info("%s of %s: %s", self.kind, self.endpoint, release.title)
        return {"release": release.id, "digest": release.digest, "change": change.id}

    def release_of(self, history: History) -> Release:
        """The release that the change is made to: by default the one that serves.

        Raises:
            UsageError: there is none.
        """
        release = history.last_good(self.endpoint)
        if release is None:
            raise nothing_there(self.endpoint)
        return release

    def detail(self, release: Release) -> dict[str, Any]:
        """What is asked, for the history.

        Raises:
            UsageError: it cannot be meant.
        """
        raise ReleaseError("this change has no detail", about=type(self).__name__)


class FinishChangeOperator(BaseOperator):
    """Say how the change ended, by looking at the cluster, and give the lock back. A teardown: it always runs."""

    template_fields: Sequence[str] = ("release",)
    operator_extra_links = (EndpointLink(),)

    def __init__(self, *, release: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.release = release

    def execute(self, context: Context) -> None:
        """Finish the change."""
        work = Work(self.release)
        try:
            change = work.history.change_by_run(work.plan.endpoint, lock_holder(context))
            if change is None:
                raise ReleaseError("this run wrote no change", about=work.plan.endpoint)
            if change.status == "pending":
                failure = self.missing(work, change)
                change = work.history.finish_change(change.id, failure=failure)
            self._unlock(work, context)
            if change.failure:
                raise ReleaseError(f"the {change.kind} of {change.endpoint} failed", why=change.failure)
            self.after(work)
        except SlipwayError as error:
            say_failure(context, error)
            if getattr(error, "is_transient", False):
                raise AirflowException(f"{error}; it will be tried again") from None
            raise AirflowFailException(str(error)) from None
        self.log.info("%s of %s is done", change.kind, change.endpoint)

    def missing(self, work: Work, change: ChangeRecord) -> str | None:
        """What is not as it was asked, or None when all is."""
        raise ReleaseError("this change has no end", about=type(self).__name__)

    def after(self, work: Work) -> None:
        """What is left to note when the change is done."""

    def _unlock(self, work: Work, context: Context) -> None:
        from slipway.cluster import lease

        holder = lock_holder(context)
        lease.release(
            work.cluster(),
            namespace=work.plan.namespace,
            endpoint_object=work.plan.object_name,
            holder=holder,
        )


def nothing_there(endpoint: str) -> UsageError:
    """The error of a change to an endpoint that was never deployed, or was removed."""
    return UsageError(
        "nothing of the endpoint serves",
        about=endpoint,
        remedy="Deploy it first: trigger deploy_endpoint",
    )
