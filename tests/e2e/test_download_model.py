"""download_model and remove_weights as a person starts them: real pods, a real volume, each kind of source."""

from __future__ import annotations

import functools
import hashlib
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sandbox import nfs, s3
from sandbox.demo import put_model, wait_for_dag
from sandbox.model import tiny_model
from sandbox.settings import NODE_IP, load
from slipway.airflow_rest import AirflowRest
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Ref
from slipway.weights.manifest import SUMS
from slipway.weights.sources.credentials import SOURCES_SECRET
from tests.e2e.conftest import Run
from tests.hub.server import Hub, Repository, commit_id, serving

pytestmark = pytest.mark.e2e

MODEL, NAMESPACE = "qwen3-tiny", "models"
# A model that no endpoint of the sandbox serves; its volume is the tests' own.
OTHER = "qwq-32b"
COMMIT, LATER = commit_id("first"), commit_id("later")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's files with their SHA256SUMS."""
    target = tmp_path_factory.mktemp("model") / MODEL
    shutil.copytree(tiny_model(), target)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in target.iterdir()}
    (target / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))
    return target


@pytest.fixture(scope="module")
def web(directory: Path) -> Iterator[str]:
    """A web server that pods reach, with the model in it."""
    handler = functools.partial(_Quiet, directory=str(directory.parent))
    server = ThreadingHTTPServer((NODE_IP, 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://{NODE_IP}:{server.server_port}/{MODEL}"
    server.shutdown()
    thread.join()
    server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hub(directory: Path, cluster: Cluster) -> Iterator[Hub]:
    """A hub that pods reach, with the model in it, and the Secret that says where it is."""
    files = {path.name: path.read_bytes() for path in directory.iterdir() if path.name != SUMS}
    repository = Repository(
        commits={COMMIT: files, LATER: files | {"README.md": b"later"}},
        branches={"master": COMMIT},
        tokens={"ms-token", "ms-later"},
    )
    with serving(Hub(models={"org/tiny": repository}, host=NODE_IP, store_host=NODE_IP)) as running:
        put_token(cluster, running, "ms-token")
        yield running
        cluster.delete(Ref(apiVersion="v1", kind="Secret", namespace=NAMESPACE, name=SOURCES_SECRET))


def put_token(cluster: Cluster, hub: Hub, token: str) -> None:
    """Write the Secret, as whoever renews tokens does."""
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SOURCES_SECRET, "namespace": NAMESPACE},
            "stringData": {"MODELSCOPE_ENDPOINT": hub.url, "MODELSCOPE_API_TOKEN": token},
        }
    )


@pytest.fixture(scope="module")
def export(directory: Path) -> str:
    """The model on the sandbox's NFS server."""
    place = nfs.exported(load()) / MODEL
    place.mkdir(exist_ok=True)
    for path in directory.iterdir():
        shutil.copy(path, place)
    for path in (place, *place.iterdir()):
        path.chmod(0o755)
    return nfs.url(MODEL)


@pytest.fixture(scope="module")
def bucket_source() -> str:
    """The model in the sandbox's S3."""
    put_model("", endpoint=MODEL, access=s3.connection(load()))
    return f"s3://{s3.BUCKET}/{MODEL}"


@pytest.fixture(scope="module")
def ready(airflow: AirflowRest, run: Run) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run download_model to its end and return what it says is ready; what the tests brought goes in the end."""
    for dag_id in ("download_model", "remove_weights"):
        wait_for_dag(airflow, dag_id)

    def download(**conf: Any) -> dict[str, Any]:
        outcome = run("download_model", model=MODEL, cluster="sandbox", **conf)
        assert outcome.state == "success", outcome.failures
        found = _xcom(airflow, "download_model", outcome.run_id, "download", "ready")
        made.add(found["path"].rpartition("/")[2])
        return found

    made: set[str] = set()
    yield download
    made.discard(download()["path"].rpartition("/")[2])
    left = [one["key"] for one in _versions(airflow, run)["versions"] if one["key"] in made]
    _versions(airflow, run, versions=left)


def _versions(airflow: AirflowRest, run: Run, **conf: Any) -> dict[str, Any]:
    outcome = run("remove_weights", model=MODEL, cluster="sandbox", **conf)
    assert outcome.state == "success", outcome.failures
    return _xcom(airflow, "remove_weights", outcome.run_id, "remove", "versions")


def _xcom(airflow: AirflowRest, dag_id: str, run_id: str, task: str, key: str) -> dict[str, Any]:
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task}/xcomEntries/{key}"
    value = airflow.get(path, params={"deserialize": True})["value"]
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("kind", ["s3", "http", "nfs", "modelscope"])
def test_a_model_arrives_verified_from_each_kind_of_source(
    kind: str, ready: Callable[..., dict[str, Any]], request: pytest.FixtureRequest, directory: Path
) -> None:
    size = sum(path.stat().st_size for path in directory.iterdir() if path.name != SUMS)
    revision = "master" if kind == "modelscope" else f"test-{secrets.token_hex(4)}"
    if kind == "modelscope":
        request.getfixturevalue("hub")
        source, delivered = "modelscope://org/tiny", f"modelscope://org/tiny?revision={COMMIT}"
    else:
        source = request.getfixturevalue({"s3": "bucket_source", "http": "web", "nfs": "export"}[kind])
        delivered = source.split("?", 1)[0]

    first = ready(source=source, revision=revision)
    again = ready(source=source, revision=revision)

    assert (first["source"], first["bytes"]) == (delivered, size)
    assert kind == "modelscope" or first["fetched"] == size
    assert (again["fetched"], again["digest"], again["path"]) == (0, first["digest"], first["path"])


def test_a_token_that_expires_in_the_middle_is_renewed_by_the_secret_that_the_pod_mounts(
    ready: Callable[..., dict[str, Any]], hub: Hub, cluster: Cluster
) -> None:
    first, delivered = threading.Lock(), threading.Event()
    asked: list[None] = []

    def before_file() -> None:
        asked.append(None)
        if not first.acquire(blocking=False):
            delivered.wait(
                timeout=600
            )  # the first file comes, all others are asked for with a token of the past

    def expire() -> None:
        if not delivered.is_set():
            hub.expired.add("ms-token")
            put_token(cluster, hub, "ms-later")
            delivered.set()

    hub.before_file, hub.delivered = before_file, expire
    try:
        found = ready(source="modelscope://org/tiny", revision=LATER)
    finally:
        hub.before_file = hub.delivered = lambda: None
        hub.expired.clear()

    assert delivered.is_set() and len(asked) > len(hub.models["org/tiny"].commits[LATER])
    assert (found["source"], found["fetched"]) == (f"modelscope://org/tiny?revision={LATER}", found["bytes"])


def test_what_the_pod_says_is_in_the_tasks_log(
    ready: Callable[..., dict[str, Any]], run: Run, airflow: AirflowRest, bucket_source: str
) -> None:
    conf = {"source": bucket_source, "revision": f"test-{secrets.token_hex(4)}"}
    outcome = run("download_model", model=MODEL, cluster="sandbox", **conf)
    made = ready(**conf)

    log = airflow.log("download_model", outcome.run_id, "download")

    assert f"{bucket_source}: " in log and " files, " in log
    assert f"{made['path']}, " in log and "verified: " in log and "/s" in log


def test_weights_in_the_serving_volume_are_verified_where_they_are(
    ready: Callable[..., dict[str, Any]], bucket_source: str
) -> None:
    there = ready(source=bucket_source)

    found = ready(source=f"pvc://{there['claim']}/{there['path']}")

    assert (found["path"], found["fetched"]) == (there["path"], 0)


def test_weights_are_copied_from_another_claim_that_is_mounted_beside_the_volume(
    ready: Callable[..., dict[str, Any]], run: Run, airflow: AirflowRest, cluster: Cluster, bucket_source: str
) -> None:
    there = ready(source=bucket_source)
    volume = Ref(apiVersion="v1", kind="PersistentVolumeClaim", namespace=NAMESPACE, name=f"{OTHER}-weights")
    known = cluster.get(api_version="v1", kind=volume.kind, namespace=NAMESPACE, name=volume.name)

    conf = {"model": OTHER, "cluster": "sandbox", "namespace": NAMESPACE}
    outcome = run("download_model", **conf, source=f"pvc://{there['claim']}/{there['path']}")

    try:
        assert outcome.state == "success", outcome.failures
        told = _xcom(airflow, "download_model", outcome.run_id, "download", "ready")
        assert (told["claim"], told["fetched"]) == (volume.name, there["bytes"])
        assert told["digest"] == there["digest"]
    finally:
        if known is None:
            cluster.delete(volume)


def test_a_model_that_is_ready_is_told_as_an_asset_event(
    ready: Callable[..., dict[str, Any]], airflow: AirflowRest, bucket_source: str
) -> None:
    told = ready(source=bucket_source)

    newest = {"source_dag_id": "download_model", "order_by": "-timestamp", "limit": 100}
    events = airflow.get("/api/v2/assets/events", newest)
    mine = [event for event in events["asset_events"] if event["extra"].get("path") == told["path"]]
    assert mine
    assert mine[0]["uri"] == f"slipway://sandbox/{NAMESPACE}/{MODEL}"
    assert mine[0]["extra"]["digest"] == told["digest"]


def test_what_cannot_be_downloaded_fails_with_one_line_that_says_why(run: Run, hub: Hub) -> None:
    outcome = run("download_model", model=MODEL, cluster="sandbox", source="modelscope://org/none")

    assert outcome.state == "failed"
    assert "no model org/none at revision master" in outcome.failures[0]


def test_an_old_version_is_listed_and_removed_and_what_is_needed_is_not(
    ready: Callable[..., dict[str, Any]], run: Run, airflow: AirflowRest, web: str
) -> None:
    old = ready(source=web, revision=f"test-{secrets.token_hex(4)}")["path"].rpartition("/")[2]
    current = ready(source=None)["path"].rpartition("/")[2]

    refused = run("remove_weights", model=MODEL, cluster="sandbox", versions=[current])
    removed = _versions(airflow, run, versions=[old])

    assert refused.state == "failed"
    assert "version that is needed is not removed" in refused.failures[0]
    assert [one["key"] for one in removed["versions"] if one["removed"]] == [old]
    assert removed["bytes_freed"] > 0
