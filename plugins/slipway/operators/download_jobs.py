"""The jobs that bring and remove weights without a deployment, as functions that DAG files call."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from slipway.catalog.read import Catalog, read_catalog
from slipway.operators.by_hand import job_by_hand
from slipway.operators.download import DownloadModelOperator, PlanDownloadOperator
from slipway.operators.removal import KEPT_RELEASES, RemoveWeightsOperator


def download_model_dag(*, dag_id: str, doc_md: str) -> DAG:
    """Build ``download_model``."""
    catalog = read_catalog()
    dag = job_by_hand(
        dag_id=dag_id,
        doc_md=doc_md,
        params={**_place_params(catalog), **_source_params(catalog)},
        about="weights",
    )
    with dag:
        asked = {
            name: f"{{{{ params.{name} or '' }}}}"
            for name in ("model", "cluster", "namespace", "source", "revision")
        }
        plan = PlanDownloadOperator(task_id="plan", asked=asked)
        DownloadModelOperator(
            task_id="download", plan=plan.output, deadline=timedelta(hours=24), deferrable=True
        )
    return dag


def remove_weights_dag(*, dag_id: str, doc_md: str) -> DAG:
    """Build ``remove_weights``."""
    catalog = read_catalog()
    dag = job_by_hand(
        dag_id=dag_id,
        doc_md=doc_md,
        about="weights",
        most_runs=1,
        params={
            **_place_params(catalog),
            "versions": Param(
                [],
                type=["null", "array"],
                items={"type": "string"},
                title="Versions",
                description_md="The keys of those to remove. None, and not *unused*: they are only listed.",
            ),
            "unused": Param(False, type="boolean", title="Remove all that nothing needs"),
            "kept_releases": Param(
                KEPT_RELEASES,
                type="integer",
                minimum=1,
                maximum=100,
                title="Kept releases",
                description_md="How many good releases of each endpoint keep their weights.",
            ),
        },
    )
    with dag:
        asked = {name: f"{{{{ params.{name} or '' }}}}" for name in ("model", "cluster", "namespace")}
        plan = PlanDownloadOperator(task_id="plan", asked=asked)
        RemoveWeightsOperator(
            task_id="remove",
            plan=plan.output,
            versions="{{ (params.versions or []) | tojson }}",
            unused="{{ params.unused }}",
            kept_releases="{{ params.kept_releases }}",
            deadline=timedelta(minutes=10),
        )
    return dag


def _place_params(catalog: Catalog) -> dict[str, Param]:
    """Which model and where, for a form."""
    return {
        "model": Param(
            type="string",
            enum=sorted(catalog.models) or [""],
            title="Model",
            description_md="`include/catalog/models` has one file for each.",
        ),
        "cluster": Param(
            type="string",
            enum=sorted(catalog.clusters) or [""],
            title="Cluster",
            description_md="Whose volume; `include/catalog/clusters` has one file for each.",
        ),
        "namespace": Param(
            None,
            type=["null", "string"],
            pattern="^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
            title="Namespace",
            description_md="Empty: where the catalog has an endpoint of the model in that cluster.",
        ),
    }


def _source_params(catalog: Catalog) -> dict[str, Param]:
    sources = sorted({source for model in catalog.models.values() for source in model.sources})
    return {
        "source": Param(
            None,
            type=["null", "string"],
            maxLength=2048,
            examples=sources,
            title="Source",
            description_md="The only one to use. Empty: all of the model's, one after the other.",
        ),
        "revision": Param(
            None,
            type=["null", "string"],
            maxLength=128,
            title="Revision",
            description_md="A branch, tag or commit of a hub. Empty: the model's own.",
        ),
    }
