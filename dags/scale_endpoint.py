"""Airflow DAG. Scale an endpoint by hand: to any number of replicas, to 0, and back."""

from slipway.operators.life import scale_dag

dag = scale_dag(
    dag_id="scale_endpoint",
    doc_md="""
Sets the number of replicas, waits until they are available, and asks the endpoint. Later deployments and rollbacks keep
that number, except that they bring back what is scaled to 0. Refused while an autoscaler sets it.
""",
)
