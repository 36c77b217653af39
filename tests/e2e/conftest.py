"""Fixtures of the end-to-end tests: a sandbox that is up, its Airflow, its S3, and the history."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox import credentials, s3
from sandbox.airflow import airflow_environment
from sandbox.demo import put_model, wait_for_dag
from sandbox.settings import load
from slipway.airflow_rest import AirflowRest, Outcome
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from slipway.releases.store import History
from tests.e2e import small
from tests.e2e.own_catalog import catalog_with
from tests.e2e.small import Small

ENDPOINT = "qwen3-tiny"
NAMESPACE = "models"


@pytest.fixture(scope="session")
def environment() -> Iterator[dict[str, str]]:
    """The sandbox's environment, as the terminal would source it."""
    before, values = dict(os.environ), airflow_environment(load())
    os.environ.update(values)
    yield values
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def airflow(environment: dict[str, str]) -> Iterator[AirflowRest]:
    """Airflow's REST API, with the DAGs read."""
    with AirflowRest.from_environment(environment) as rest:
        for dag_id in ("deploy_endpoint", "redeploy_endpoint", "nightly_benchmark"):
            wait_for_dag(rest, dag_id)
        yield rest


@pytest.fixture(scope="session")
def history(environment: dict[str, str]) -> History:
    """The sandbox's history."""
    return History.open()


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The sandbox's cluster, as the administrator sees it."""
    return Cluster.from_kubeconfig(load().admin_kubeconfig)


@pytest.fixture(scope="session")
def bucket() -> Any:
    """The sandbox's S3 as a boto3 client."""
    import boto3

    access = s3.connection(load())
    return boto3.client(
        "s3",
        endpoint_url=access["endpoint_url"],
        aws_access_key_id=access["access_key"],
        aws_secret_access_key=access["secret_key"],
        region_name="us-east-1",
    )


@pytest.fixture(scope="session")
def tiny_overrides() -> dict[str, Any]:
    """The overrides that deploy the tiny model as it lies in S3 now."""
    return put_model("", endpoint=ENDPOINT, access=s3.connection(load()))


Run = Callable[..., Outcome]


@pytest.fixture(scope="session")
def run(airflow: AirflowRest) -> Run:
    """Trigger a DAG and follow it to its end: ``run("deploy_endpoint", endpoint=…)``."""

    def trigger_and_follow(dag_id: str, **conf: Any) -> Outcome:
        run_id = airflow.trigger(dag_id, conf)
        return airflow.follow(dag_id, run_id, say=lambda line: None, seconds=900)

    return trigger_and_follow


@dataclass(frozen=True)
class Serving:
    """What the cluster shows of the tiny endpoint."""

    cluster: Cluster
    api_key: str

    def pods(self) -> list[Object]:
        """The serving pods."""
        labels = {"slipway.io/endpoint": ENDPOINT, "app.kubernetes.io/component": "server"}
        return self.cluster.list(api_version="v1", kind="Pod", namespace=NAMESPACE, labels=labels)

    def services(self) -> dict[str, Object]:
        """Its Services by name."""
        labels = {"slipway.io/endpoint": ENDPOINT}
        found = self.cluster.list(api_version="v1", kind="Service", namespace=NAMESPACE, labels=labels)
        return {service["metadata"]["name"]: service for service in found}

    def ask(self, prompt: str = "Hello", *, key: str | None = None) -> httpx.Response:
        """A completion through the published Service, from this machine, which is the node."""
        address = self.services()[ENDPOINT]["spec"]["clusterIP"]
        return httpx.post(
            f"http://{address}:8000/v1/completions",
            json={"model": ENDPOINT, "prompt": prompt, "max_tokens": 4},
            headers={"Authorization": f"Bearer {key or self.api_key}"},
            timeout=60,
            trust_env=False,
        )


@pytest.fixture(scope="session")
def serving(cluster: Cluster) -> Serving:
    """The endpoint as the cluster has it."""
    return Serving(cluster=cluster, api_key=credentials.kept(load(), "endpoint-api-key"))


@pytest.fixture(scope="session")
def artifacts(environment: dict[str, str]) -> Path:
    """Where raw benchmarks and evidence are kept."""
    return Path(environment["SLIPWAY_ARTIFACTS"])


@pytest.fixture(scope="session")
def deployed(run: Run, tiny_overrides: dict[str, Any]) -> Outcome:
    """The tiny endpoint, deployed once for all tests."""
    return run("deploy_endpoint", endpoint=ENDPOINT, reason="tests", overrides=tiny_overrides)


@pytest.fixture(scope="module")
def small_catalog(
    airflow: AirflowRest, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Airflow's catalog has the endpoints of the small server, for one file of tests."""
    folder = tmp_path_factory.mktemp("small")
    small.put_weights(folder, s3.connection(load()))
    with catalog_with(small.records(), airflow=airflow, folder=folder):
        yield


@pytest.fixture(scope="module")
def make_small(
    small_catalog: None, airflow: AirflowRest, cluster: Cluster, history: History
) -> Iterator[Callable[[str], Small]]:
    """Take one of the small server's endpoints by its name; afterwards nothing of it is left."""
    taken: list[Small] = []
    api_key = credentials.kept(load(), "endpoint-api-key")
    wait_for_dag(airflow, "remove_endpoint")

    def take(endpoint: str) -> Small:
        one = Small(endpoint=endpoint, airflow=airflow, cluster=cluster, history=history, api_key=api_key)
        taken.append(one)
        return one

    yield take
    for one in taken:
        one.removed()
