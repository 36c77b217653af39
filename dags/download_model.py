"""Airflow DAG. Bring a model of the catalog into a cluster's volume, without deploying it."""

from slipway.operators.download_jobs import download_model_dag

dag = download_model_dag(
    dag_id="download_model",
    doc_md="""
Downloads a model's weights into the volume that its endpoints mount, and verifies every file. The model's sources are
tried one after the other unless the run names one. What is there already is not fetched again. When it is ready, the
asset `slipway://<cluster>/<namespace>/<model>` gets an event, which a DAG of yours can be scheduled on.
""",
)
