"""The main job on the sandbox: a model into S3, `deploy_endpoint` through Airflow's REST API, the answer and the table.

What a person may name: ``MODEL`` (a directory, ``s3://bucket/prefix`` of the sandbox's S3, ``modelscope://org/name``)
and ``ENDPOINT`` (an endpoint of the catalog). Without them a tiny model is made whose words are random.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox import s3
from sandbox.airflow import airflow_environment
from sandbox.errors import FAILURE, USER_MISTAKE, SandboxError
from sandbox.progress import say
from sandbox.settings import Settings

TINY_ENDPOINT = "qwen3-tiny"
BUCKET = "models"
SUMS = "SHA256SUMS"


def demo(config: Settings) -> None:
    """Bring the sandbox up, deploy an endpoint through Airflow, and print what it answers and how fast.

    Raises:
        SandboxError: the model cannot be used, or the run failed; one line with the reason.
    """
    from sandbox.up import up
    from slipway.airflow_rest import AirflowRest
    from slipway.errors import SlipwayError

    started = time.monotonic()
    up(config, with_extensions=False)
    environment = airflow_environment(config)
    os.environ.update(environment)
    endpoint = os.environ.get("ENDPOINT") or TINY_ENDPOINT
    try:
        overrides = put_model(os.environ.get("MODEL", ""), endpoint=endpoint, access=s3.connection(config))
        rest = AirflowRest.from_environment(environment)
        wait_for_dag(rest, "deploy_endpoint")
        conf = {"endpoint": endpoint, "reason": "make demo", "overrides": overrides}
        run_id = rest.trigger("deploy_endpoint", conf)
        say(f"deploy_endpoint {run_id}: POST {rest.url}/api/v2/dags/deploy_endpoint/dagRuns")
        outcome = rest.follow("deploy_endpoint", run_id, say=lambda line: say(f"  {line}"))
    except SlipwayError as error:
        raise SandboxError(str(error), status=error.exit_status) from error
    if outcome.state != "success":
        reason = outcome.failures[0] if outcome.failures else "see the run in Airflow"
        raise SandboxError(f"deploy_endpoint failed: {reason}", status=FAILURE)
    print_results(endpoint=endpoint, rest=rest, run_id=run_id, environment=environment, started=started)


def wait_for_dag(rest: Any, dag_id: str, *, seconds: float = 120) -> None:
    """Wait until Airflow's DAG processor has read a DAG for the first time.

    Raises:
        SandboxError: it has not after ``seconds``; names Airflow's import error if there is one.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        known = {dag["dag_id"]: dag for dag in rest.get("/api/v2/dags", params={"limit": 100})["dags"]}
        if dag_id in known and not known[dag_id]["is_paused"]:
            return
        time.sleep(0.5)
    errors = rest.get("/api/v2/importErrors")["import_errors"]
    reason = errors[0]["stack_trace"].strip().splitlines()[-1] if errors else "its DAG processor is slow"
    raise SandboxError(f"Airflow does not know the DAG {dag_id}: {reason}", status=FAILURE)


def put_model(named: str, *, endpoint: str, access: Mapping[str, str]) -> dict[str, Any]:
    """Bring the model that the person named to where the run can fetch it.

    Returns:
        The overrides for the run.

    Raises:
        SandboxError: what was named is no model.
    """
    if not named:
        if endpoint != TINY_ENDPOINT:
            return {}
        from sandbox.model import tiny_model

        directory = tiny_model()
        say("the model is a tiny Qwen3 with random weights: its words are random. A real one:")
        say(
            "  make demo ENDPOINT=qwen3-0.6b-sandbox MODEL=/path/to/Qwen3-0.6B   (or s3://…, modelscope://Qwen/Qwen3-0.6B)"
        )
        digest = upload(directory, prefix="qwen3-tiny", access=access)
        return {"revision": digest}
    if urlsplit(named).scheme in ("s3", "modelscope"):
        return {"source": named}
    directory = Path(named)
    if not (directory / "config.json").is_file():
        raise SandboxError(
            f"MODEL={named}: no directory with a config.json; name a model's directory, s3://bucket/prefix or "
            "modelscope://org/name",
            status=USER_MISTAKE,
        )
    prefix = f"demo/{directory.resolve().name}"
    digest = upload(directory, prefix=prefix, access=access)
    return {"source": f"s3://{BUCKET}/{prefix}", "revision": digest}


def upload(directory: Path, *, prefix: str, access: Mapping[str, str]) -> str:
    """Put a directory under a prefix with a SHA256SUMS, unless the same files are there; return their digest."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    files = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != SUMS)
    sums = "".join(f"{_sha256(path)}  {path.relative_to(directory).as_posix()}\n" for path in files)
    digest = hashlib.sha256(sums.encode()).hexdigest()[:12]
    client = boto3.client(
        "s3",
        endpoint_url=access["endpoint_url"],
        aws_access_key_id=access["access_key"],
        aws_secret_access_key=access["secret_key"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5}),
    )
    key = f"{prefix}/{SUMS}"
    try:
        if client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == sums.encode():
            say(f"s3://{BUCKET}/{prefix} already holds the model ({digest})")
            return digest
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
            raise
    for path in files:
        client.upload_file(str(path), BUCKET, f"{prefix}/{path.relative_to(directory).as_posix()}")
    client.put_object(Bucket=BUCKET, Key=key, Body=sums.encode())
    size = sum(path.stat().st_size for path in files)
    say(f"put {len(files)} files, {size / 2**20:.1f} MiB, under s3://{BUCKET}/{prefix} ({digest})")
    return digest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def print_results(
    *, endpoint: str, rest: Any, run_id: str, environment: Mapping[str, str], started: float
) -> None:
    """Print the answer, the benchmark table, the numbers, and where to look."""
    from benchmarks.orchestration import breakdown
    from slipway.benchmark.table import format_table
    from slipway.manifests.plan import Plan
    from slipway.manifests.render import service_url
    from slipway.releases.store import History

    history = History.open()
    release = history.last_good(endpoint)
    if release is None:
        raise SandboxError(f"the run succeeded but {endpoint} has no good release", status=FAILURE)
    plan = Plan.model_validate(release.plan)
    probe = history.probes(release.id)[-1]
    print(f"\n{endpoint} serves as {release.title}, at {service_url(plan, release=None)} in the cluster.")
    words = " (random words: this model's weights are random)" if plan.random_words else ""
    print(f"\nIts answer to a streamed chat{words}:\n  {probe.answer!r}\n")
    benchmarks = history.benchmarks(release.id)
    if benchmarks:
        print(format_table(benchmarks[-1].raw))
    numbers = breakdown(rest, run_id)
    print("\nThis run, in seconds:")
    for name, seconds in numbers.items():
        print(f"  {name:<44} {seconds:7.1f}")
    print(f"  {'make demo, from its start to here':<44} {time.monotonic() - started:7.1f}")
    password = environment["SLIPWAY_AIRFLOW_PASSWORD"]
    print(f"\nAirflow: {rest.url}  user {environment['SLIPWAY_AIRFLOW_USER']}, password {password}")
    print(
        "Everything is left running: `make status` shows it, `make down` stops it; `make up` adds what endpoints"
    )
    print("of several pods and clients outside the cluster need.")
