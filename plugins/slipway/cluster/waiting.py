"""The waiting itself, as a generator that does nothing itself.

It yields what to do (read, pause, report) and is told the outcome, so that the same steps run under asyncio, in a
thread and in a test. Who reads is the driver's: a thread asks the server anew each second or two; the triggerer keeps
what its watches tell (`shared.py`). Either way an API server's restart, an expired resourceVersion (410) or a lost
connection is nothing but a read without an answer.

What a watch has told may be a moment old: the workload of before still stands there after an apply. So it only ever
says when to look; every end of a wait is judged once more by what the server itself answers.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field

from slipway.cluster.causes import likely_cause
from slipway.cluster.faults import ApiError, UnreachableError
from slipway.cluster.logs import log_request, log_text
from slipway.cluster.objects import Object, workload_api
from slipway.cluster.pods import claim_names
from slipway.cluster.reading import Collection, Found, Key, Read
from slipway.cluster.redact import redact
from slipway.cluster.shapes import pod_makers, pod_names, wanted_pods
from slipway.cluster.transport import Answer, Request
from slipway.cluster.verdict import Doom, Limits, Verdict, condition, doomed, progressing
from slipway.cluster.workload import judge
from slipway.errors import ClusterError

_QUICK_SECONDS = 30.0
_QUICK_PAUSE = 1.0
_PAUSE = 2.0
_ABSENT_SECONDS = 10.0
_SILENT_SECONDS = 180.0
_REFUSED_SECONDS = 15.0
_MOST_PODS = 8
_LOG_LINES = 40
_LOG_BYTES = 4096


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Report:
    """Tell whoever waits what is happening; yielded only when it is something new."""

    what: str


Step = Request | Read | Pause | Report
Outcome = Answer | Found | None
Waiting = Generator[Step, Outcome, Verdict]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is waited for.

    Attributes:
        kind: StatefulSet, Deployment or LeaderWorkerSet.
        namespace: of the workload.
        name: of the workload.
        release: the value of the release label that it must come up with.
        endpoint: the value of the endpoint label of its pods.
        limits: patience with what often mends itself.
    """

    kind: str
    namespace: str
    name: str
    release: str
    endpoint: str
    limits: Limits = field(default_factory=Limits)

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def waiting(target: Target, *, deadline_seconds: float) -> Waiting:
    """Wait until the workload is available or doomed; ClusterErrors of a read are thrown into it."""
    started = time.monotonic()
    looks = _Looks(target=target, last_answer=started)
    told = ""
    while True:
        verdict = yield from looks.look(fresh=False)
        if verdict.state != "progressing" and not looks.fresh:
            verdict = yield from looks.look(fresh=True)
        if verdict.doom:
            return (yield from _with_log(verdict.doom, target.namespace))
        if verdict.what != told:
            told = verdict.what
            yield Report(told)
        if verdict.state == "available":
            return verdict
        waited = time.monotonic() - started
        if waited > deadline_seconds:
            return doomed(_too_late(target, deadline_seconds, looks.last_seen or told))
        yield Pause(_QUICK_PAUSE if waited < _QUICK_SECONDS else _PAUSE)


@dataclass(kw_only=True)
class _Looks:
    """One look after the other, and how long the server or the workload has been away."""

    target: Target
    last_answer: float
    absent_since: float | None = None
    last_seen: str = ""
    fresh: bool = False

    def look(self, *, fresh: bool) -> Waiting:
        """Judge the workload now; a fault of the server that may pass is a state of waiting."""
        try:
            verdict, self.fresh = yield from _observe(self.target, fresh=fresh)
        except (ApiError, UnreachableError) as error:
            # Also Unauthorized and Forbidden: a server that has just started answers so for some seconds.
            patience = _SILENT_SECONDS if error.is_transient else _REFUSED_SECONDS
            if time.monotonic() - self.last_answer > patience:
                raise
            return progressing(f"waiting for the API server: {error.why}")
        self.last_answer = time.monotonic()
        if verdict is None:
            self.absent_since = self.absent_since or self.last_answer
            if self.last_answer - self.absent_since > _ABSENT_SECONDS:
                return doomed(_gone(self.target))
            return progressing(f"{self.target} isn't there yet")
        self.absent_since, self.last_seen = None, verdict.what
        return verdict


def _observe(target: Target, *, fresh: bool) -> Generator[Step, Outcome, tuple[Verdict | None, bool]]:
    """Read what the judgement needs, and judge; None when there is no such workload.

    Returns:
        The verdict, and whether the server itself answered.
    """
    api_version, plural = workload_api(target.kind)

    def read(plural: str, key: Key, *, version: str = "v1") -> Generator[Step, Outcome, Found]:
        found = yield Read(collection=Collection(version, plural, target.namespace), key=key, fresh=fresh)
        if not isinstance(found, Found):
            raise TypeError("a driver must answer a read")
        return found

    seen = yield from read(plural, Key("name", target.name), version=api_version)
    if not seen.objects:
        return None, seen.fresh
    workload: Object = {**seen.objects[0], "apiVersion": api_version, "kind": target.kind}
    pods = (yield from read("pods", Key("endpoint", target.endpoint))).objects
    unready = [pod for pod in pods if condition(pod, "Ready").get("status") != "True"][:_MOST_PODS]
    claims: list[Object] = []
    if any(condition(pod, "PodScheduled").get("status") != "True" for pod in unready):
        for claim in dict.fromkeys(claim for pod in unready for claim in claim_names(pod)):
            claims += (yield from read("persistentvolumeclaims", Key("name", claim))).objects
    events: list[Object] = []
    # Nothing is to be explained when all is Ready: most looks of a long wait for a controller end here.
    if unready or len(pods) < wanted_pods(workload):
        for name in _explaining(workload, pods, [*unready, *claims]):
            events += (yield from read("events", Key("about", name))).objects
    verdict = judge(
        workload, pods, events, claims, release=target.release, now=seen.now, limits=target.limits
    )
    return verdict, seen.fresh


def _explaining(workload: Object, pods: list[Object], objects: list[Object]) -> list[str]:
    """Return the names of the objects whose events may say why something does not start."""
    names = [*pod_makers(workload), *(obj["metadata"]["name"] for obj in objects)]
    if not pods:
        names += pod_names(workload)[:1]  # a pod that is gone again, evicted or never made
    return list(dict.fromkeys(names))


def _with_log(doom: Doom, namespace: str) -> Waiting:
    """Add the end of the failed container's log, and the likely cause if the log shows a known one.

    A log that cannot be read (gone, no permission) takes nothing from the reason that is known already.
    """
    if not doom.pod:
        return doomed(doom)
    log = ""
    for previous in (doom.previous, not doom.previous):
        request = log_request(
            namespace, doom.pod, container=doom.container, previous=previous, tail=_LOG_LINES
        )
        try:
            answer = yield request
        except ClusterError:
            continue
        if not isinstance(answer, Answer):
            raise TypeError("a driver must answer a request")
        log = redact(log_text(answer))[-_LOG_BYTES:].strip()
        if log:
            break
    cause = likely_cause(log)
    if cause:
        # Whoever was killed has another remedy than what its log says last.
        remedy = cause.remedy if doom.reason in ("CrashLoopBackOff", "Crashed") else ""
        why = f"{doom.why}. {cause.text}" if doom.why else cause.text
        doom = doom.model_copy(update={"why": why, "remedy": remedy or doom.remedy})
    return doomed(doom, log=log)


def _gone(target: Target) -> Doom:
    return Doom(
        reason="NotFound",
        about=str(target),
        why="there is no such workload: it was not applied, or somebody deleted it",
        remedy="Deploy the endpoint again",
    )


def _too_late(target: Target, deadline_seconds: float, last: str) -> Doom:
    look = f"kubectl -n {target.namespace} describe {target.kind.lower()} {target.name}"
    return Doom(
        reason="DeadlineExceeded",
        about=str(target),
        why=f"not available after {deadline_seconds:.0f} s; last seen: {last}",
        remedy=f"Give it more time if it still loads: {look}",
    )
