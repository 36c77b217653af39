"""The jobs, as functions that DAG files call: each builds one DAG from the steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, get_args

from airflow.sdk import DAG, CronTriggerTimetable, Param, chain, task_group

from slipway.catalog.read import Catalog, read_catalog
from slipway.catalog.records import Strategy
from slipway.manifests.overrides import Overrides
from slipway.operators.by_hand import RECORD_RETRIES, RETRIES, job_by_hand
from slipway.operators.deploy_steps import ApplyOperator, CheckOperator, PublishOperator, WaitOperator
from slipway.operators.lock import LockOperator
from slipway.operators.nightly import ChooseOperator, UnlockOperator
from slipway.operators.pod_steps import DownloadOperator, MeasureOperator, ProbeOperator
from slipway.operators.record import RecordOperator
from slipway.operators.resolve import ResolveOperator


def deployment_dag(*, dag_id: str, doc_md: str, again: bool) -> DAG:
    """Build ``deploy_endpoint`` or ``redeploy_endpoint``: the same steps, another way to resolve.

    Args:
        dag_id: the DAG's id.
        doc_md: what people read above the form.
        again: start from what the last good release deployed.
    """
    catalog = read_catalog()
    dag = job_by_hand(dag_id=dag_id, doc_md=doc_md, params=deployment_params(catalog))
    with dag:
        resolve = ResolveOperator(
            task_id="resolve",
            endpoint="{{ params.endpoint }}",
            overrides="{{ params.overrides | tojson }}",
            reason="{{ params.reason or '' }}",
            again=again,
            restart="{{ params.restart }}",
            strategy="{{ params.strategy or '' }}",
        )
        release = resolve.output
        lock = LockOperator(task_id="lock", release=release)
        record = RecordOperator(task_id="record", release=release, **RECORD_RETRIES)
        chain(
            lock,
            CheckOperator(task_id="check", release=release),
            DownloadOperator(
                task_id="download", release=release, deadline=timedelta(hours=24), deferrable=True
            ),
            ApplyOperator(task_id="apply", release=release),
            WaitOperator(task_id="wait", release=release),
            ProbeOperator(task_id="probe", release=release, through="release"),
            PublishOperator(task_id="publish", release=release),
            ProbeOperator(task_id="probe_published", release=release, through="published"),
            MeasureOperator(task_id="measure", release=release, deferrable=True),
            record,
        )
        record.as_teardown(setups=lock, on_failure_fail_dagrun=True)
    return dag


def deployment_params(catalog: Catalog) -> dict[str, Param]:
    """The form of a deployment. Airflow checks values against it before a run exists."""
    overrides = Overrides.model_json_schema()
    return {
        "endpoint": Param(
            type="string",
            enum=sorted(catalog.endpoints) or [""],
            title="Endpoint",
            description_md="What to deploy; `include/catalog/endpoints` has one file for each.",
        ),
        "reason": Param(
            "",
            type=["null", "string"],
            maxLength=500,
            title="Reason",
            description_md="Why, for the history.",
        ),
        "restart": Param(
            False,
            type="boolean",
            title="Restart",
            section="Rollout",
            description_md="Start the pods anew also where nothing about them changes.",
        ),
        "strategy": strategy_param(),
        "overrides": Param(
            {},
            type=["null", "object"],
            properties=overrides["properties"],
            additionalProperties=False,
            title="Overrides",
            section="Overrides",
            description_md="What this run changes, as JSON: "
            "`image`, `args`, `replicas`, `context_length`, `source`, `revision`.",
        ),
    }


def strategy_param() -> Param:
    """The field in which a run says how its release takes the place of the one that serves."""
    return Param(
        None,
        type=["null", "string"],
        enum=[None, *get_args(Strategy)],
        title="Strategy",
        section="Rollout",
        description_md="How the release takes the place of the one that serves. Empty: as the endpoint's record says, "
        "else by the room that the cluster has.",
    )


def nightly_benchmark_dag(*, dag_id: str, doc_md: str, schedule: str) -> DAG:
    """Build ``nightly_benchmark``: every endpoint that serves and asks for it is measured, one at a time."""
    dag = DAG(
        dag_id=dag_id,
        doc_md=doc_md,
        # No start date: with one, Airflow would at once make up for last night when it first reads the DAG.
        schedule=CronTriggerTimetable(schedule, timezone="UTC"),
        catchup=False,
        max_active_runs=1,
        params={
            "endpoints": Param(
                [],
                type=["null", "array"],
                items={"type": "string"},
                title="Endpoints",
                description_md="Only these; empty means every endpoint whose record says `nightly: true`.",
            )
        },
        default_args={**RETRIES, "owner": "slipway"},
        tags=["slipway", "benchmark"],
    )
    with dag:
        choose = ChooseOperator(task_id="choose", endpoints="{{ params.endpoints | tojson }}")

        @task_group(group_id="endpoint")
        def measured(release: Any) -> None:
            lock = LockOperator(task_id="lock", release=release, finished=True)
            measure = MeasureOperator(task_id="measure", release=release, deferrable=True, finished=True)
            unlock = UnlockOperator(task_id="unlock", release=release)
            chain(lock, measure, unlock)
            unlock.as_teardown(setups=lock)

        measured.expand(release=choose.output)
    return dag
