"""Airflow DAG. Redeploy an endpoint: what its last good release deployed, with what the run changes about it."""

from slipway.operators.deployment import deployment_dag

dag = deployment_dag(
    dag_id="redeploy_endpoint",
    again=True,
    doc_md="""
Deploys an endpoint again with the overrides of its last good release, changed by those of this run. For other systems:
`POST /api/v2/dags/redeploy_endpoint/dagRuns`. A plan that did not change restarts nothing.
""",
)
