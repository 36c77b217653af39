"""Commands around releases: deploy, redeploy, adopt, roll back, scale and remove through Airflow; and history."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from slipway.cli.live import kept_releases
from slipway.cli.shared import cluster_of, include_of, overrides_of, plan_of
from slipway.errors import UsageError
from slipway.manifests.portnames import with_port_names
from slipway.manifests.render import render


def deploy(options: argparse.Namespace) -> int:
    """Deploy or redeploy through Airflow's REST API and follow the run to its end."""
    overrides = overrides_of(options).model_dump(mode="json", exclude_defaults=True)
    asked = {"overrides": overrides, "restart": options.restart, **_strategy(options)}
    return _run(options.dag, options, asked)


def redeploy_anew(options: argparse.Namespace, *, reason: str) -> int:
    """Start an endpoint's pods anew, by the strategy that was asked for; 1 when the run fails."""
    options.reason = options.reason or reason
    return _run("redeploy_endpoint", options, {"overrides": {}, "restart": True, **_strategy(options)})


def adopt(options: argparse.Namespace) -> int:
    """Show what adopting would change now and what the next deployment would; then, when agreed to, do it.

    Exit status 0: adopted, or only shown; 1: the run failed; 2: it cannot be adopted as it is or as the record is.
    """
    from slipway.cluster.diff import differences
    from slipway.releases.adoption import examine

    plan = plan_of(options)
    cluster, rendered = cluster_of(plan, options), render(plan, include=include_of(options))
    adoption = examine(cluster, plan, rendered, take_over=options.take_over)
    print("# adopting changes this and restarts nothing:")
    for one in adoption.changes():
        print(one.text, end="")
    print("# the next deployment would change this:")
    refusals = []
    following = render(with_port_names(plan, adoption.live), include=include_of(options))
    for one in differences(cluster, following.objects(), force=True):
        if one.note:
            print(f"# {one.ref}: {one.note}")
        print(one.text, end="")
        refusals += [f"{one.ref}: {one.refusal}"] if one.refusal else []
    for line in [*(f"the next deployment would be refused: {one}" for one in refusals), *adoption.notes]:
        print(f"slipway: {line}", file=sys.stderr)
    if not _is_agreed(options):
        return 0
    asked = {"seen": adoption.rendered.digest, **({"take_over": True} if options.take_over else {})}
    return _run("adopt_endpoint", options, asked)


def _is_agreed(options: argparse.Namespace) -> bool:
    """Whether the person wants what was shown; where nobody can be asked, only --yes says so."""
    if options.yes:
        return True
    if not sys.stdin.isatty():
        print("slipway: nothing was changed; --yes adopts it", file=sys.stderr)
        return False
    return input(f"Adopt {options.endpoint}? [y/N] ").strip().lower() in ("y", "yes")


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
    """Set the number of replicas, or turn autoscaling on or off."""
    names = ("replicas", "autoscaling", "minimum", "maximum")
    asked = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return _run("scale_endpoint", options, asked)


def remove(options: argparse.Namespace) -> int:
    """Remove an endpoint; the name has to be given twice, as in the form."""
    return _run("remove_endpoint", options, {"confirm": options.confirm, "weights": options.weights})


def _run(dag: str, options: argparse.Namespace, conf: dict[str, Any]) -> int:
    """Trigger a DAG for an endpoint and follow the run; 1 when it fails, 2 when what it asks for is refused."""
    from slipway.airflow_rest import AirflowRest

    asked = {"endpoint": options.endpoint, "reason": options.reason, **conf}
    with AirflowRest.from_environment() as rest:
        run_id = rest.trigger(dag, asked, run_id=options.key)
        print(f"{dag} {run_id}")
        outcome = rest.follow(dag, run_id, say=lambda line: print(f"  {line}", flush=True))
    print(f"{outcome.state} after {outcome.seconds:.0f} s")
    for failure in outcome.failures:
        print(f"slipway: {failure}", file=sys.stderr)
    if outcome.refused:
        return UsageError.exit_status
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
