"""What the nightly benchmark needs besides the steps of a deployment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from slipway.catalog.read import read_catalog
from slipway.errors import UsageError
from slipway.operators.request import refuse_unknown_conf
from slipway.operators.steps import Work, lock_holder, one_line_failures

if TYPE_CHECKING:
    from airflow.sdk import Context


class ChooseOperator(BaseOperator):
    """Choose the endpoints to measure: those named, or all that ask for it; of these, those that serve."""

    template_fields: Sequence[str] = ("endpoints",)

    def __init__(self, *, endpoints: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.endpoints = endpoints

    def execute(self, context: Context) -> list[dict[str, str | int]]:
        """Return the references of the last good releases."""
        from slipway.releases.store import History

        with one_line_failures(context):
            refuse_unknown_conf(context)
            catalog, history = read_catalog(), History.open()
            named = json.loads(self.endpoints) if isinstance(self.endpoints, str) else self.endpoints
            for name in named or []:
                catalog.endpoint(name)
            wanted = named or sorted(name for name, record in catalog.endpoints.items() if record.nightly)
            chosen: list[dict[str, str | int]] = []
            for name in wanted:
                release = history.last_good(name)
                if release is not None:
                    chosen.append({"release": release.id, "digest": release.digest})
                elif named:
                    raise UsageError(
                        "the endpoint serves nothing that could be measured",
                        about=name,
                        remedy="Deploy it first: trigger deploy_endpoint",
                    )
                self.log.info("%s: %s", name, release.title if release else "no good release, left out")
            return chosen


class UnlockOperator(BaseOperator):
    """Give the endpoint's lock back. A teardown: it always runs."""

    template_fields: Sequence[str] = ("release",)

    def __init__(self, *, release: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.release = release

    def execute(self, context: Context) -> None:
        """Free the lock if this run holds it."""
        from slipway.cluster import lease

        with one_line_failures(context):
            work = Work(self.release)
            lease.release(
                work.cluster(),
                namespace=work.plan.namespace,
                endpoint_object=work.plan.object_name,
                holder=lock_holder(context),
            )
