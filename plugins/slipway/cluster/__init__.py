"""A Kubernetes API: objects as plain dicts, applied, judged, waited for and pruned.

Nothing here imports Airflow, and nothing imports the heavy ``kubernetes`` package before a connection is
made: DAG files that name these modules stay quick to parse.
"""
