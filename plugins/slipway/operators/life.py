"""The jobs of an endpoint's life after its deployment, as functions that DAG files call."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, chain

from slipway.catalog.read import read_catalog
from slipway.operators.adopt import ResolveAdoptionOperator, TakeOverOperator
from slipway.operators.by_hand import ENDPOINT_PATTERN, RECORD_RETRIES, RETRIES, job_by_hand
from slipway.operators.deploy_steps import ApplyOperator, CheckOperator, PublishOperator, WaitOperator
from slipway.operators.deployment import strategy_param
from slipway.operators.lock import LockOperator
from slipway.operators.pod_steps import ProbeOperator
from slipway.operators.reconcile import FindGoneOperator, ReconcileOperator
from slipway.operators.record import RecordOperator
from slipway.operators.remove import BeginRemoveOperator, FinishRemoveOperator, RemoveOperator
from slipway.operators.rollback import RollbackOperator
from slipway.operators.scale import BeginScaleOperator, FinishScaleOperator, ScaleOperator
from slipway.operators.watching import ChooseClustersOperator, ProbeClusterOperator


def rollback_dag(*, dag_id: str, doc_md: str) -> DAG:
    """Build ``rollback_endpoint``: the steps of a deployment for bytes that are there, without download and measure.

    It must work while the source of the weights is away; they are in the volume.
    """
    to = Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Release",
        description_md="The number of the release to go back to; empty for the good one before the one that serves.",
    )
    with _job(dag_id, doc_md, {"to": to, "strategy": strategy_param()}) as dag:
        resolve = RollbackOperator(
            task_id="resolve",
            endpoint="{{ params.endpoint }}",
            to="{{ params.to or '' }}",
            reason="{{ params.reason or '' }}",
            strategy="{{ params.strategy or '' }}",
        )
        release = resolve.output
        lock = LockOperator(task_id="lock", release=release)
        record = RecordOperator(task_id="record", release=release, **RECORD_RETRIES)
        chain(
            lock,
            CheckOperator(task_id="check", release=release),
            ApplyOperator(task_id="apply", release=release),
            WaitOperator(task_id="wait", release=release),
            ProbeOperator(task_id="probe", release=release, through="release"),
            PublishOperator(task_id="publish", release=release),
            ProbeOperator(task_id="probe_published", release=release, through="published"),
            record,
        )
        record.as_teardown(setups=lock, on_failure_fail_dagrun=True)
    return dag


def adopt_dag(*, dag_id: str, doc_md: str) -> DAG:
    """Build ``adopt_endpoint``: the steps of a deployment for objects that serve already."""
    params = {
        "seen": Param(
            "",
            type=["null", "string"],
            pattern="^([0-9a-f]{64})?$",
            title="Seen",
            description_md="The digest that `slipway adopt` gave with the differences: the run is refused where the "
            "objects have changed since. Empty adopts what is there.",
        ),
        "take_over": Param(
            False,
            type="boolean",
            title="Take over",
            description_md="Also adopt objects that another program than kubectl manages.",
        ),
    }
    with _job(dag_id, doc_md, params) as dag:
        resolve = ResolveAdoptionOperator(
            task_id="resolve",
            endpoint="{{ params.endpoint }}",
            reason="{{ params.reason or '' }}",
            seen="{{ params.seen or '' }}",
            take_over="{{ params.take_over }}",
        )
        release = resolve.output
        lock = LockOperator(task_id="lock", release=release)
        record = RecordOperator(task_id="record", release=release, **RECORD_RETRIES)
        chain(
            lock,
            TakeOverOperator(task_id="take_over", release=release),
            WaitOperator(task_id="wait", release=release),
            ProbeOperator(task_id="probe", release=release, through="release"),
            ProbeOperator(task_id="probe_published", release=release, through="published"),
            record,
        )
        record.as_teardown(setups=lock, on_failure_fail_dagrun=True)
    return dag


def scale_dag(*, dag_id: str, doc_md: str) -> DAG:
    """Build ``scale_endpoint``."""
    with _job(dag_id, doc_md, scale_params()) as dag:
        begin = BeginScaleOperator(
            task_id="begin",
            endpoint="{{ params.endpoint }}",
            replicas="{{ '' if params.replicas is none else params.replicas }}",
            autoscaling="{{ params.autoscaling or '' }}",
            minimum="{{ params.minimum or '' }}",
            maximum="{{ params.maximum or '' }}",
            reason="{{ params.reason or '' }}",
        )
        release = begin.output
        lock = LockOperator(task_id="lock", release=release, finished=True)
        finish = FinishScaleOperator(task_id="finish", release=release, **RECORD_RETRIES)
        chain(
            lock,
            ScaleOperator(task_id="scale", release=release, finished=True),
            WaitOperator(task_id="wait", release=release, finished=True),
            ProbeOperator(task_id="probe_published", release=release, through="published", finished=True),
            finish,
        )
        finish.as_teardown(setups=lock, on_failure_fail_dagrun=True)
    return dag


def scale_params() -> dict[str, Param]:
    """The form of a scaling: a number, or an autoscaler."""

    def limit(title: str, text: str, *, most: int) -> Param:
        kind = ["null", "integer"]
        return Param(
            None, type=kind, minimum=1, maximum=most, title=title, section="Autoscaling", description_md=text
        )

    return {
        "replicas": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            maximum=64,
            title="Replicas",
            description_md="A fixed number; 0 stops the endpoint. Not while an autoscaler sets it.",
        ),
        "autoscaling": Param(
            None,
            type=["null", "string"],
            enum=[None, "on", "off"],
            title="Autoscaling",
            section="Autoscaling",
            description_md="`on`: by the rule of the endpoint's record. `off`: the replicas stay as they are, or "
            "become the number above. Empty leaves it as it is.",
        ),
        "minimum": limit("Fewest", "With `on`, in the place of the record's minimum.", most=64),
        "maximum": limit("Most", "With `on`, in the place of the record's maximum.", most=256),
    }


def remove_dag(*, dag_id: str, doc_md: str) -> DAG:
    """Build ``remove_endpoint``."""
    params = {
        "confirm": Param(
            "",
            type="string",
            title="Confirmation",
            section="What is deleted",
            description_md="Type the endpoint's name: its objects are deleted.",
        ),
        "weights": Param(
            False,
            type="boolean",
            title="Weights too",
            section="What is deleted",
            description_md="Also delete the volume with the weights. Refused while another endpoint uses it.",
        ),
    }
    with _job(dag_id, doc_md, params) as dag:
        begin = BeginRemoveOperator(
            task_id="begin",
            endpoint="{{ params.endpoint }}",
            confirm="{{ params.confirm }}",
            weights="{{ params.weights }}",
            reason="{{ params.reason or '' }}",
        )
        release = begin.output
        lock = LockOperator(task_id="lock", release=release, finished=None)
        finish = FinishRemoveOperator(task_id="finish", release=release, **RECORD_RETRIES)
        chain(lock, RemoveOperator(task_id="remove", release=release, finished=None), finish)
        finish.as_teardown(setups=lock, on_failure_fail_dagrun=True)
    return dag


def probe_dag(*, dag_id: str, doc_md: str, schedule: str) -> DAG:
    """Build ``probe_endpoints``.

    A return that takes an hour must not keep the endpoints from being probed: several runs may be active, and each
    leaves what another's lock guards alone.
    """
    dag = DAG(
        dag_id=dag_id,
        doc_md=doc_md,
        schedule=CronTriggerTimetable(schedule, timezone="UTC"),
        catchup=False,
        max_active_runs=16,
        default_args={**RETRIES, "owner": "slipway"},
        tags=["slipway", "release"],
    )
    with dag:
        gone = FindGoneOperator(task_id="find_gone")
        ReconcileOperator.partial(task_id="reconcile", **RECORD_RETRIES).expand(release=gone.output)
        clusters = ChooseClustersOperator(task_id="clusters")
        ProbeClusterOperator.partial(
            task_id="probe",
            retries=0,
            execution_timeout=timedelta(minutes=30),
        ).expand(cluster=clusters.output)
    return dag


def _job(dag_id: str, doc_md: str, params: dict[str, Param]) -> DAG:
    """A DAG that a person starts for one endpoint."""
    common: dict[str, Any] = {
        "endpoint": Param(
            type="string",
            pattern=ENDPOINT_PATTERN,
            examples=sorted(read_catalog().endpoints),
            title="Endpoint",
            description_md="One that was deployed need not be in the catalog any more.",
        ),
        "reason": Param(
            "",
            type=["null", "string"],
            maxLength=500,
            title="Reason",
            description_md="Why, for the history.",
        ),
    }
    return job_by_hand(dag_id=dag_id, doc_md=doc_md, params={**common, **params})
