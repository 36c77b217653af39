"""The first step: what is asked becomes a plan, and the plan a pending release, before anything changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from slipway.catalog.read import read_catalog
from slipway.errors import UsageError
from slipway.manifests.overrides import Overrides, parse_overrides
from slipway.manifests.plan import Plan
from slipway.manifests.planning import make_plan
from slipway.manifests.portnames import with_port_names
from slipway.manifests.render import Rendered, render
from slipway.operators.first_step import FirstStep
from slipway.operators.request import actor_of
from slipway.operators.rollout import choose_rollout

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.releases.records import Release
    from slipway.releases.store import History


RESTART_ANNOTATION = "slipway.io/restarted-by"


class ResolveOperator(FirstStep):
    """Join catalog and overrides to a plan, render it and write the release as pending.

    Args:
        endpoint: the endpoint's name.
        overrides: what this run changes (``slipway.manifests.plan.Overrides``).
        reason: why, for the history.
        again: deploy what the last good release deployed, changed by ``overrides``; refuses where there is none.
        restart: start the pods anew also where nothing about them changed.
        strategy: how the release takes the place of the one that serves; "" or None leaves it to the endpoint's
            record, or to the room that there is.
    """

    template_fields: Sequence[str] = ("endpoint", "overrides", "reason", "restart", "strategy")

    def __init__(
        self,
        *,
        endpoint: str,
        overrides: Any,
        reason: str = "",
        again: bool = False,
        restart: Any = False,
        strategy: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint, self.overrides, self.reason, self.again = endpoint, overrides, reason, again
        self.restart, self.strategy = restart, strategy

    def write(self, history: History, run_id: str, context: Context) -> Release:
        """Make the release of what is asked, pending."""
        overrides, last = parse_overrides(self._asked()), history.last_good(self.endpoint)
        if self.again:
            overrides = self._over_last_good(last, overrides)
        restarts = str(self.restart).lower() == "true"
        mark = run_id if restarts else restart_mark(last.plan if last else {})
        plan = with_restart_mark(make_plan(read_catalog(), self.endpoint, overrides), mark)
        if last is not None:
            plan = with_port_names(plan, Rendered.from_bytes(last.objects).stages["publication"])
        rendered = render(plan)
        plan = choose_rollout(plan, rendered, last=last, asked=self.strategy or None)
        self._say(plan, rendered.release, last)
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
            actor=actor_of(context),
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

    def _say(self, plan: Plan, label: str, last: Release | None) -> None:
        self.log.info("model %s from %s", plan.model, plan.weights.source)
        self.log.info("image %s in %s/%s", plan.server.image, plan.cluster, plan.namespace)
        if last is None:
            return
        if last.label == label:
            self.log.info("nothing about the pods of %s changes: they are not restarted", last.title)
            return
        self.log.info(
            "%s serves now; strategy %s: %s", last.title, plan.rollout.strategy, plan.rollout.reason
        )


def restart_mark(plan: Mapping[str, Any]) -> str | None:
    """The run that last restarted the pods of a release, by its stored plan; None when none did."""
    server: Mapping[str, Any] = plan.get("server") or {}
    found: str | None = (server.get("annotations") or {}).get(RESTART_ANNOTATION)
    return found


def with_restart_mark(plan: Plan, mark: str | None) -> Plan:
    """Give the pods a mark that is part of what they are: a new one restarts them, as any other change does.

    A release without a restart of its own carries the mark of the one before on, or it would restart them too.
    """
    if mark is None:
        return plan
    annotations = {**plan.server.annotations, RESTART_ANNOTATION: mark}
    return plan.model_copy(update={"server": plan.server.model_copy(update={"annotations": annotations})})
