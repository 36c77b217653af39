"""Airflow DAG. Deploy an endpoint: from the catalog to a proven, published, measured release."""

from slipway.operators.deployment import deployment_dag

dag = deployment_dag(
    dag_id="deploy_endpoint",
    again=False,
    doc_md="""
Brings an endpoint of the catalog into service: checks the cluster, downloads the weights, applies the objects, proves
the answer from inside the cluster, publishes it, measures it, and records the release. If a step fails, the endpoint
goes back to the last good release and the run says why.
""",
)
