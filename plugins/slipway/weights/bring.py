"""Bring a model from the first of its sources that can deliver it: what a download pod runs.

A source that fails is recorded with its reason and the next one is tried; what is wrong with the destination fails at
once, since no other source would mend it. Weights that are there, verified and untouched count even when no source
can be asked about them: an endpoint must come up again while a hub is down.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from slipway.errors import SlipwayError, WeightsError, bounded
from slipway.weights.fetch import fetch, print_line
from slipway.weights.orders import FetchOrder, FetchResult
from slipway.weights.ready import Ready, is_intact, read_ready
from slipway.weights.sources import most_streams
from slipway.weights.sources.in_place import verify_in_place


def bring(order: FetchOrder, *, say: Callable[[str], None] = print_line) -> FetchResult:
    """Fetch from the sources of an order, one after the other, until one has delivered.

    Raises:
        WeightsError: all sources failed, each with its reason; or the destination cannot be used.
        UsageError: the only source cannot be understood.
    """
    ready = _verified_before(order) if order.verify == "marker" else None
    failures: list[str] = []
    for source in _ordered(order.sources, ready=ready):
        streams = min(order.streams, most_streams(source))
        single = order.model_copy(update={"source": source, "fallbacks": [], "streams": streams})
        try:
            found = verify_in_place(single, say=say) or fetch(single, say=say)
        except SlipwayError as error:
            if _is_about_destination(error, order) or (ready is None and len(order.sources) == 1):
                raise
            failures.append(bounded(f"{source}: {error}", limit=300))
            say(f"this source failed: {error}")
            continue
        marker = read_ready(Path(order.destination))
        return found.model_copy(
            update={
                "source": marker.source if marker else found.source,
                "requested": source,
                "failed_sources": failures,
            }
        )
    if ready is not None:
        say(f"no source can be asked; {order.destination} is as it was verified at {ready.written}")
        return _result_of(order, ready=ready, failures=failures)
    raise WeightsError(
        f"none of the {len(order.sources)} sources delivered the model",
        about=order.destination,
        why=" | ".join(failures),
        remedy="mend one of them; what arrived already is kept",
    )


def _verified_before(order: FetchOrder) -> Ready | None:
    """The destination's marker, if its files are as they were verified."""
    destination = Path(order.destination)
    ready = read_ready(destination)
    return ready if ready and is_intact(destination, ready=ready) else None


def _ordered(sources: list[str], *, ready: Ready | None) -> list[str]:
    """Ask the source first that delivered before: another one may list other files beside the same weights."""
    if ready is None:
        return sources
    return sorted(sources, key=lambda source: _place(source) != _place(ready.source))


def _place(source: str) -> tuple[str, str, str]:
    parts = urlsplit(source)
    return parts.scheme, parts.netloc, parts.path.rstrip("/")


def _is_about_destination(error: SlipwayError, order: FetchOrder) -> bool:
    """Errors name what they are about: the volume, a claim on it and the files in it begin with its path."""
    return error.about.startswith(str(Path(order.destination).parent))


def _result_of(order: FetchOrder, *, ready: Ready, failures: list[str]) -> FetchResult:
    return FetchResult(
        destination=order.destination,
        source=ready.source,
        requested=ready.source,
        manifest_digest=ready.manifest_digest,
        files=len(ready.files),
        bytes_total=ready.bytes_total,
        bytes_fetched=0,
        bytes_reused=ready.bytes_total,
        seconds=0,
        verified=ready.verified,
        warnings=[*ready.warnings, "no source could be asked whether it has changed"],
        failed_sources=failures,
    )
