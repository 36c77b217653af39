"""Airflow DAG. Measure every serving endpoint at night, by vLLM's own benchmark client."""

from slipway.operators.deployment import nightly_benchmark_dag

dag = nightly_benchmark_dag(
    dag_id="nightly_benchmark",
    schedule="0 3 * * *",
    doc_md="""
Runs each endpoint's workload against its last good release, one endpoint at a time and under its lock, and keeps the
raw result. Trigger it by hand with `endpoints` to measure some of them now.
""",
)
