"""What the first step of every run has in common that makes a release: it is written as pending before all else."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator

from slipway.operators.links import EndpointLink
from slipway.operators.notes import say_about
from slipway.operators.request import refuse_unknown_conf, refuse_without_fernet_key
from slipway.operators.steps import lock_holder, one_line_failures

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.releases.records import Release
    from slipway.releases.store import History


class FirstStep(BaseOperator):
    """Write a release as pending; the others of the run carry its reference.

    A retried or cleared step of the same run finds the release that it already wrote.

    Attributes:
        done: what the run's note says of a release that became good.
    """

    operator_extra_links = (EndpointLink(),)
    done = "good"
    endpoint: str

    def execute(self, context: Context) -> dict[str, str | int]:
        """Write the release; returns its reference."""
        from slipway.releases.store import History

        with one_line_failures(context):
            refuse_unknown_conf(context)
            refuse_without_fernet_key()
            history, run_id = History.open(), lock_holder(context)
            release = history.by_run(self.endpoint, run_id)
            if release is None:
                release = self.write(history, run_id, context)
            say_about(context, f"{release.endpoint}, {release.title}", done=self.done)
        self.log.info("%s of %s is pending (%s)", release.title, release.endpoint, release.digest[:12])
        return {"release": release.id, "digest": release.digest}

    @abstractmethod
    def write(self, history: History, run_id: str, context: Context) -> Release:
        """Make the release of what is asked, pending."""
