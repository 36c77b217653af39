"""Looking at whole clusters: which, and what was found in each; the DAG that does it daily or when asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, Connection, CronTriggerTimetable, Param
from airflow.sdk.exceptions import AirflowNotFoundException

from slipway.catalog.read import include_directory, read_catalog
from slipway.errors import ClusterError, UsageError
from slipway.operators.connections import cluster_of, credentials_of
from slipway.operators.request import refuse_unknown_conf
from slipway.operators.steps import lock_holder, one_line_failures

if TYPE_CHECKING:
    from airflow.sdk import Context

COUNTS = "findings"
"""The XCom key under which a cluster's task leaves how many findings of each severity there are, and nothing else."""


class ChooseClustersOperator(BaseOperator):
    """Choose the clusters to look at: those named, or every one of the catalog that has an Airflow connection."""

    template_fields: Sequence[str] = ("clusters",)

    def __init__(self, *, clusters: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clusters = clusters

    def execute(self, context: Context) -> list[str]:
        """Return the names."""
        with one_line_failures(context):
            refuse_unknown_conf(context)
            records = read_catalog().clusters
            named = json.loads(self.clusters) if isinstance(self.clusters, str) else self.clusters
            for name in named or []:
                if name not in records:
                    known = ", ".join(sorted(records)) or "none"
                    raise UsageError("no such cluster", about=name, remedy=f"The catalog has: {known}")
            if named:
                return sorted(set(named))
            chosen = []
            for name, record in sorted(records.items()):
                if _has_connection(record.connection):
                    chosen.append(name)
                else:
                    self.log.info("%s: left out, there is no connection %s", name, record.connection)
            return chosen


def _has_connection(connection: str) -> bool:
    try:
        Connection.get(connection)
    except AirflowNotFoundException:
        return False
    return True


class CheckClusterOperator(BaseOperator):
    """Look at one cluster; the findings go into the log and the history, their counts into XCom.

    A blocking finding fails this cluster's task and no other.

    Args:
        cluster: its name in the catalog.
        active: whether to try things out with pods.
        node_pods: a namespace where pods may look at their node's files; "" for none.
    """

    template_fields: Sequence[str] = ("cluster", "active", "node_pods")

    def __init__(self, *, cluster: str, active: Any = False, node_pods: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cluster, self.active, self.node_pods = cluster, active, node_pods

    def execute(self, context: Context) -> None:
        """Run the checks, print, store and count what they found."""
        from slipway.checks.findings import blocking, counted, table
        from slipway.checks.plan import site_of
        from slipway.checks.run import run_checks
        from slipway.releases.infrastructure import Infrastructure

        with one_line_failures(context):
            site = site_of(
                read_catalog(),
                self.cluster,
                include=include_directory(),
                node_pods=self.node_pods or None,
                credentials=credentials_of,
            )
            assert site.record is not None  # site_of always has one
            active = self.active is True or str(self.active) == "True"
            findings = run_checks(cluster_of(site.record.connection), site, active=active)
            Infrastructure.open().record(self.cluster, run_id=lock_holder(context), findings=findings)
            for line in table(findings).splitlines():
                self.log.info("%s", line)
            context["ti"].xcom_push(key=COUNTS, value=counted(findings))
            stops = blocking(findings)
            if stops:
                more = f" (and {len(stops) - 1} more)" if len(stops) > 1 else ""
                first = stops[0]
                raise ClusterError(
                    f"the check of {first.check} found a blocking problem{more}",
                    about=f"{self.cluster}: {first.about}",
                    why=first.reason,
                    remedy=first.remedy,
                )


def check_infrastructure_dag(*, dag_id: str, doc_md: str, schedule: str) -> DAG:
    """Build ``check_infrastructure``: one task for each cluster, none waiting for or stopping another."""
    names = sorted(read_catalog().clusters)
    dag = DAG(
        dag_id=dag_id,
        doc_md=doc_md,
        # No start date: with one, Airflow would at once make up for yesterday when it first reads the DAG.
        schedule=CronTriggerTimetable(schedule, timezone="UTC"),
        catchup=False,
        max_active_runs=1,
        params={
            "clusters": Param(
                [],
                type=["null", "array"],
                items={"type": "string", "enum": names or [""]},
                examples=names,
                title="Clusters",
                description_md="Only these; empty means every cluster that has an Airflow connection.",
            ),
            "active": Param(
                False,
                type="boolean",
                title="Try it out",
                description_md="Also make pods that write to a volume, resolve names, reach registry and sources. "
                "They are deleted again.",
            ),
            "node_pods": Param(
                None,
                type=["null", "string"],  # Airflow's form insists on a value for what cannot be null
                pattern="^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)?$",
                title="Namespace for pods that read nodes' files",
                description_md="Of Pod Security level privileged; they tell glibc and the default container runtime. "
                "Empty: not checked.",
            ),
        },
        default_args={"retries": 1, "retry_delay": timedelta(seconds=30), "owner": "slipway"},
        tags=["slipway", "cluster"],
    )
    with dag:
        choose = ChooseClustersOperator(task_id="choose", clusters="{{ params.clusters | tojson }}")
        CheckClusterOperator.partial(
            task_id="check",
            active="{{ params.active }}",
            node_pods="{{ params.node_pods or '' }}",
            execution_timeout=timedelta(minutes=20),
            map_index_template="{{ task.cluster }}",
        ).expand(cluster=choose.output)
    return dag
