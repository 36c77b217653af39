"""The command that makes a cluster what its record says."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import socket
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from slipway.catalog.read import read_catalog
from slipway.cli.shared import connect, include_of
from slipway.errors import SlipwayError
from slipway.manifests.cluster_objects import cluster_record

if TYPE_CHECKING:
    from slipway.prepare.images import Pulled
    from slipway.prepare.outlook import Outlook
    from slipway.prepare.steps import Step
    from slipway.prepare.target import Target

_PATIENCE_SECONDS = 120.0


def prepare(options: argparse.Namespace) -> int:
    """Show what a cluster lacks, or make it; 1 when something is blocked or fails."""
    from slipway.prepare.images import pulled
    from slipway.prepare.outlook import table
    from slipway.prepare.run import plan
    from slipway.prepare.steps import chosen
    from slipway.prepare.target import environment_credentials, target_of

    include = include_of(options)
    catalog = read_catalog(include)
    record = cluster_record(catalog, options.cluster)
    steps = chosen(record, options.steps.split(",") if options.steps else [])
    target = target_of(
        catalog,
        options.cluster,
        include=include,
        cluster=connect(options, context=record.setup.context or record.context),
        credentials=environment_credentials,
        take_over=options.take_over,
    )
    if options.images:
        return _print_images(pulled(target), as_json=options.output == "json")
    outlooks = plan(target, steps)
    failures: dict[str, str] = {}
    to_make = [step for step, one in zip(steps, outlooks, strict=True) if one.state != "there"]
    if options.output == "table":
        print(table(outlooks))
    if options.approve and all(one.state in ("there", "blocked") for one in outlooks):
        failures = {one.step: one.reason for one in outlooks if one.state == "blocked"}
    elif options.approve:
        failures = _make(target, to_make, outlooks, reason=options.reason)
    if options.output == "json":
        listed = [one.model_dump(mode="json") for one in outlooks]
        print(json.dumps({"plan": listed, "failures": failures}, ensure_ascii=False, indent=2))
    is_blocked = any(one.state == "blocked" for one in outlooks) and not options.approve
    return 1 if failures or is_blocked else 0


def _make(target: Target, steps: list[Step], outlooks: list[Outlook], *, reason: str) -> dict[str, str]:
    """Make what the plan that was just printed lacks, under the cluster's lock, and keep it in the history."""
    from slipway.prepare.lock import held
    from slipway.prepare.run import carry_out
    from slipway.releases.preparations import Preparations

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    who = f"{getpass.getuser()}@{socket.gethostname()}"
    run_id = f"terminal/{who}/{os.getpid()}/{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
    history, name = Preparations.open(), target.record.name
    planned = [one.model_dump(mode="json") for one in outlooks]
    history.begin(name, run_id=run_id, plan=planned, reason=reason, actor=who)
    failures: dict[str, str] = {}
    try:
        with held(target.cluster, holder=run_id, patience=_PATIENCE_SECONDS, say=say) as cluster:
            history.approve(name, run_id=run_id, approver=who)
            approved = {one.step: one.approved for one in outlooks}
            failures = carry_out(target, steps, cluster=cluster, approved=approved, say=say)
    except SlipwayError as error:
        history.finish(name, run_id=run_id, failures={"lock": str(error)})
        for line in error.remedy.splitlines():
            say(f"    {line}")
        raise
    history.finish(name, run_id=run_id, failures=failures)
    return failures


def _print_images(listed: list[Pulled], *, as_json: bool) -> int:
    if as_json:
        print(json.dumps([one.model_dump(mode="json") for one in listed], ensure_ascii=False, indent=2))
    else:
        for one in listed:
            if not one.fault:
                taken = "" if one.taken_from == one.source else f" -> {one.taken_from}"
                print(f"{one.kind} {one.source}{taken}")
        for one in listed:
            if one.fault:
                print(f"slipway: {one.fault}", file=sys.stderr)
    return 1 if any(one.fault for one in listed) else 0
