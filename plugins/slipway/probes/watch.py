"""``python -m slipway.probes.watch``: the probes of many endpoints in one pod.

Each is the same probe that a deployment passes, in a thread of its own out of a bounded number: what takes time is
waiting for the endpoints. What was seen of an endpoint is a line of the pod's log, because a termination message has
no room for a thousand; so it also outlives a pod that is ended in the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed

from pydantic import ValidationError

from slipway.errors import ProbeError
from slipway.pods import run_order
from slipway.probes.orders import Sight, WatchedEndpoint, WatchOrder, WatchResult
from slipway.probes.probe import probe

_SIGHT = "sight: "


def watch(order: WatchOrder, *, say: Callable[[str], None] | None = None) -> WatchResult:
    """Probe every endpoint of the order and say what was seen, one line for each, as it is known."""
    say = say or _print
    failing = 0
    with ThreadPoolExecutor(max_workers=order.at_once, thread_name_prefix="probe") as pool:
        for done in as_completed([pool.submit(_look, watched) for watched in order.endpoints]):
            sight = done.result()
            failing += sight.state == "failing"
            say(_SIGHT + sight.model_dump_json(exclude_defaults=True))
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


def _look(watched: WatchedEndpoint) -> Sight:
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
