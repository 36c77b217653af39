"""Airflow DAG. Scale an endpoint: to any number of replicas, to 0 and back, or by load."""

from slipway.operators.life import scale_dag

dag = scale_dag(
    dag_id="scale_endpoint",
    doc_md="""
Sets the number of replicas, or turns the endpoint's autoscaling on or off; waits until the replicas are available, and
asks the endpoint. Later deployments and rollbacks keep both, except that they bring back what is scaled to 0. A number
is refused while an autoscaler would set it back.
""",
)
