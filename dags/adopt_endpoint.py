"""Airflow DAG. Adopt an endpoint: what somebody applied with kubectl becomes its first release, without a restart."""

from slipway.operators.life import adopt_dag

dag = adopt_dag(
    dag_id="adopt_endpoint",
    doc_md="""
Takes over the StatefulSet or Deployment and the Services that have an endpoint's names: they and their pods get
Slipway's labels, Slipway becomes the manager of their fields, and their manifests are the endpoint's first release.
No pod is replaced. Refused where the record does not fit what is there; `slipway adopt ENDPOINT` shows every change
before it is made.
""",
)
