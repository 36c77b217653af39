"""Airflow DAG. Prepare a cluster: what its record says and it lacks, shown first, made once somebody approves."""

from slipway.operators.prepare_job import prepare_dag

dag = prepare_dag(
    dag_id="prepare_cluster",
    doc_md="""
Makes a cluster what its record in the catalog says: the Gateway API, namespaces, rights, Secrets, labels of nodes, Helm
releases, storage classes, addresses, Gateway and routes. First it shows what would change; a person approves that under
*Required Actions*. What is there already is not touched, so a run that was interrupted is simply started again.
""",
)
