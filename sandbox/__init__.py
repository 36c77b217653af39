"""A real single-node Kubernetes, an S3 server and Airflow on this machine: `python -m sandbox up`."""
