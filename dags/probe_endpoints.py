"""Airflow DAG. Every five minutes: probe what serves, tell when that changes, and finish what dead runs left."""

from slipway.operators.life import probe_dag

dag = probe_dag(
    dag_id="probe_endpoints",
    schedule="*/5 * * * *",
    doc_md="""
Asks every published endpoint from a pod as a client would, keeps its latency and time to first token, and tells changes
of state through the Airflow connection `slipway_alerts` (types smtp, slackwebhook, http). Releases whose run was
killed, deleted or ended without finishing them go back to the last good one.
""",
)
