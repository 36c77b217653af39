"""All checks, run side by side, none hiding another."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Literal

from slipway.checks.api import check_api, check_namespace
from slipway.checks.findings import Finding, blocking
from slipway.checks.nodes import check_capacity, check_images, check_nodes
from slipway.checks.permissions import check_permissions
from slipway.checks.storage import check_secrets, check_storage
from slipway.checks.subject import Subject, View
from slipway.cluster.client import Cluster
from slipway.errors import SlipwayError, bounded

DEADLINE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: data and one function.

    Attributes:
        id: what findings carry.
        title: what it makes sure of.
        scope: what it is about.
        function: looks and returns what it found; "ok" findings too, so that a table shows what was looked at.
    """

    id: str
    title: str
    scope: Literal["cluster", "node", "endpoint"]
    function: Callable[[View, Subject], list[Finding]]


API = Check(id="api", title="the API answers and is new enough", scope="cluster", function=check_api)
CHECKS: tuple[Check, ...] = (
    API,
    Check(
        id="permissions",
        title="the connection's user may do what Slipway does",
        scope="endpoint",
        function=check_permissions,
    ),
    Check(id="namespace", title="the namespace is there", scope="endpoint", function=check_namespace),
    Check(id="storage", title="the volume is there or can be made", scope="endpoint", function=check_storage),
    Check(id="secrets", title="Secrets have their keys", scope="endpoint", function=check_secrets),
    Check(id="nodes", title="nodes are ready", scope="node", function=check_nodes),
    Check(id="capacity", title="all pods find room", scope="node", function=check_capacity),
    Check(id="images", title="images are on the nodes", scope="node", function=check_images),
)


def run_checks(
    cluster: Cluster,
    subject: Subject,
    *,
    deadline: float = DEADLINE_SECONDS,
    checks: Sequence[Check] = CHECKS,
) -> list[Finding]:
    """Run checks side by side and return what all of them found, in the order of the checks.

    Whether the API answers comes first: where it doesn't, that is the one finding and the others say that they
    were not run. A check that fails itself, or takes longer than the deadline, is "not checked".

    Args:
        cluster: where.
        subject: what is to be deployed.
        deadline: seconds for all checks together. A request that hangs ends by its own timeout, later.
        checks: which.
    """
    started = time.monotonic()
    view = View(cluster=cluster)
    findings = _run(API, view, subject)
    rest = [check for check in checks if check.id != API.id]
    if blocking(findings):
        return findings + [_not_checked(check, "the API does not answer as it must") for check in rest]
    threads = ThreadPoolExecutor(max_workers=max(1, len(rest)), thread_name_prefix="check")
    try:
        futures = [(check, threads.submit(_run, check, view, subject)) for check in rest]
        for check, future in futures:
            findings += _result(
                check, future, left=deadline - (time.monotonic() - started), deadline=deadline
            )
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    return findings


def _run(check: Check, view: View, subject: Subject) -> list[Finding]:
    try:
        return check.function(view, subject)
    except SlipwayError as error:
        return [_not_checked(check, error.why or str(error), remedy=error.remedy)]
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
