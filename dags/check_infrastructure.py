"""Airflow DAG. Check clusters: API, nodes, cards, storage, network, and what else their endpoints need."""

from slipway.operators.infrastructure import check_infrastructure_dag

dag = check_infrastructure_dag(
    dag_id="check_infrastructure",
    schedule="30 1 * * *",
    doc_md="""
Looks at one or all clusters of the catalog and says what keeps their endpoints from running, each finding with what
mends it. Changes nothing, unless *Try it out* is chosen: then pods are made for a moment and deleted again.
""",
)
