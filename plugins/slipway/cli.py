"""``slipway``: the terminal's way to the same code. Exit status 0 is success, 2 a user's mistake, 1 all else."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slipway.catalog.read import read_catalog
from slipway.errors import SlipwayError, UsageError
from slipway.manifests.plan import make_plan, parse_overrides
from slipway.manifests.render import ENDPOINT_LABEL, render


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors are one line on standard error."""
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except SlipwayError as error:
        print(f"slipway: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("slipway: interrupted; what Airflow runs goes on", file=sys.stderr)
        return 130


def validate(options: argparse.Namespace) -> int:
    """Check the whole catalog; every problem in one run."""
    catalog = read_catalog(options.include)
    for name in catalog.endpoints:
        try:
            render(make_plan(catalog, name, include=options.include), include=options.include)
        except SlipwayError as error:
            print(f"include/catalog/endpoints/{name}.yaml:1: {error}", file=sys.stderr)
            return error.exit_status
    for problem in catalog.problems:
        print(problem.render(), file=sys.stderr)
    if catalog.problems:
        return 2
    print(f"{len(catalog.endpoints)} endpoints, {len(catalog.models)} models: no problem")
    return 0


def show(options: argparse.Namespace) -> int:
    """Print the objects of an endpoint as YAML."""
    plan = make_plan(
        read_catalog(options.include), options.endpoint, _overrides(options), include=options.include
    )
    print(render(plan, include=options.include).to_yaml(), end="")
    return 0


def check(options: argparse.Namespace) -> int:
    """Run the checks of an endpoint's plan against its cluster; 1 with a blocking finding."""
    from slipway.checks.findings import blocking, table
    from slipway.checks.plan import subject_of
    from slipway.checks.run import run_checks
    from slipway.cluster.client import Cluster

    plan = make_plan(
        read_catalog(options.include), options.endpoint, _overrides(options), include=options.include
    )
    cluster = Cluster.from_kubeconfig(_kubeconfig(options.kubeconfig), context=plan.context)
    findings = run_checks(cluster, subject_of(plan))
    if options.output == "json":
        print(
            json.dumps(
                [finding.model_dump(mode="json") for finding in findings], ensure_ascii=False, indent=2
            )
        )
    else:
        print(table(findings))
    return 1 if blocking(findings) else 0


def fetch(options: argparse.Namespace) -> int:
    """Bring weights from a source into a directory, verified."""
    from slipway.weights import fetch as fetch_weights
    from slipway.weights.orders import FetchOrder

    order: dict[str, Any] = {"source": options.source, "destination": str(options.directory.absolute())}
    if options.revision:
        order["revision"] = options.revision
    if options.endpoint_url:
        order["s3"] = {"endpoint_url": options.endpoint_url}
    result = fetch_weights(FetchOrder.model_validate(order))
    print(
        f"{result.destination}: {result.files} files, {result.bytes_total} bytes, verified: {result.verified}"
    )
    return 0


def deploy(options: argparse.Namespace) -> int:
    """Trigger a DAG through Airflow's REST API and follow it to its end."""
    from slipway.airflow_rest import AirflowRest

    overrides = _overrides(options).model_dump(mode="json", exclude_defaults=True)
    conf = {"endpoint": options.endpoint, "reason": options.reason, "overrides": overrides}
    rest = AirflowRest.from_environment()
    run_id = rest.trigger(options.dag, conf, run_id=options.key)
    print(f"{options.dag} {run_id}")
    outcome = rest.follow(options.dag, run_id, say=lambda line: print(f"  {line}", flush=True))
    print(f"{outcome.state} after {outcome.seconds:.0f} s")
    for failure in outcome.failures:
        print(f"slipway: {failure}", file=sys.stderr)
    return 0 if outcome.state == "success" else 1


def history(options: argparse.Namespace) -> int:
    """List an endpoint's releases, the newest first; first restored from its cluster where that is asked."""
    from slipway.releases.store import History

    if options.rebuild:
        _rebuild(options)
    releases = History.open().list(endpoint=options.endpoint, limit=options.limit)
    for release in releases:
        finished = f"{release.finished_at:%Y-%m-%d %H:%M:%S}" if release.finished_at else "-"
        print(
            f"{release.number:>4}  {release.status:<10}  {finished:<19}  {release.failure or release.reason or ''}"
        )
    if not releases:
        print(f"no release of {options.endpoint}")
    return 0


def _rebuild(options: argparse.Namespace) -> None:
    from slipway.cluster.client import Cluster
    from slipway.releases.inventory import NUMBER_LABEL, read_inventory
    from slipway.releases.store import History

    plan = make_plan(read_catalog(options.include), options.endpoint, include=options.include)
    cluster = Cluster.from_kubeconfig(_kubeconfig(options.kubeconfig), context=plan.context)
    labels = {ENDPOINT_LABEL: plan.object_name}
    found = cluster.list(api_version="v1", kind="ConfigMap", namespace=plan.namespace, labels=labels)
    kept = [obj for obj in found if NUMBER_LABEL in obj["metadata"]["labels"]]
    for release in sorted((read_inventory(obj)[0] for obj in kept), key=lambda release: release.number):
        History.open().restore(release)
    print(f"{len(kept)} releases are in {plan.cluster}/{plan.namespace}", file=sys.stderr)


def _kubeconfig(named: Path | None) -> Path:
    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return named or Path(first or Path.home() / ".kube" / "config")


def _overrides(options: argparse.Namespace) -> Any:
    try:
        data = json.loads(options.overrides) if options.overrides else {}
    except ValueError as error:
        raise UsageError("the overrides are not JSON", about=options.overrides, why=str(error)) from error
    return parse_overrides(data)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slipway", description="Put large language models into service.")
    parser.add_argument(
        "--include", type=Path, default=None, help="the include directory; default: the project's"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    command("validate", validate, "check the whole catalog")
    for name, run, text in (
        ("render", show, "print an endpoint's objects as YAML"),
        ("check", check, "check that an endpoint's cluster can take it"),
    ):
        added = command(name, run, text)
        added.add_argument("endpoint")
        added.add_argument("--overrides", help='JSON, for example {"replicas": 2}')
        if name == "check":
            added.add_argument("--kubeconfig", type=Path, default=None, help="default: $KUBECONFIG")
            added.add_argument("--output", choices=("table", "json"), default="table")
    added = command("fetch", fetch, "bring weights into a directory, verified")
    added.add_argument("source", help="s3://bucket/prefix, modelscope://org/name, https://…")
    added.add_argument("directory", type=Path)
    added.add_argument("--revision")
    added.add_argument("--endpoint-url", help="of an S3 service other than AWS")
    for name, dag, text in (
        ("deploy", "deploy_endpoint", "deploy an endpoint through Airflow and follow the run"),
        ("redeploy", "redeploy_endpoint", "deploy again what the last good release deployed"),
    ):
        added = command(name, deploy, text)
        added.set_defaults(dag=dag)
        added.add_argument("endpoint")
        added.add_argument("--reason", default="")
        added.add_argument("--overrides", help='JSON, for example {"replicas": 2}')
        added.add_argument("--key", help="idempotency key: the same key twice makes one run")
    added = command("history", history, "list an endpoint's releases")
    added.add_argument("endpoint")
    added.add_argument("--limit", type=int, default=20)
    added.add_argument("--rebuild", action="store_true", help="restore them from the cluster first")
    added.add_argument("--kubeconfig", type=Path, default=None, help="for --rebuild; default: $KUBECONFIG")
    return parser


if __name__ == "__main__":
    sys.exit(main())
