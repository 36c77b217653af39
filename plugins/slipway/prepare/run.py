"""A whole preparation: what would change, and making it step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from slipway.cluster.client import Cluster
from slipway.errors import SlipwayError
from slipway.prepare.outlook import Outlook
from slipway.prepare.refusals import reason_of, remedy_of
from slipway.prepare.steps import Step, look, make
from slipway.prepare.target import Target


def plan(target: Target, steps: Sequence[Step]) -> list[Outlook]:
    """Look at all steps; changes nothing.

    A step that cannot be told hides no other.

    Raises:
        ClusterError: the cluster does not answer at all.
    """
    target.cluster.version()
    return [look(target, step) for step in steps]


def carry_out(
    target: Target,
    steps: Sequence[Step],
    *,
    cluster: Cluster,
    approved: Mapping[str, Mapping[str, str]],
    say: Callable[[str], None],
) -> dict[str, str]:
    """Make the steps one after the other; one that fails stops only those that need it.

    Args:
        target: what is prepared.
        steps: all that were asked for.
        cluster: to write with: it asks for the lock before each write.
        approved: what was approved, by step.
        say: told of each step.

    Returns:
        Why each step failed that did; empty when all is there.
    """
    failures: dict[str, str] = {}
    writing = replace(target, cluster=cluster)
    for step in steps:
        waits = [name for name in step.after if name in failures]
        if waits:
            failures[step.id] = f"it needs {', '.join(waits)}, which failed"
            say(f"{step.id}: not tried: {failures[step.id]}")
            continue
        try:
            before = make(writing, step, approved=approved.get(step.id, {}))
        except SlipwayError as error:
            failures[step.id] = str(error)
            say(f"{step.id}: failed: {reason_of(error)}")
            for line in remedy_of(error).splitlines():
                say(f"    {line}")
            continue
        say(f"{step.id}: {'was there' if before.state == 'there' else 'done'}")
    return failures
