"""Airflow DAG. List the versions of a model's weights in a volume, and remove those that nothing needs."""

from slipway.operators.download_jobs import remove_weights_dag

dag = remove_weights_dag(
    dag_id="remove_weights",
    doc_md="""
Every version of a model's weights stays until this job removes it. It never removes what a pod or a workload mounts,
what a pending release or one of the last good ones needs, and what the catalog names now. Without *versions* and
*unused* it only lists what there is.
""",
)
