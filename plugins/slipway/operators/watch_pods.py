"""The pods of the regular probes: many endpoints of a namespace in one pod."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from slipway.cluster.controllers import find_workload
from slipway.errors import SlipwayError
from slipway.manifests.plan import shared_labels
from slipway.operators.pods import StepPod
from slipway.operators.prober import (
    delete_probe,
    has_ended,
    probe_order,
    start_pod,
    termination,
    why_no_result,
)
from slipway.operators.rollback import todays_tools
from slipway.operators.steps import plan_of, workload_of
from slipway.pods import parse_result
from slipway.probes.orders import ProbeOrder, Sight, WatchedEndpoint, WatchOrder, WatchResult
from slipway.probes.watch import sights_in

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster
    from slipway.cluster.objects import Object
    from slipway.manifests.plan import Plan
    from slipway.releases.records import Release

PODS_AT_ONCE = 8
BUSY_SECONDS = 10.0
"""A pod that has run for longer waits for endpoints that are slow, and keeps no other pod from starting."""
ALL_SECONDS = 270.0
"""For all pods together: what is not known then is asked by the next run, five minutes after this one began."""
ENDPOINT_SECONDS = 30.0
"""How long an endpoint that does not answer is asked again, and how long it may take for one answer."""
LONGEST_ENDPOINT_SECONDS = 60.0
"""For all its answers together. So a pod of which everything hangs ends after little more than this."""
LARGEST_ORDER = 96 * 1024
"""Bytes of the endpoints in one order: the kernel takes 128 KiB as one string of an environment (execve(2))."""
MOST_IN_A_POD = 250
"""What was seen has to fit into the 256 KiB that are read of a log."""


@dataclass
class Seen:
    """What was seen of an endpoint.

    Attributes:
        plan: of its release.
        values: what the history keeps of it.
        not_made: why there was no probe.
    """

    release: Release
    plan: Plan
    values: dict[str, Any] = field(default_factory=dict)
    not_made: str = ""

    @property
    def is_known(self) -> bool:
        """Whether nothing more will be known of it."""
        return bool(self.values or self.not_made)


def look_at(
    cluster: Cluster,
    releases: Sequence[Release],
    *,
    run: str,
    listed: Cluster | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Generator[list[Seen], None, None]:
    """Probe endpoints of a cluster from pods in their namespaces; yields some of them as soon as they are known.

    A pod stays in the namespace of what it asks, because a pod can be given only Secrets of its own namespace, and
    network policies let it in. Whoever stops asking for more leaves no pod behind.

    Args:
        cluster: where they all are.
        releases: their good releases.
        run: names the pods: a step that is tried again finds those of the attempt before.
        listed: where their workloads are looked up; the cluster itself when None.
        meanwhile: done once, when the first pods are on their way.
    """
    all_seen = [Seen(release=release, plan=plan_of(release)) for release in releases]
    for seen in all_seen:
        _look_at_workload(listed or cluster, seen)
    to_ask = [seen for seen in all_seen if not seen.is_known]
    tools = todays_tools(to_ask[0].release) if to_ask else {}
    waiting, running = [_Batch(some, run=run, tools=tools) for some in _together(to_ask)], list[_Batch]()
    deadline, first = time.monotonic() + ALL_SECONDS, [seen for seen in all_seen if seen.is_known]
    del all_seen, to_ask  # what was yielded is kept for nobody
    try:
        _fill(running, waiting, cluster, deadline=deadline)
        meanwhile()
        if first:
            yield first
        while running:
            for batch in [one for one in running if one.is_done(cluster, deadline=deadline)]:
                running.remove(batch)
                yield batch.seen
            _fill(running, waiting, cluster, deadline=deadline)
            time.sleep(0.5 if running else 0)
    finally:
        for batch in running:
            batch.give_up(cluster)


def _fill(running: list[_Batch], waiting: list[_Batch], cluster: Cluster, *, deadline: float) -> None:
    busy = sum(batch.is_busy for batch in running)
    for batch in waiting[: max(0, PODS_AT_ONCE - busy)]:
        waiting.remove(batch)
        running.append(batch)
        batch.start(cluster, deadline=deadline)


class _Batch:
    """Some endpoints of one namespace, and the pod that asks them."""

    def __init__(self, seen: Sequence[Seen], *, run: str, tools: dict[str, str]) -> None:
        self.seen, self._runs_since = list(seen), math.inf
        first = self.seen[0]
        self.plan = first.plan.model_copy(update=tools)
        identity = f"{run} {first.release.endpoint}"
        self.name = f"slipway-watch-{hashlib.sha256(identity.encode()).hexdigest()[:12]}"

    @property
    def is_busy(self) -> bool:
        """Whether its pod has yet to start, or has just begun."""
        return time.monotonic() - self._runs_since < BUSY_SECONDS

    def start(self, cluster: Cluster, *, deadline: float) -> None:
        """Make the pod; where that fails, or no time is left for it, nothing of these endpoints is known."""
        if time.monotonic() > deadline:
            self._not_made(f"the pods before it took all of the {ALL_SECONDS:.0f} s that there are")
            return
        order = WatchOrder(endpoints=[_watched(seen.plan) for seen in self.seen])
        keys = {(key.secret, key.key) for seen in self.seen if (key := seen.plan.api_key)}
        step = StepPod(
            name="watch",
            module="slipway.probes.watch",
            order=order.model_dump_json(exclude_defaults=True),
            image=self.plan.tools_image,
            memory=f"{96 + len(self.seen) // 2}Mi",
            api_keys=[{"secret": secret, "key": key} for secret, key in sorted(keys)],
            labels=shared_labels("watch"),
        )
        try:
            start_pod(cluster, self.plan, step=step, name=self.name, seconds=int(ALL_SECONDS) + 30)
        except SlipwayError as error:
            self._not_made(str(error))

    def is_done(self, cluster: Cluster, *, deadline: float) -> bool:
        """Take what the pod saw, if it has ended, or what it saw so far, when the time is over."""
        if all(seen.not_made for seen in self.seen):
            return True
        try:
            pod = cluster.get(api_version="v1", kind="Pod", name=self.name, namespace=self.plan.namespace)
            if pod and pod.get("status", {}).get("phase") not in (None, "Pending"):
                self._runs_since = min(self._runs_since, time.monotonic())
            if not has_ended(pod) and time.monotonic() < deadline:
                return False
            self._take(cluster, pod)
            delete_probe(cluster, self.plan, name=self.name)
        except SlipwayError as error:
            self._not_made(str(error))
        return True

    def give_up(self, cluster: Cluster) -> None:
        """Delete the pod, if that can be done."""
        with suppress(SlipwayError):
            delete_probe(cluster, self.plan, name=self.name)

    def _take(self, cluster: Cluster, pod: Object | None) -> None:
        log = (
            ""
            if pod is None
            else cluster.logs(namespace=self.plan.namespace, pod=self.name, tail=MOST_IN_A_POD + 50)
        )
        sights = {sight.endpoint: sight for sight in sights_in(log.splitlines())}
        for seen in self.seen:
            if sight := sights.get(seen.release.endpoint):
                seen.values = _values(sight)
        self._not_made(_why_missing(pod))

    def _not_made(self, why: str) -> None:
        for seen in self.seen:
            if not seen.values:
                seen.not_made = seen.not_made or why


def _look_at_workload(cluster: Cluster, seen: Seen) -> None:
    """Fill in what is known without asking: the workload is gone, or scaled to 0."""
    plan = seen.plan
    try:
        live = find_workload(cluster, **workload_of(plan, release=seen.release.label))
    except SlipwayError as error:
        seen.not_made = str(error)
        return
    if live is None:
        what = f"{plan.controller} {plan.namespace}/{plan.controller_name}"
        seen.values = {"state": "failing", "reason": f"{what} is gone: somebody deleted it"}
    elif live["spec"].get("replicas") == 0:
        seen.values = {"state": "stopped", "reason": "scaled to 0"}


def _together(all_seen: Iterable[Seen]) -> Iterator[list[Seen]]:
    """Cut endpoints into what one pod is ordered to ask."""
    by_namespace = sorted(all_seen, key=lambda seen: (seen.plan.namespace, seen.release.endpoint))
    for _, group in groupby(by_namespace, key=lambda seen: seen.plan.namespace):
        some, size = list[Seen](), 0
        for seen in group:
            own = len(_watched(seen.plan).model_dump_json(exclude_defaults=True).encode()) + 1
            if some and (size + own > LARGEST_ORDER or len(some) == MOST_IN_A_POD):
                yield some
                some, size = [], 0
            some.append(seen)
            size += own
        yield some


def _watched(plan: Plan) -> WatchedEndpoint:
    key = plan.api_key
    order = ProbeOrder.model_validate(
        {
            **probe_order(plan, release=None),
            "deadline_seconds": ENDPOINT_SECONDS,
            "longest_seconds": LONGEST_ENDPOINT_SECONDS,
            "request_seconds": ENDPOINT_SECONDS,
            "api_key_file": f"/api-keys/{key.secret}/{key.key}" if key else None,
        }
    )
    return WatchedEndpoint(endpoint=plan.endpoint, probe=order)


def _values(sight: Sight) -> dict[str, Any]:
    if sight.state == "failing":
        return {"state": "failing", "reason": sight.reason}
    return {"state": "serving", "seconds": sight.seconds, "ttft_seconds": sight.ttft_seconds}


def _why_missing(pod: Object | None) -> str:
    """Why a pod said nothing of an endpoint that it should have asked."""
    if pod is None:
        return "the probe's pod is gone"
    if not has_ended(pod):
        return f"the probe's pod did not end in time: {why_no_result(pod)}"
    try:
        parse_result(termination(pod).get("message") or "", WatchResult)
    except SlipwayError as error:
        return f"{error}; {why_no_result(pod)}"
    return "the probe's pod ended without a word about it"
