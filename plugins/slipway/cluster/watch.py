"""Waiting for a workload, for an Airflow trigger (asyncio) and for a terminal: two drivers of the same steps.

A trigger shares the watches of its namespace with all others of its process; a terminal asks each second or two.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from slipway.cluster.client import Cluster
from slipway.cluster.objects import RELEASE_LABEL, Object, labels_of
from slipway.cluster.reading import Collection, Key, Read, found_in
from slipway.cluster.shared import Seat
from slipway.cluster.verdict import Limits, Verdict
from slipway.cluster.waiting import Outcome, Pause, Report, Target, Waiting, waiting
from slipway.errors import ClusterError

_FOR_ONE_LOOK = 60.0
Progress = Callable[[str], Awaitable[None] | None]


async def wait_for_workload(
    seat: Seat, target: Target, *, deadline_seconds: float, on_progress: Progress | None = None
) -> Verdict:
    """Wait until a workload is available, or until it is known why it never will be.

    Args:
        seat: a place among those who wait for something in the workload's namespace (``shared.seat``).
        target: what is waited for.
        deadline_seconds: when to give up. Then the verdict is doomed with reason DeadlineExceeded.
        on_progress: told one line whenever something changes.

    Returns:
        A verdict that is available or doomed, never progressing.

    Raises:
        ClusterError: the cluster refuses the question (no permission), or gave no answer for three minutes.
    """
    steps = waiting(target, deadline_seconds=deadline_seconds)
    answer: Outcome = None
    error: ClusterError | None = None
    while True:
        try:
            step = steps.throw(error) if error else steps.send(answer)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        answer, error = None, None
        if isinstance(step, Pause):
            await seat.pause()
        elif isinstance(step, Report):
            told = on_progress(step.what) if on_progress else None
            if inspect.isawaitable(told):
                await told
        else:
            try:
                answer = await (seat.read(step) if isinstance(step, Read) else seat.ask(step))
            except ClusterError as failed:
                error = failed


def wait_for_workload_sync(
    cluster: Cluster,
    *,
    kind: str,
    namespace: str,
    name: str,
    release: str,
    endpoint: str,
    deadline_seconds: float,
    on_progress: Callable[[str], None] | None = None,
    limits: Limits | None = None,
) -> Verdict:
    """Wait as ``wait_for_workload`` does, in this thread; the target's fields one by one."""
    target = Target(
        kind=kind,
        namespace=namespace,
        name=name,
        release=release,
        endpoint=endpoint,
        limits=limits or Limits(),
    )
    verdict = _drive(
        cluster,
        waiting(target, deadline_seconds=deadline_seconds),
        on_progress=on_progress,
        pause=_sleep,
    )
    assert verdict is not None  # it pauses for as long as it takes
    return verdict


def is_available(cluster: Cluster, target: Target) -> bool:
    """Look once whether a workload is available, as ``wait_for_workload`` means it; if not, it is to be waited for."""
    steps = waiting(target, deadline_seconds=_FOR_ONE_LOOK)
    verdict = _drive(cluster, steps, on_progress=None, pause=lambda seconds: False)
    return verdict is not None and verdict.state == "available"


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return True


def _drive(
    cluster: Cluster,
    steps: Waiting,
    *,
    on_progress: Callable[[str], None] | None,
    pause: Callable[[float], bool],
) -> Verdict | None:
    """Take the steps in this thread; None when ``pause`` will not."""
    answer: Outcome = None
    error: ClusterError | None = None
    while True:
        try:
            step = steps.throw(error) if error else steps.send(answer)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        answer, error = None, None
        if isinstance(step, Pause):
            if not pause(step.seconds):
                return None
        elif isinstance(step, Report):
            if on_progress:
                on_progress(step.what)
        else:
            try:
                answer = (
                    found_in(cluster.send(step.request())) if isinstance(step, Read) else cluster.send(step)
                )
            except ClusterError as failed:
                error = failed


async def wait_for_end(
    seat: Seat, *, namespace: str, name: str, seconds: float, say: Callable[[str], None]
) -> None:
    """Wait until a pod of an endpoint has ended or is gone, or the time is over.

    Args:
        seat: in its namespace.
        namespace: of the pod.
        name: of the pod.
        seconds: for how long.
        say: told when the server could not be asked; it is asked again.
    """

    def over(pods: list[Object]) -> bool:
        return all(pod.get("status", {}).get("phase") in ("Succeeded", "Failed") for pod in pods)

    await _until(seat, _pods(namespace, Key("name", name)), over, seconds=seconds, say=say)


async def wait_until_gone(
    seat: Seat,
    *,
    namespace: str,
    endpoint: str,
    but_release: str | None,
    seconds: float,
    say: Callable[[str], None],
) -> list[str]:
    """Wait until no serving pod of an endpoint is left.

    Args:
        seat: in its namespace.
        namespace: of the endpoint.
        endpoint: its object name.
        but_release: pods of the release with this label stay.
        seconds: for how long.
        say: told when the server could not be asked; it is asked again.

    Returns:
        The names of those that are left.
    """

    def left(pods: list[Object]) -> list[str]:
        releases = {pod["metadata"]["name"]: labels_of(pod).get(RELEASE_LABEL) for pod in pods}
        return [name for name, release in releases.items() if release not in (None, but_release)]

    read = _pods(namespace, Key("endpoint", endpoint))
    pods = await _until(seat, read, lambda pods: not left(pods), seconds=seconds, say=say)
    return ["unknown"] if pods is None else left(pods)


def _pods(namespace: str, key: Key) -> Read:
    return Read(collection=Collection("v1", "pods", namespace), key=key, fresh=False)


async def _until(
    seat: Seat,
    read: Read,
    is_so: Callable[[list[Object]], bool],
    *,
    seconds: float,
    say: Callable[[str], None],
) -> list[Object] | None:
    """Look until something is so, by the server itself; return what was seen last, None if nothing ever was."""
    deadline, seen = time.monotonic() + seconds, None
    while True:
        try:
            seen = (await seat.read(read)).objects
            if is_so(seen):
                seen = (await seat.read(replace(read, fresh=True))).objects
                if is_so(seen):
                    return seen
        except ClusterError as error:
            say(f"asking again: {error.why}")
        if time.monotonic() > deadline:
            return seen
        await seat.pause()
