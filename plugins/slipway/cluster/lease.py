"""One Lease per endpoint: who may change it now, under which fencing number, and who waits for it.

All times are the API server's own (the Date of its answers), so holders and waiters on machines with
different clocks agree. All writes carry the resourceVersion that was read, so of two writers one wins and the
other looks again. A lock of this kind cannot stop a holder that sleeps past its lease and wakes up: a
``fencing.FencedCluster`` asks before each write whether the lock is still held under its fencing number, and the moment
between that question and the write stays open.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError
from slipway.cluster.objects import MANAGED_BY_LABEL, MANAGER, Object, Ref
from slipway.cluster.transport import Request
from slipway.errors import LockError

WAITER_SECONDS = 60
"""A waiter that did not ask for this long counts as gone; ask several times within it."""
MOST_WAITERS = 200
QUEUE_ANNOTATION = "slipway.io/queue"
_TRIES = 10
_API_VERSION = "coordination.k8s.io/v1"


class Waiter(BaseModel):
    """One place in the queue; the order of the list is the order of arrival."""

    model_config = ConfigDict(frozen=True)

    holder: str
    since: datetime
    seen: datetime


class Holder(BaseModel):
    """Who holds an endpoint's lock.

    Attributes:
        live: whether the lease has not run out; only a live holder keeps others away.
    """

    model_config = ConfigDict(frozen=True)

    holder: str
    fencing: int
    renewed: datetime
    expires: datetime
    live: bool


_QUEUE = TypeAdapter(list[Waiter])


@dataclass(frozen=True)
class _Read:
    """A Lease as it was read, with the server's time of the reading."""

    lease: Object | None
    now: datetime


def lease_name(endpoint_object: str) -> str:
    """Return the name of an endpoint's Lease; ``endpoint_object`` is its object name."""
    return f"slipway-{endpoint_object}"


def acquire(
    cluster: Cluster, *, namespace: str, endpoint_object: str, holder: str, seconds: int
) -> int | None:
    """Take the lock, or take a place in the queue for it.

    Args:
        cluster: where the endpoint lives.
        namespace: its namespace.
        endpoint_object: its object name.
        holder: who asks: one run, the same name in all its tasks and tries.
        seconds: for how long the lock lives without ``renew``.

    Returns:
        The fencing number, larger than every earlier one. The holder itself gets its own number again (a task
        that is tried again). None while somebody else holds it or came first: ask again within
        WAITER_SECONDS.

    Raises:
        LockError: too many wait, or writers kept each other from an answer.
        ClusterError: the cluster could not be asked, or refuses.
    """
    for _ in range(_TRIES):
        read = _read(cluster, namespace, endpoint_object)
        try:
            if read.lease is None:
                cluster.create(_new_lease(namespace, endpoint_object, holder, seconds, read.now))
                return 1
            return _take_or_wait(cluster, read.lease, holder, seconds, read.now)
        except ApiError as error:
            if not _came_between(error, read):
                raise
    raise _too_busy(namespace, endpoint_object)


def take_over(
    cluster: Cluster, *, namespace: str, endpoint_object: str, dead: str, holder: str, seconds: int
) -> int | None:
    """Take the lock from a holder that is known to be gone, before its time is over and before those who wait.

    What it left unfinished comes first: the next in the queue would else find an endpoint in pieces.

    Args:
        cluster: where the endpoint lives.
        namespace: its namespace.
        endpoint_object: its object name.
        dead: the holder that is gone.
        holder: who takes it.
        seconds: for how long.

    Returns:
        The fencing number; None when another holder than these two has it: that one goes on from here.

    Raises:
        LockError: writers kept each other from an answer.
    """
    for _ in range(_TRIES):
        read = _read(cluster, namespace, endpoint_object)
        try:
            if read.lease is None:
                cluster.create(_new_lease(namespace, endpoint_object, holder, seconds, read.now))
                return 1
            spec = read.lease["spec"]
            known = spec.get("holderIdentity") or ""
            if known not in ("", dead, holder) and _expiry(spec) > read.now:
                return None
            fencing = int(spec.get("leaseTransitions") or 0) + (known != holder)
            changes = {
                "holderIdentity": holder,
                "leaseDurationSeconds": seconds,
                "acquireTime": _stamp(read.now),
                "renewTime": _stamp(read.now),
                "leaseTransitions": fencing,
            }
            others = [w for w in _live(_queue(read.lease), read.now) if w.holder not in (dead, holder)]
            _write(cluster, read.lease, changes, queue=others)
            return fencing
        except ApiError as error:
            if not _came_between(error, read):
                raise
    raise _too_busy(namespace, endpoint_object)


def renew(
    cluster: Cluster,
    *,
    namespace: str,
    endpoint_object: str,
    holder: str,
    fencing: int,
    seconds: int,
    anew: bool = False,
) -> int:
    """Lengthen the lock; also one that ran out, as long as nobody took it.

    Args:
        cluster: where the endpoint lives.
        namespace: its namespace.
        endpoint_object: its object name.
        holder: whose it is.
        fencing: the number under which it was taken.
        seconds: for how long from now.
        anew: under the next number. Whatever still works in the holder's name under this one, a step that Airflow
            believes to have ended, writes nothing more.

    Returns:
        The number from now on.

    Raises:
        LockError: it is somebody else's by now, or was released; nothing may be changed any more.
    """
    for _ in range(_TRIES):
        read = _read(cluster, namespace, endpoint_object)
        lease = _require_held(read.lease, namespace, endpoint_object, holder, fencing)
        try:
            changes = {"leaseDurationSeconds": seconds, "renewTime": _stamp(read.now)}
            _write(cluster, lease, {**changes, "leaseTransitions": fencing + anew})
            return fencing + anew
        except ApiError as error:
            if error.status != 409:
                raise
    raise _too_busy(namespace, endpoint_object)


def release(
    cluster: Cluster, *, namespace: str, endpoint_object: str, holder: str, fencing: int | None = None
) -> bool:
    """Give the lock back, or leave the queue. Safe to repeat.

    Args:
        cluster: where the endpoint lives.
        namespace: its namespace.
        endpoint_object: its object name.
        holder: who gives it back.
        fencing: give back only what was taken under this number.

    Returns:
        Whether the lock was this holder's.
    """
    for _ in range(_TRIES):
        read = _read(cluster, namespace, endpoint_object)
        if read.lease is None:
            return False
        spec = read.lease["spec"]
        mine = spec.get("holderIdentity") == holder and fencing in (None, spec.get("leaseTransitions"))
        queue = _queue(read.lease)
        others = [waiter for waiter in queue if waiter.holder != holder]
        if not mine and len(others) == len(queue):
            return False
        try:
            _write(cluster, read.lease, {"holderIdentity": ""} if mine else {}, queue=others)
            return mine
        except ApiError as error:
            if error.status != 409:
                raise
    raise _too_busy(namespace, endpoint_object)


def holder_of(cluster: Cluster, *, namespace: str, endpoint_object: str) -> Holder | None:
    """Return who holds the lock, live or run out, or None when it is free."""
    read = _read(cluster, namespace, endpoint_object)
    if read.lease is None or not read.lease["spec"].get("holderIdentity"):
        return None
    spec = read.lease["spec"]
    return Holder(
        holder=spec["holderIdentity"],
        fencing=spec.get("leaseTransitions", 0),
        renewed=_time(spec["renewTime"]),
        expires=_expiry(spec),
        live=_expiry(spec) > read.now,
    )


def still_held(cluster: Cluster, *, namespace: str, endpoint_object: str, holder: str, fencing: int) -> bool:
    """Return whether the lock is this holder's under this number and has not run out."""
    found = holder_of(cluster, namespace=namespace, endpoint_object=endpoint_object)
    return found is not None and found.live and (found.holder, found.fencing) == (holder, fencing)


def waiters_of(cluster: Cluster, *, namespace: str, endpoint_object: str) -> list[Waiter]:
    """Return the live waiters, first come first."""
    read = _read(cluster, namespace, endpoint_object)
    return [] if read.lease is None else _live(_queue(read.lease), read.now)


def _take_or_wait(cluster: Cluster, lease: Object, holder: str, seconds: int, now: datetime) -> int | None:
    spec = lease["spec"]
    transitions = int(spec.get("leaseTransitions") or 0)
    queue = _live(_queue(lease), now)
    taken = bool(spec.get("holderIdentity")) and _expiry(spec) > now
    first = next((waiter.holder for waiter in queue), holder)
    others = [waiter for waiter in queue if waiter.holder != holder]
    if spec.get("holderIdentity") == holder:
        _write(cluster, lease, {"leaseDurationSeconds": seconds, "renewTime": _stamp(now)}, queue=others)
        return transitions
    if taken or first != holder:
        _wait(cluster, lease, queue, holder, now)
        return None
    changes = {
        "holderIdentity": holder,
        "leaseDurationSeconds": seconds,
        "acquireTime": _stamp(now),
        "renewTime": _stamp(now),
        "leaseTransitions": transitions + 1,
    }
    _write(cluster, lease, changes, queue=others)
    return transitions + 1


def _wait(cluster: Cluster, lease: Object, queue: list[Waiter], holder: str, now: datetime) -> None:
    mine = next((waiter for waiter in queue if waiter.holder == holder), None)
    if mine is not None and now - mine.seen < timedelta(seconds=WAITER_SECONDS / 4):
        return  # seen a moment ago: no write for every question
    if mine is None and len(queue) >= MOST_WAITERS:
        raise LockError(
            "too many runs wait for the endpoint",
            about=f"Lease {lease['metadata']['namespace']}/{lease['metadata']['name']}",
            why=f"{len(queue)} are in its queue",
            remedy="Let them finish or stop them before more are started",
        )
    refreshed = [w.model_copy(update={"seen": now}) if w.holder == holder else w for w in queue]
    if mine is None:
        refreshed.append(Waiter(holder=holder, since=now, seen=now))
    _write(cluster, lease, {}, queue=refreshed)


def _new_lease(namespace: str, endpoint_object: str, holder: str, seconds: int, now: datetime) -> Object:
    return {
        "apiVersion": _API_VERSION,
        "kind": "Lease",
        "metadata": {
            "name": lease_name(endpoint_object),
            "namespace": namespace,
            # Without the endpoint label: a prune or a removal by label must never take the lock away.
            "labels": {MANAGED_BY_LABEL: MANAGER},
        },
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": seconds,
            "acquireTime": _stamp(now),
            "renewTime": _stamp(now),
            "leaseTransitions": 1,
        },
    }


def _read(cluster: Cluster, namespace: str, endpoint_object: str) -> _Read:
    ref = Ref(apiVersion=_API_VERSION, kind="Lease", namespace=namespace, name=lease_name(endpoint_object))
    answer = cluster.send(
        Request(
            method="GET",
            path=cluster.path_of(ref),
            what="read the endpoint's lock",
            about=str(ref),
            accept=frozenset({404}),
        )
    )
    return _Read(lease=None if answer.status == 404 else answer.json(), now=answer.date)


def _write(
    cluster: Cluster, lease: Object, changes: dict[str, Any], *, queue: list[Waiter] | None = None
) -> None:
    metadata = dict(lease["metadata"])
    if queue is not None:
        annotations = dict(metadata.get("annotations") or {})
        annotations[QUEUE_ANNOTATION] = _QUEUE.dump_json(queue).decode()
        metadata["annotations"] = annotations
    cluster.replace({**lease, "metadata": metadata, "spec": {**lease["spec"], **changes}})


def _require_held(
    lease: Object | None, namespace: str, endpoint_object: str, holder: str, fencing: int
) -> Object:
    spec = lease["spec"] if lease else {}
    if lease and (spec.get("holderIdentity"), spec.get("leaseTransitions")) == (holder, fencing):
        return lease
    now_held, number = spec.get("holderIdentity") or "nobody", spec.get("leaseTransitions", 0)
    raise lost_lock(now_held, number, fencing, namespace=namespace, endpoint_object=endpoint_object)


def lost_lock(held_by: str, number: int, fencing: int, *, namespace: str, endpoint_object: str) -> LockError:
    """The error of a run whose lock is somebody else's by now."""
    return LockError(
        "this run has lost the endpoint's lock",
        about=f"Lease {namespace}/{lease_name(endpoint_object)}",
        why=f"it was taken as number {fencing}; now {held_by} holds {number}",
        remedy="Nothing more is changed by this run; start it again if it is still wanted",
    )


def _came_between(error: ApiError, read: _Read) -> bool:
    """Whether somebody wrote or deleted in between, so that a second look helps; not where the namespace is missing."""
    return error.status == 409 or (error.status == 404 and read.lease is not None)


def _too_busy(namespace: str, endpoint_object: str) -> LockError:
    return LockError(
        "the endpoint's lock is too busy",
        about=f"Lease {namespace}/{lease_name(endpoint_object)}",
        why=f"other runs wrote to it in each of {_TRIES} tries",
        remedy="Try again",
    )


def _queue(lease: Object) -> list[Waiter]:
    """Read the queue; one that cannot be read (edited by hand) counts as empty, and waiters register again."""
    text = (lease["metadata"].get("annotations") or {}).get(QUEUE_ANNOTATION, "[]")
    try:
        return _QUEUE.validate_python(json.loads(text))
    except (ValueError, ValidationError):
        return []


def _live(queue: list[Waiter], now: datetime) -> list[Waiter]:
    return [waiter for waiter in queue if now - waiter.seen < timedelta(seconds=WAITER_SECONDS)]


def _expiry(spec: Object) -> datetime:
    return _time(spec["renewTime"]) + timedelta(seconds=spec.get("leaseDurationSeconds") or 0)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
