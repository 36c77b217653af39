"""The job that prepares a cluster, as a function that its DAG file calls."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from slipway.catalog.read import read_catalog
from slipway.operators.by_hand import RECORD_RETRIES, job_by_hand
from slipway.operators.preparing import (
    ApprovePreparationOperator,
    FinishPreparationOperator,
    LockClusterOperator,
    PlanPreparationOperator,
    PrepareStepOperator,
)

STEP_TIMEOUT = timedelta(minutes=75)
"""Of one step: a chart's pods may take half of it to become ready, and as long again to be taken back."""


def prepare_dag(*, dag_id: str, doc_md: str) -> DAG:
    """Build ``prepare_cluster``. It has no dagrun_timeout, which would skip the teardown that frees the lock."""
    names = sorted(read_catalog().clusters)
    dag = job_by_hand(dag_id=dag_id, doc_md=doc_md, params=_params(names), about="cluster")
    common: dict[str, Any] = {
        "cluster": "{{ params.cluster }}",
        "steps": "{{ params.steps | tojson }}",
        "take_over": "{{ params.take_over }}",
    }
    with dag:
        plan = PlanPreparationOperator(task_id="plan", reason="{{ params.reason or '' }}", **common)
        approve = ApprovePreparationOperator(
            task_id="approve", cluster=common["cluster"], approve="{{ params.approve }}"
        )
        lock = LockClusterOperator(task_id="lock", **common)
        step = PrepareStepOperator.partial(
            task_id="step",
            # In the order of the plan; one that is overtaken nevertheless is tried again.
            max_active_tis_per_dagrun=1,
            retries=3,
            retry_delay=timedelta(seconds=15),
            execution_timeout=STEP_TIMEOUT,
            map_index_template="{{ task.step }}",
            **common,
        ).expand(step=plan.output)
        finish = FinishPreparationOperator(task_id="finish", **common, **RECORD_RETRIES)
        plan >> approve >> lock >> step >> finish
        finish.as_teardown(setups=lock, on_failure_fail_dagrun=True)
    return dag


def _params(clusters: list[str]) -> dict[str, Param]:
    return {
        "cluster": Param(
            type="string",
            enum=clusters or [""],
            title="Cluster",
            description_md="Its record says what it is to consist of (`setup`).",
        ),
        "approve": Param(
            False,
            type="boolean",
            title="Approved already",
            description_md="Make it without asking anybody: for systems that start this by the API.",
        ),
        "steps": Param(
            [],
            type=["null", "array"],
            items={"type": "string", "minLength": 1, "maxLength": 253},
            examples=["gateway-api", "namespaces", "charts", "gateway", "routes"],
            title="Steps",
            description_md="Only these; empty means all of them. `charts/NAME` is one chart.",
        ),
        "take_over": Param(
            False,
            type="boolean",
            title="Take over",
            description_md="Take over fields that other field managers hold with other values.",
        ),
        "reason": Param(
            "", type=["null", "string"], maxLength=500, title="Reason", description_md="Why, for the history."
        ),
    }
