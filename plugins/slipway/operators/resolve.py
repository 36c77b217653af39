"""The first step: what is asked becomes a plan, and the plan a pending release, before anything changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf

from slipway.catalog.read import read_catalog
from slipway.errors import UsageError
from slipway.manifests.plan import Overrides, Plan, make_plan, parse_overrides
from slipway.manifests.render import render
from slipway.operators.steps import one_line_failures

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.releases.records import Release


class ResolveOperator(BaseOperator):
    """Join catalog and overrides to a plan, render it and write the release as pending.

    A retried or cleared resolve of the same run finds the release that it already wrote.

    Args:
        endpoint: the endpoint's name.
        overrides: what this run changes (``slipway.manifests.plan.Overrides``).
        reason: why, for the history.
        again: deploy what the last good release deployed, changed by ``overrides``; refuses where there is none.
    """

    template_fields: Sequence[str] = ("endpoint", "overrides", "reason")

    def __init__(
        self, *, endpoint: str, overrides: Any, reason: str = "", again: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint, self.overrides, self.reason, self.again = endpoint, overrides, reason, again

    def execute(self, context: Context) -> dict[str, str | int]:
        """Write the release; returns the reference that the other steps carry."""
        with one_line_failures(context):
            refuse_unknown_conf(context)
            refuse_without_fernet_key()
            release = self._resolve(context)
        self.log.info("%s of %s is pending (%s)", release.title, release.endpoint, release.digest[:12])
        return {"release": release.id, "digest": release.digest}

    def _resolve(self, context: Context) -> Release:
        from slipway.releases.store import History

        history = History.open()
        run = context["dag_run"]
        run_id = f"{run.dag_id}/{run.run_id}"
        known = history.by_run(self.endpoint, run_id)
        if known is not None:
            return known
        overrides = parse_overrides(self._asked())
        if self.again:
            overrides = self._over_last_good(history.last_good(self.endpoint), overrides)
        plan = make_plan(read_catalog(), self.endpoint, overrides)
        rendered = render(plan)
        self._say(plan, history.last_good(self.endpoint))
        return history.create_pending(
            endpoint=plan.endpoint,
            run_id=run_id,
            cluster=plan.cluster,
            namespace=plan.namespace,
            plan=plan.model_dump(mode="json"),
            overrides=overrides.model_dump(mode="json", exclude_defaults=True),
            objects=rendered.to_bytes(),
            digest=rendered.digest,
            label=rendered.release,
            images=sorted({plan.server.image, plan.tools_image}),
            weights_source=plan.weights.source,
            reason=self.reason or "",
            actor=getattr(run, "triggering_user_name", None) or str(run.run_type),
        )

    def _asked(self) -> Any:
        asked = json.loads(self.overrides) if isinstance(self.overrides, str) else self.overrides
        return {key: value for key, value in (asked or {}).items() if value is not None}

    def _over_last_good(self, last: Release | None, overrides: Overrides) -> Overrides:
        if last is None:
            raise UsageError(
                "there is nothing to redeploy",
                about=self.endpoint,
                why="the endpoint has no good release",
                remedy="Deploy it first: trigger deploy_endpoint",
            )
        asked = overrides.model_dump(mode="json", exclude_defaults=True)
        return parse_overrides({**last.overrides, **asked})

    def _say(self, plan: Plan, last: Release | None) -> None:
        self.log.info("model %s from %s", plan.model, plan.weights.source)
        self.log.info("image %s in %s/%s", plan.server.image, plan.cluster, plan.namespace)
        if last is not None:
            self.log.info(
                "%s serves now; it is replaced in place, so a changed plan means an outage until this one is proven",
                last.title,
            )


def refuse_unknown_conf(context: Context) -> None:
    """Refuse a key of the run's conf that is no parameter: Airflow itself ignores a typing error silently.

    Raises:
        UsageError: names the key and the parameters that there are.
    """
    declared = set(context["dag"].params)
    unknown = sorted(set(context["dag_run"].conf or {}) - declared)
    if unknown:
        raise UsageError(
            "no such parameter",
            about=", ".join(unknown),
            remedy=f"Parameters are: {', '.join(sorted(declared))}",
        )


def refuse_without_fernet_key() -> None:
    """Refuse to run where Airflow would write connections and triggers in clear.

    Raises:
        UsageError: no Fernet key is set.
    """
    if not conf.get("core", "fernet_key", fallback=""):
        raise UsageError(
            "Airflow has no Fernet key",
            why="connections and deferred triggers would lie in its database in clear",
            remedy="Set AIRFLOW__CORE__FERNET_KEY for all of Airflow's services",
        )
