"""What runs bring forth, as Airflow's assets: a model in a volume, an endpoint that serves it, a benchmark of that.

Each is an asset of its own under an alias, because a DAG must be known before anybody knows what it will make. Steps
name the alias of what they come from as inlet, so Airflow's graph shows model, endpoint and benchmark in a row; events
say which release, and a DAG of yours can be scheduled on any of them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from airflow.sdk import Asset, AssetAlias

if TYPE_CHECKING:
    from airflow.sdk import Context
    from pydantic import JsonValue

    from slipway.manifests.downloads import Download
    from slipway.manifests.plan import Plan
    from slipway.operators.steps import Work
    from slipway.releases.store import History

MODELS = AssetAlias("slipway-models")
"""Each model that is ready in a volume is an asset of this alias: ``slipway://<cluster>/<namespace>/<model>``."""

ENDPOINTS = AssetAlias("slipway-endpoints")
"""Each endpoint that has a new good release: ``slipway://<cluster>/<namespace>/endpoints/<endpoint>``."""

BENCHMARKS = AssetAlias("slipway-benchmarks")
"""Each endpoint that was measured: ``slipway://<cluster>/<namespace>/benchmarks/<endpoint>``."""

FIRST_EVENT_SECONDS = 10.0
"""By then the task that told of an asset first has ended, and Airflow has the asset."""


def model_asset(cluster: str, namespace: str, model: str) -> Asset:
    """The asset that stands for a model in a namespace's volume."""
    return _asset(f"{cluster}/{namespace}/{model}")


def endpoint_asset(cluster: str, namespace: str, endpoint: str) -> Asset:
    """The asset that stands for what an endpoint serves."""
    return _asset(f"{cluster}/{namespace}/endpoints/{endpoint}")


def benchmark_asset(cluster: str, namespace: str, endpoint: str) -> Asset:
    """The asset that stands for an endpoint's benchmarks."""
    return _asset(f"{cluster}/{namespace}/benchmarks/{endpoint}")


def tell_model(
    plan: Plan | Download, context: Context, *, history: History, ready: dict[str, JsonValue]
) -> None:
    """Tell that a model is ready in its volume.

    Airflow makes an asset at its first event, and fails a task without a word where two do that at the same moment
    (3.3: ``IntegrityError`` on asset.name in ``register_asset_changes_in_db``): who comes second waits a little. An
    endpoint's own assets need no such care, since its lock lets one run at a time tell of them.
    """
    asset = model_asset(plan.cluster, plan.namespace, plan.model)
    known = history.seconds_since_told(asset.name)
    if known is not None:
        time.sleep(max(0.0, FIRST_EVENT_SECONDS - known))
    context["outlet_events"][MODELS].add(asset, extra=ready)


def tell_endpoint(work: Work, context: Context) -> None:
    """Tell that an endpoint has a new good release, and which model it serves."""
    plan = work.plan
    release: dict[str, JsonValue] = {
        "release": work.release.number,
        "model": model_asset(plan.cluster, plan.namespace, plan.model).uri,
        "weights_digest": work.history.get(work.release.id).weights_digest,
        "images": list(work.release.images),
    }
    asset = endpoint_asset(plan.cluster, plan.namespace, plan.endpoint)
    context["outlet_events"][ENDPOINTS].add(asset, extra=release)


def tell_benchmark(work: Work, context: Context, *, reference: str, workload: str) -> None:
    """Tell that a release was measured, and where its raw result lies."""
    plan = work.plan
    extra: dict[str, JsonValue] = {
        "release": work.release.number,
        "endpoint": endpoint_asset(plan.cluster, plan.namespace, plan.endpoint).uri,
        "workload": workload,
        "reference": reference,
    }
    asset = benchmark_asset(plan.cluster, plan.namespace, plan.endpoint)
    context["outlet_events"][BENCHMARKS].add(asset, extra=extra)


def _asset(name: str) -> Asset:
    return Asset(name=name, uri=f"slipway://{name}", group="slipway")
