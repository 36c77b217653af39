"""Checks of a cluster or an endpoint, run side by side, none hiding another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError

from slipway.checks.check import Check
from slipway.checks.findings import Finding, blocking
from slipway.checks.parts import remedy_of
from slipway.checks.registry import API, CHECKS
from slipway.checks.subject import Site, Subject
from slipway.checks.view import View
from slipway.cluster.client import Cluster
from slipway.errors import SlipwayError, bounded


def run_checks(
    cluster: Cluster,
    subject: Subject | Site,
    *,
    active: bool = False,
    checks: Sequence[Check] | None = None,
    deadline: float | None = None,
) -> list[Finding]:
    """Run checks side by side and return what all of them found, in the order of the checks, each finding once.

    Whether the API answers comes first: where it doesn't, that is the one finding and the others say that they
    were not run. A check that fails itself, or takes longer than its deadline, is "not checked".

    Args:
        cluster: where.
        subject: what one endpoint needs right now, or a whole cluster; that decides which checks are run.
        active: also try things out with pods; for whoever asked for it.
        checks: which, instead of those.
        deadline: seconds for each check, instead of its own. A request that hangs ends by its own timeout, later.
    """
    if isinstance(subject, Subject):
        site, asked = Site(endpoints=(subject,)), {"endpoint"}
    else:
        site, asked = subject, {"cluster"}
    if active:
        asked.add("active")
    chosen = checks if checks is not None else [check for check in CHECKS if asked & set(check.asked)]
    started, view = time.monotonic(), View(cluster=cluster)
    findings = _run(API, view, site)
    rest = [check for check in chosen if check.id != API.id and check.needs(site)]
    if blocking(findings):
        return findings + [_not_checked(check, "the API does not answer as it must") for check in rest]
    threads = ThreadPoolExecutor(max_workers=max(1, len(rest)), thread_name_prefix="check")
    try:
        futures = [(check, threads.submit(_run, check, view, site)) for check in rest]
        for check, future in futures:
            limit = check.deadline if deadline is None else deadline
            findings += _result(check, future, left=limit - (time.monotonic() - started), deadline=limit)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    return list(dict.fromkeys(findings))


def _run(check: Check, view: View, site: Site) -> list[Finding]:
    try:
        return check.function(view, site)
    except SlipwayError as error:
        remedy = remedy_of(error, check.rights, view=view, name=check.id)
        return [_not_checked(check, error.why or str(error), remedy=remedy)]
    except Exception as error:  # a fault in one check must not hide what the others found
        return [_not_checked(check, f"the check itself failed: {type(error).__name__}: {error}")]


def _result(check: Check, future: Future[list[Finding]], *, left: float, deadline: float) -> list[Finding]:
    try:
        return future.result(timeout=max(0.0, left))
    except FutureTimeoutError:
        return [_not_checked(check, f"no answer within {deadline:.0f} s")]


def _not_checked(check: Check, reason: str, *, remedy: str = "") -> Finding:
    return Finding(
        check=check.id, severity="not checked", about=check.title, reason=bounded(reason), remedy=remedy
    )
