"""A catalog with further records for Airflow, as long as a file of tests needs them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox.catalog import with_records
from sandbox.settings import load
from slipway.airflow_rest import AirflowRest

FORMS = ("deploy_endpoint", "redeploy_endpoint")


@contextmanager
def catalog_with(
    records: Mapping[str, Mapping[str, Any]], *, airflow: AirflowRest, folder: Path
) -> Iterator[None]:
    """Let Airflow read the checkout's catalog with further records, and wait until its forms offer the endpoints."""
    with with_records(load(), records, folder=folder):
        endpoints = {Path(path).name for path in records if path.startswith("endpoints/")}
        for dag_id in FORMS:
            _offered(airflow, dag_id, endpoints)
        yield


def _offered(airflow: AirflowRest, dag_id: str, endpoints: set[str]) -> None:
    """Have a DAG read anew, and wait until its form offers the endpoints."""
    deadline, asked = time.monotonic() + 120, 0.0
    while True:
        details = airflow.get(f"/api/v2/dags/{dag_id}/details")
        missing = endpoints - set(details["params"]["endpoint"]["schema"]["enum"])
        if not missing:
            return
        assert time.monotonic() < deadline, f"{dag_id} is not read anew: {', '.join(sorted(missing))}"
        if time.monotonic() - asked > 20:
            asked = time.monotonic()
            airflow._request("PUT", f"/api/v2/parseDagFile/{details['file_token']}")
        time.sleep(1)
