"""Commands around releases: deploy, redeploy, roll back, scale and remove through Airflow; and history."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from slipway.cli.live import kept_releases
from slipway.cli.shared import cluster_of, overrides_of, plan_of


def deploy(options: argparse.Namespace) -> int:
    """Deploy or redeploy through Airflow's REST API and follow the run to its end."""
    overrides = overrides_of(options).model_dump(mode="json", exclude_defaults=True)
    asked = {"overrides": overrides, "restart": options.restart, **_strategy(options)}
    return _run(options.dag, options, asked)


def rollback(options: argparse.Namespace) -> int:
    """Go back to a release that was good; or, with --dry-run, only say what is different."""
    if not options.dry_run:
        to = {"to": options.to} if options.to else {}
        return _run("rollback_endpoint", options, {**to, **_strategy(options)})
    from slipway.releases.difference import difference
    from slipway.releases.rollback import rollback_target
    from slipway.releases.store import History

    serving, target = rollback_target(History.open(), options.endpoint, to=options.to)
    print(f"{options.endpoint}: {serving.title if serving else 'nothing serves'} -> {target.title}")
    for line in difference(serving, target) if serving else []:
        print(line)
    return 0


def _strategy(options: argparse.Namespace) -> dict[str, str]:
    return {"strategy": options.strategy} if options.strategy else {}


def scale(options: argparse.Namespace) -> int:
    """Set the number of replicas."""
    return _run("scale_endpoint", options, {"replicas": options.replicas})


def remove(options: argparse.Namespace) -> int:
    """Remove an endpoint; the name has to be given twice, as in the form."""
    return _run("remove_endpoint", options, {"confirm": options.confirm, "weights": options.weights})


def _run(dag: str, options: argparse.Namespace, conf: dict[str, Any]) -> int:
    """Trigger a DAG for an endpoint and follow the run; 1 when it fails."""
    from slipway.airflow_rest import AirflowRest

    rest = AirflowRest.from_environment()
    asked = {"endpoint": options.endpoint, "reason": options.reason, **conf}
    run_id = rest.trigger(dag, asked, run_id=options.key)
    print(f"{dag} {run_id}")
    outcome = rest.follow(dag, run_id, say=lambda line: print(f"  {line}", flush=True))
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
        why = release.failure or release.reason or ""
        print(f"{release.number:>4}  {release.status:<10}  {finished:<19}  {why}")
    if not releases:
        print(f"no release of {options.endpoint}")
    return 0


def _rebuild(options: argparse.Namespace) -> None:
    from slipway.releases.store import History

    plan = plan_of(options)
    kept = kept_releases(cluster_of(plan, options), plan)
    for release, _ in sorted(kept, key=lambda one: one[0].number):
        History.open().restore(release)
    print(f"{len(kept)} releases are in {plan.cluster}/{plan.namespace}", file=sys.stderr)
