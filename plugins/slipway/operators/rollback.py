"""The first step of a rollback: an old release's exact bytes become a new pending release."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slipway.manifests.render import Rendered
from slipway.operators.first_step import FirstStep
from slipway.operators.request import actor_of
from slipway.operators.rollout import choose_rollout
from slipway.operators.steps import log_group, plan_of
from slipway.releases.records import Release

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.releases.store import History


class RollbackOperator(FirstStep):
    """Write a release that is an old one again: the same objects, images and weights, byte for byte.

    Only the pods that probe it are today's: the plan names the tools image of now, which no object of the release
    mentions.

    Args:
        endpoint: the endpoint's name.
        to: the number of the release to go back to; "" or None for the one before that serves.
        reason: why, for the history.
        strategy: as a deployment's.
    """

    template_fields: Sequence[str] = ("endpoint", "to", "reason", "strategy")

    def __init__(
        self, *, endpoint: str, to: Any = None, reason: str = "", strategy: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint, self.to, self.reason, self.strategy = endpoint, to, reason, strategy

    def write(self, history: History, run_id: str, context: Context) -> Release:
        """Make the release of what is asked, pending."""
        from slipway.releases.difference import difference
        from slipway.releases.rollback import rollback_target

        serving, target = rollback_target(history, self.endpoint, to=int(self.to) if self.to else None)
        self.log.info("back to %s of %s", target.title, target.endpoint)
        with log_group(self.log, "What changes"):
            for line in difference(serving, target) if serving else []:
                self.log.info("%s", line)
        plan = plan_of(target).model_copy(update={**todays_tools(target), "adopted": False})
        rendered = Rendered.from_bytes(target.objects)
        plan = choose_rollout(plan, rendered, last=serving, asked=self.strategy or None)
        self.log.info("strategy %s: %s", plan.rollout.strategy, plan.rollout.reason)
        return history.create_pending(
            endpoint=target.endpoint,
            run_id=run_id,
            cluster=target.cluster,
            namespace=target.namespace,
            plan=plan.model_dump(mode="json"),
            overrides=target.overrides,
            objects=target.objects,
            digest=target.digest,
            label=target.label,
            images=sorted({plan.server.image, plan.tools_image}),
            weights_source=target.weights_source,
            weights_digest=target.weights_digest,
            rollback_of=target.number,
            reason=self.reason or f"rollback to {target.title}",
            actor=actor_of(context),
        )


def todays_tools(release: Release) -> dict[str, str]:
    """The tools image and the code in it as they are now; the release's own where its cluster is not known any more."""
    from pathlib import Path

    import slipway
    from slipway.catalog.read import include_directory, read_catalog
    from slipway.manifests.records import Images

    cluster = read_catalog().clusters.get(release.cluster)
    if cluster is None:
        return {}
    images = Images(include_directory(), Path(slipway.__file__).parent)
    return {"tools_image": images.reference("tools", cluster=cluster), "code_digest": images.code}
