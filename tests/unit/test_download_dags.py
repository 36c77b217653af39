"""The forms of download_model and remove_weights, and what they refuse; no Airflow runs here."""

from __future__ import annotations

import json
import runpy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError

from slipway.catalog.read import read_catalog
from slipway.errors import WeightsError
from slipway.manifests.downloads import plan_download
from slipway.manifests.render import render_one
from slipway.operators.assets import FIRST_EVENT_SECONDS, MODELS, model_asset, tell_model
from slipway.operators.download import download_pod
from slipway.operators.pod_steps import DownloadOperator
from slipway.releases.store import History
from slipway.weights.orders import FetchResult
from slipway.weights.sources.credentials import SOURCES_SECRET
from tests.unit.life_api import Told

DAGS = Path(__file__).resolve().parents[2] / "dags"


def dag_of(name: str) -> DAG:
    dag = runpy.run_path(str(DAGS / f"{name}.py"))["dag"]
    assert isinstance(dag, DAG)
    return dag


def test_the_form_offers_the_catalogs_models_clusters_and_sources() -> None:
    params, catalog = dag_of("download_model").params, read_catalog()
    assert params.get_param("model").schema["enum"] == sorted(catalog.models)
    assert params.get_param("cluster").schema["enum"] == sorted(catalog.clusters)
    offered = params.get_param("source").schema["examples"]
    assert all(source in offered for model in catalog.models.values() for source in model.sources)


@pytest.mark.parametrize(
    ("dag", "key", "value"),
    [
        ("download_model", "model", "none"),
        ("download_model", "cluster", "none"),
        ("download_model", "namespace", "Not A Namespace"),
        ("remove_weights", "versions", "all"),
        ("remove_weights", "unused", "yes"),
        ("remove_weights", "kept_releases", 0),
    ],
)
def test_the_form_refuses_what_cannot_be_meant(dag: str, key: str, value: Any) -> None:
    with pytest.raises(ParamValidationError):
        dag_of(dag).params.get_param(key).resolve(value)


def test_a_model_that_is_ready_is_an_asset_of_its_own() -> None:
    assert dag_of("download_model").get_task("download").outlets == [MODELS]
    assert dag_of("remove_weights").get_task("remove").outlets == []
    assert model_asset("sandbox", "models", "qwen3-tiny").uri == "slipway://sandbox/models/qwen3-tiny"


class FakeCluster:
    """Has these claims."""

    def __init__(self, *claims: str) -> None:
        self.claims = claims

    def get(self, *, name: str, **_: Any) -> dict[str, Any] | None:
        return {"metadata": {"name": name}} if name in self.claims else None


def pod(sources: list[str], *claims: str) -> dict[str, Any]:
    plan = plan_download(read_catalog(), model="qwen3-tiny", cluster="sandbox")
    weights = plan.weights.model_copy(update={"fetch": sources})
    cluster: Any = FakeCluster(*claims)
    step = download_pod(plan.model_copy(update={"weights": weights}), cluster, say=lambda *_: None)
    return render_one("step-pod.yaml.j2", plan=plan, step=step)


def order_of(found: dict[str, Any]) -> str:
    environment = {one["name"]: one["value"] for one in found["spec"]["containers"][0]["env"]}
    return str(environment["SLIPWAY_ORDER"])


def test_secrets_reach_the_pod_as_files_that_are_renewed_and_never_as_values() -> None:
    found = pod(["s3://models/tiny"])
    container = found["spec"]["containers"][0]
    assert not any("secret" in str(one).lower() for one in container["env"])
    assert "envFrom" not in container
    volume = next(one for one in found["spec"]["volumes"] if one["name"] == "credentials")
    named = [one["secret"]["name"] for one in volume["projected"]["sources"]]
    assert named == ["s3-credentials", SOURCES_SECRET]
    assert container["resources"]["limits"] == {"memory": "256Mi"}


def test_another_claim_is_mounted_read_only_beside_the_volume() -> None:
    found = pod(["pvc://shared/models/tiny", "s3://models/tiny"], "shared")
    mounts = {one["mountPath"]: one for one in found["spec"]["containers"][0]["volumeMounts"]}
    assert mounts["/claims/shared"]["readOnly"] is True
    assert mounts["/weights"]["readOnly"] is False
    assert '"shared": "/claims/shared"' in order_of(found)


def test_a_claim_that_is_not_there_does_not_keep_the_other_sources_waiting() -> None:
    found = pod(["pvc://gone/models/tiny", "s3://models/tiny"])
    assert "gone" not in order_of(found)
    assert "/claims" not in str(found["spec"]["volumes"])
    with pytest.raises(WeightsError, match=r"claim that holds the weights is not there.*pvc://gone"):
        pod(["pvc://gone/models/tiny"])


def test_the_release_records_which_of_its_sources_delivered() -> None:
    told: dict[str, Any] = {}

    class History:
        def set_weights(self, release: int, **values: str) -> None:
            told.update(values, release=release)

        def seconds_since_told(self, asset: str) -> None:
            return None

    plan = SimpleNamespace(cluster="sandbox", namespace="models", model="tiny")
    work: Any = SimpleNamespace(history=History(), release=SimpleNamespace(id=7), plan=plan)
    ready = Told()
    result = FetchResult(
        destination="/weights/tiny/key",
        source="s3://models/tiny",
        manifest_digest="d" * 64,
        files=1,
        bytes_total=1,
        bytes_fetched=1,
        bytes_reused=0,
        seconds=1,
        verified="sha256",
        failed_sources=["modelscope://org/tiny: ModelScope cannot be reached"],
    )
    message = json.dumps({"result": result.model_dump(mode="json")})
    step = DownloadOperator(task_id="download", release={"release": 7, "digest": "0"})
    step.done(work, message, {"outlet_events": ready})
    assert told == {"release": 7, "source": "s3://models/tiny", "digest": "d" * 64}
    [(uri, event)] = ready.events
    assert (uri, event["source"]) == ("slipway://sandbox/models/tiny", "s3://models/tiny")


def test_two_runs_never_make_the_same_asset_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLIPWAY_DATABASE_URL", f"sqlite:///{tmp_path}/history.db")
    history, pauses = History.open(), list[float]()
    monkeypatch.setattr("slipway.operators.assets.time.sleep", pauses.append)
    told = [Told(), Told()]
    for model, events in [("tiny", told[0]), ("tiny", told[1]), ("another", Told())]:
        plan: Any = SimpleNamespace(cluster="sandbox", namespace="models", model=model)
        context: Any = {"outlet_events": events}
        tell_model(plan, context, history=history, ready={})

    assert [len(one.events) for one in told] == [1, 1], "nobody's event is lost"
    [pause] = pauses
    assert 0 < pause <= FIRST_EVENT_SECONDS
    name, later = "sandbox/models/tiny", datetime.now(UTC) + timedelta(days=1)
    assert (history.seconds_since_told(name, now=later) or 0) > 86_000
