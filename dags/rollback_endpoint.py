"""Airflow DAG. Roll an endpoint back: an old release's exact objects, images and weights, as a new release."""

from slipway.operators.life import rollback_dag

dag = rollback_dag(
    dag_id="rollback_endpoint",
    doc_md="""
Goes back to a release that was good: by default the one before the one that serves. Its stored objects are applied to
the byte, proven by requests, published, and recorded as a release of their own; the first step prints the difference.
Should it fail, the endpoint returns to the release that served.
""",
)
