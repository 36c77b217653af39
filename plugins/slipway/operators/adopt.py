"""Adopting an endpoint that somebody applied with kubectl: its live objects become a release, without a restart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from slipway.catalog.read import read_catalog
from slipway.errors import ReleaseError, UsageError
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render
from slipway.operators.connections import cluster_of
from slipway.operators.first_step import FirstStep
from slipway.operators.request import actor_of
from slipway.operators.steps import Step, Work

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.releases.adoption import Adoption
    from slipway.releases.records import Release
    from slipway.releases.store import History


class ResolveAdoptionOperator(FirstStep):
    """Look at what is there under the endpoint's names, and write it as a pending release of these very objects.

    Args:
        endpoint: the endpoint's name.
        reason: why, for the history.
        seen: the digest of what a person saw and agreed to; "" adopts what is there.
        take_over: also adopt what other programs than kubectl manage.
    """

    template_fields: Sequence[str] = ("endpoint", "reason", "seen", "take_over")

    done = "adopted"

    def __init__(
        self, *, endpoint: str, reason: str = "", seen: str = "", take_over: Any = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint, self.reason, self.seen, self.take_over = endpoint, reason, seen, take_over

    def write(self, history: History, run_id: str, context: Context) -> Release:
        """Make the release of what is asked, pending."""
        from slipway.releases.adoption import examine

        refuse_served(history, self.endpoint)
        plan = make_plan(read_catalog(), self.endpoint)
        take_over = str(self.take_over).lower() == "true"
        adoption = examine(cluster_of(plan.connection), plan, render(plan), take_over=take_over)
        for note in adoption.notes:
            self.log.warning("%s", note)
        self._refuse_unseen(adoption)
        return history.create_pending(
            endpoint=plan.endpoint,
            run_id=run_id,
            cluster=plan.cluster,
            namespace=plan.namespace,
            plan=adoption.plan.model_dump(mode="json"),
            overrides={},
            objects=adoption.rendered.to_bytes(),
            digest=adoption.rendered.digest,
            label=adoption.rendered.release,
            images=sorted({adoption.plan.server.image, plan.tools_image}),
            weights_source=plan.weights.source,
            reason=self.reason or "adopted as it was",
            actor=actor_of(context),
        )

    def _refuse_unseen(self, adoption: Adoption) -> None:
        if self.seen and self.seen != adoption.rendered.digest:
            raise UsageError(
                "the objects are not those that were shown",
                about=self.endpoint,
                why="somebody changed one of them meanwhile",
                remedy=f"Look again: slipway adopt {self.endpoint}",
            )


class TakeOverOperator(Step):
    """Give the live objects Slipway's labels and make Slipway the manager of their fields. No pod is replaced."""

    def work(self, work: Work, context: Context) -> None:
        """Label the workload and its pods first: the Services select by those labels."""
        from slipway.cluster.adopting import label_workload, manifest_of
        from slipway.cluster.apply import apply
        from slipway.cluster.objects import labels_of, ref_of
        from slipway.cluster.ownership import take_fields
        from slipway.operators.anew import controller_of

        cluster, wanted = work.fenced(), controller_of(work.rendered)
        ref = ref_of(wanted)
        live = cluster.get(api_version=ref.apiVersion, kind=ref.kind, name=ref.name, namespace=ref.namespace)
        if live is None or manifest_of(live)["spec"]["template"] != manifest_of(wanted)["spec"]["template"]:
            raise ReleaseError(
                "what keeps the pods is not what was looked at",
                about=str(ref),
                why="somebody changed it meanwhile" if live else "somebody deleted it",
                remedy="Adopt the endpoint again",
            )
        added = set(labels_of(wanted["spec"]["template"]).items())
        there = manifest_of(live)["spec"]["template"]["metadata"]["labels"]
        template = {key: value for key, value in added if key not in there}
        pods = label_workload(cluster, live, template=template, own=labels_of(wanted), say=self.log.info)
        objects = work.rendered.stages["workload"] + work.rendered.stages["publication"]
        for obj in objects:
            if take_fields(cluster, ref_of(obj), also=self._managers(cluster.get, obj)):
                self.log.info("the fields of %s are Slipway's", ref_of(obj))
        for one in apply(cluster, objects, force=True):
            self.log.info("adopted %s", one)
        self.log.info("%d pods serve on", pods)

    def _managers(self, get: Any, obj: dict[str, Any]) -> list[str]:
        """Programs that had the object: resolve refused them, unless a person said to take over."""
        from slipway.cluster.objects import ref_of
        from slipway.cluster.ownership import foreign_managers

        ref = ref_of(obj)
        live = get(api_version=ref.apiVersion, kind=ref.kind, name=ref.name, namespace=ref.namespace)
        return foreign_managers(live) if live else []


def refuse_served(history: History, endpoint: str) -> None:
    """Refuse to adopt what has a release that serves.

    Raises:
        UsageError: names it.
    """
    serving = history.last_good(endpoint)
    if serving is not None:
        raise UsageError(
            "the endpoint is Slipway's already",
            about=f"{serving.title} of {endpoint}",
            remedy=f"Change it by a deployment: slipway redeploy {endpoint}",
        )
