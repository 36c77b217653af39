"""``python -m slipway.probes.watch``: the probes of many endpoints in one pod.

Each is the same probe that a deployment passes, in a thread of its own: what takes time is waiting for the endpoints.
Few begin side by side, because work for the processor counts as the endpoints' latency; one that is slow to answer
is no such work and keeps no other from beginning, so that hundreds that hang take no longer than one. What was seen of
an endpoint is a line of the pod's log, because a termination message has no room for a thousand; so it also outlives a
pod that is ended in the middle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from threading import Thread

from pydantic import ValidationError

from slipway.errors import ProbeError
from slipway.pods import run_order
from slipway.probes.orders import Sight, WatchedEndpoint, WatchOrder, WatchResult
from slipway.probes.probe import probe

_SIGHT = "sight: "
QUICK_SECONDS = 0.5
"""A probe that has run for longer is waiting for its endpoint."""


def watch(order: WatchOrder, *, say: Callable[[str], None] | None = None) -> WatchResult:
    """Probe every endpoint of the order and say what was seen, one line for each, as it is known.

    A fault of our own in one probe hides no other: it is raised when all others have been said.
    """
    say, failing, faults = say or _print, 0, list[Exception]()
    waiting, began = list(reversed(order.endpoints)), dict[str, float]()
    seen = SimpleQueue[tuple[str, Sight | Exception]]()
    while waiting or began:
        quick = sum(time.monotonic() - at < QUICK_SECONDS for at in began.values())
        for _ in range(min(order.at_once - quick, len(waiting))):
            watched = waiting.pop()
            began[watched.endpoint] = time.monotonic()
            Thread(target=_look, args=(watched, seen), name="probe", daemon=True).start()
        try:
            endpoint, sight = seen.get(timeout=QUICK_SECONDS / 5)
        except Empty:
            continue
        del began[endpoint]
        if isinstance(sight, Exception):
            faults.append(sight)
            continue
        failing += sight.state == "failing"
        say(_SIGHT + sight.model_dump_json(exclude_defaults=True))
    for fault in faults:
        raise fault
    return WatchResult(probed=len(order.endpoints), failing=failing)


def sights_in(lines: Iterable[str]) -> Iterator[Sight]:
    """Read what was seen out of a pod's log; a line that was cut off is left out."""
    for line in lines:
        _, found, record = line.partition(_SIGHT)
        if found:
            try:
                yield Sight.model_validate_json(record)
            except ValidationError:
                continue


def _look(watched: WatchedEndpoint, seen: SimpleQueue[tuple[str, Sight | Exception]]) -> None:
    try:
        seen.put((watched.endpoint, _sight(watched)))
    except Exception as fault:
        seen.put((watched.endpoint, fault))


def _sight(watched: WatchedEndpoint) -> Sight:
    try:
        result = probe(watched.probe, say=lambda line: None)
    except ProbeError as error:
        return Sight(endpoint=watched.endpoint, state="failing", reason=str(error))
    seconds = round(sum(step.seconds for step in result.steps), 4)
    return Sight(
        endpoint=watched.endpoint, state="serving", seconds=seconds, ttft_seconds=result.ttft_seconds
    )


def _print(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    run_order(WatchOrder, watch)
