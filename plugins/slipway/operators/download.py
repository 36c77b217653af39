"""Downloads: their pod, and the job that brings a model into a volume without deploying it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk import BaseOperator
from pydantic import JsonValue

from slipway.catalog.read import read_catalog
from slipway.errors import WeightsError
from slipway.manifests.downloads import Download, plan_download
from slipway.manifests.plan import WEIGHTS_MOUNT, Plan
from slipway.manifests.render import render_one
from slipway.operators.assets import MODELS, tell_model
from slipway.operators.connections import cluster_of
from slipway.operators.pods import StepPod, StepPodOperator
from slipway.operators.request import refuse_unknown_conf, refuse_without_fernet_key
from slipway.operators.steps import Work, one_line_failures
from slipway.pods import parse_result
from slipway.weights.sources.credentials import SOURCES_SECRET

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.weights.orders import FetchResult

MEMORY = "256Mi"

PROGRESS_SECONDS = 10
"""How often the triggerer brings the pod's new lines into the task's log while the task waits deferred."""


def download_pod(plan: Plan | Download, cluster: Cluster, *, say: Callable[..., None]) -> StepPod:
    """The pod that brings a plan's weights.

    A source in a claim that is not there is left out: the pod would wait for the claim instead of trying the next.

    Raises:
        WeightsError: the only sources are claims that are not there.
    """
    weights = plan.weights
    mounts = {plan.volume.claim: WEIGHTS_MOUNT}
    sources = []
    for source in weights.fetch:
        parts = urlsplit(source)
        if parts.scheme == "pvc" and parts.netloc not in mounts:
            place = {"namespace": plan.namespace, "name": parts.netloc}
            if cluster.get(api_version="v1", kind="PersistentVolumeClaim", **place) is None:
                say("no source: %s names a claim that namespace %s does not have", source, plan.namespace)
                continue
            mounts[parts.netloc] = f"/claims/{parts.netloc}"
        sources.append(source)
    if not sources:
        raise WeightsError(
            "the claim that holds the weights is not there",
            about=f"{', '.join(weights.fetch)} in namespace {plan.namespace}",
            remedy="make the claim, or name another source",
        )
    store = weights.object_store
    order: dict[str, Any] = {
        "source": sources[0],
        "fallbacks": sources[1:],
        "expected_bytes": weights.bytes,
        "destination": f"{WEIGHTS_MOUNT}/{weights.path}",
        "claims": mounts if any(source.startswith("pvc://") for source in sources) else {},
    }
    if store is not None:
        order["s3"] = {
            "endpoint_url": store.endpoint,
            "region": store.region,
            "addressing": store.addressing,
        }
    return StepPod(
        name="download",
        module="slipway.weights",
        order=json.dumps(order),
        image=plan.tools_image,
        memory=MEMORY,
        credentials=[*([store.secret] if store else []), SOURCES_SECRET],
        claims={claim: path for claim, path in mounts.items() if path != WEIGHTS_MOUNT},
        weights_mount=WEIGHTS_MOUNT,
        weights_read_only=False,
    )


def read_download(message: str, *, say: Callable[..., None]) -> FetchResult:
    """Read a download pod's result and tell it."""
    from slipway.weights.orders import FetchResult

    result = parse_result(message, FetchResult)
    for failure in result.failed_sources:
        say("a source failed: %s", failure)
    for warning in result.warnings:
        say("warning: %s", warning)
    say(
        "%s: %d files, %d bytes (%d fetched, %d reused) in %.1f s; verified: %s",
        result.source,
        result.files,
        result.bytes_total,
        result.bytes_fetched,
        result.bytes_reused,
        result.seconds,
        result.verified,
    )
    return result


class PlanDownloadOperator(BaseOperator):
    """Join what a run asks for with the catalog; refuses what cannot be meant before anything changes."""

    template_fields: Sequence[str] = ("asked",)

    def __init__(self, *, asked: dict[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.asked = asked

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the plan, which has no secrets in it."""
        with one_line_failures(context):
            refuse_unknown_conf(context)
            refuse_without_fernet_key()
            plan = plan_download(
                read_catalog(),
                model=self.asked["model"],
                cluster=self.asked["cluster"],
                namespace=self.asked.get("namespace") or None,
                source=self.asked.get("source") or None,
                revision=self.asked.get("revision") or None,
            )
        self.log.info(
            "%s into claim %s/%s, %s", plan.model, plan.namespace, plan.volume.claim, plan.weights.path
        )
        for source in plan.weights.fetch:
            self.log.info("source %s", source)
        return plan.model_dump(mode="json")


class _Job:
    """What a step sees that works for no release: its plan and its cluster."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = Download.model_validate(plan)

    def cluster(self) -> Cluster:
        """Open the cluster of the plan."""
        return cluster_of(self.plan.connection)


class DownloadModelOperator(StepPodOperator):
    """Bring a model into its volume and tell it as an asset event.

    Two runs for one destination exclude each other in the volume itself (``slipway.weights.claim``), as they and
    deployments do: one works, the other waits and then finds that nothing is left to do.
    """

    template_fields: Sequence[str] = ("plan",)

    def __init__(self, *, plan: Any, **kwargs: Any) -> None:
        super().__init__(release=None, outlets=[MODELS], logging_interval=PROGRESS_SECONDS, **kwargs)
        self.plan = plan

    def _open(self, context: Context) -> Work:
        self.opened = _Job(self.plan)  # type: ignore[assignment] # what is used of a Work, it has
        assert self.opened is not None
        self.kubernetes_conn_id = self.opened.plan.connection
        return self.opened

    def admit(self, work: Work, context: Context) -> None:
        """There is no release and no endpoint whose lock would be needed."""

    def pod_of(self, work: Work) -> StepPod:
        """The pod that fetches into the volume."""
        return download_pod(work.plan, work.cluster(), say=self.log.info)

    def before(self, work: Work) -> None:
        """Make sure that the claim is there; one that is there is left as it is."""
        from slipway.cluster.apply import apply

        cluster, plan = work.cluster(), work.plan
        place = {"namespace": plan.namespace, "name": plan.volume.claim}
        if cluster.get(api_version="v1", kind="PersistentVolumeClaim", **place) is None:
            apply(cluster, [render_one("pvc.yaml.j2", plan=plan)])

    def done(self, work: Work, message: str, context: Context) -> None:
        """Tell what is ready now, to people and to DAGs that wait for it."""
        from slipway.releases.store import History

        result, plan = read_download(message, say=self.log.info), work.plan
        ready: dict[str, JsonValue] = {
            "claim": plan.volume.claim,
            "path": plan.weights.path,
            "source": result.source,
            "digest": result.manifest_digest,
            "bytes": result.bytes_total,
            "fetched": result.bytes_fetched,
        }
        context["ti"].xcom_push(key="ready", value=ready)
        tell_model(plan, context, history=History.open(), ready=ready)
