"""Airflow DAG. Remove an endpoint: everything that its releases left in the cluster."""

from slipway.operators.life import remove_dag

dag = remove_dag(
    dag_id="remove_endpoint",
    doc_md="""
Deletes what the endpoint's releases consist of, and ends when nothing of it is left. The history stays, and so do the
weights unless you say otherwise. To confirm, type the endpoint's name.
""",
)
