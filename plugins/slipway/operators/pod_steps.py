"""The steps that run in pods: download, probe, measure."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from slipway.manifests.plan import WEIGHTS_MOUNT, Plan
from slipway.manifests.render import service_url
from slipway.operators.assets import BENCHMARKS, ENDPOINTS, MODELS, tell_benchmark, tell_model
from slipway.operators.datasets import wait_for_dataset, what_became
from slipway.operators.download import PROGRESS_SECONDS, download_pod, read_download
from slipway.operators.entrance import find_entrance, probes_route
from slipway.operators.pods import StepPod, StepPodOperator
from slipway.operators.prober import probe_step
from slipway.operators.steps import Work, log_group, one_line_failures
from slipway.pods import parse_result

if TYPE_CHECKING:
    from airflow.sdk import Context
    from pydantic import JsonValue


FIRST_LOOK_SECONDS = 10.0
"""By then a pod that finds the weights complete has ended."""


class DownloadOperator(StepPodOperator):
    """Bring the weights into their volume; a second run moves zero bytes.

    Where a data set operator brings them, its objects are applied and waited for instead, deferred.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            outlets=[MODELS], logging_interval=PROGRESS_SECONDS, first_look=FIRST_LOOK_SECONDS, **kwargs
        )

    def execute(self, context: Context) -> None:
        """Run the pod, or wait for the data set."""
        super().execute(context)
        with one_line_failures(context, self.release):
            work = self._open(context)
            if work.plan.weights.provider in ("dataset", "fluid"):
                self.admit(work, context)
                self.before(work)
                self.defer(**wait_for_dataset(work.plan, work.rendered.stages["storage"]))

    def dataset_ready(self, context: Context, event: dict[str, Any]) -> None:
        """Go on after the wait for a data set."""
        with one_line_failures(context, self.release):
            self.log.info("%s", what_became(event))

    def before(self, work: Work) -> None:
        """Make sure that the claim is there; with WaitForFirstConsumer this pod is its first consumer."""
        from slipway.cluster.apply import apply

        apply(work.fenced(), work.rendered.stages["storage"])

    def pod_of(self, work: Work) -> StepPod | None:
        """The pod that fetches into the volume; none where somebody else brings them, or they are there."""
        weights = work.plan.weights
        if weights.provider != "download":
            self.log.info("nothing to download: %s come by %s", weights.source, weights.provider)
            return None
        return download_pod(work.plan, work.cluster(), say=self.log.info)

    def done(self, work: Work, message: str, context: Context) -> None:
        """Note on the release what was really downloaded, and from where."""
        result = read_download(message, say=self.log.info)
        work.history.set_weights(work.release.id, source=result.source, digest=result.manifest_digest)
        ready: dict[str, JsonValue] = {"source": result.source, "digest": result.manifest_digest}
        tell_model(work.plan, context, history=work.history, ready=ready)


class ProbeOperator(StepPodOperator):
    """Ask the endpoint as a client would, from inside the cluster; what is published by a route, by that route too.

    Args:
        through: ``release`` for the Service of this release alone, ``published`` for the one that clients use.
    """

    def __init__(self, *, through: Literal["release", "published"], **kwargs: Any) -> None:
        super().__init__(deadline=timedelta(minutes=10), **kwargs)
        self.through = through

    def pod_of(self, work: Work) -> StepPod:
        """The pod that asks."""
        entrance = None
        if self.through == "published" and probes_route(work.plan):
            entrance = find_entrance(work.cluster(), work.plan)
            self.api_address = entrance.base_url
            self.log.info("clients outside come in at %s (%s)", entrance.base_url, entrance.address)
        return probe_step(work.plan, release=work.rendered.release, through=self.through, entrance=entrance)

    def done(self, work: Work, message: str, context: Context) -> None:
        """Store what the probe saw."""
        from slipway.probes.orders import ProbeResult

        result = parse_result(message, ProbeResult)
        work.history.record_probe(
            work.release.id, through=self.through, result=result.model_dump(mode="json")
        )
        for step in result.steps:
            self.log.info("%-12s %6.2f s  %s", step.name, step.seconds, step.detail)
        for step in result.outside:
            self.log.info("by the route: %-12s %6.2f s  %s", step.name, step.seconds, step.detail)
        self.log.info("answer: %s", result.answer)


class MeasureOperator(StepPodOperator):
    """Run the endpoint's workload by vLLM's own benchmark client and keep its result unmodified."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(inlets=[ENDPOINTS], outlets=[BENCHMARKS], **kwargs)

    def pod_of(self, work: Work) -> StepPod | None:
        """The client's pod: the serving image, which has the client, with this package copied in; no card."""
        plan = work.plan
        if plan.workload is None:
            self.log.info("the endpoint names no workload: nothing to measure")
            return None
        return StepPod(
            name="measure",
            module="slipway.benchmark",
            order=json.dumps(benchmark_order(plan, service_url(plan, release=work.rendered.release))),
            image=plan.server.image,
            cpu="250m",
            memory="3Gi",
            code_from_tools=True,
            api_key=plan.api_key.model_dump(include={"secret", "key"}) if plan.api_key else None,
            weights_mount=WEIGHTS_MOUNT,
        )

    def done(self, work: Work, message: str, context: Context) -> None:
        """Keep the raw JSON and its figures."""
        from slipway.benchmark import whole_raw
        from slipway.benchmark.orders import BenchmarkResult
        from slipway.benchmark.table import format_table
        from slipway.releases.artifacts import Artifacts

        result = parse_result(message, BenchmarkResult)
        raw = whole_raw(result, log=self.pod_log() if result.in_log else "")
        workload = work.plan.workload
        assert workload is not None  # pod_of gave a pod
        name = f"benchmarks/{work.plan.object_name}/{work.release.number}-{context['ti'].id}.json"
        reference = Artifacts.open().put(name, json.dumps(raw, indent=1).encode())
        work.history.record_benchmark(
            work.release.id, workload=workload.name, raw=raw, raw_reference=reference
        )
        tell_benchmark(work, context, reference=reference, workload=workload.name)
        with log_group(self.log, "Benchmark"):
            for line in format_table(raw).splitlines():
                self.log.info("%s", line)


def benchmark_order(plan: Plan, base_url: str) -> dict[str, Any]:
    """The order of a benchmark pod."""
    assert plan.workload is not None  # the caller looked
    workload = plan.workload.model_dump(mode="json", exclude={"timeout_seconds"})
    return {
        "base_url": base_url,
        "served_name": plan.served_name,
        "tokenizer": f"{WEIGHTS_MOUNT}/{plan.weights.path}",
        "workload": workload,
        "timeout_seconds": plan.workload.timeout_seconds,
    }
