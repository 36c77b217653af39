"""A namespace's events, which are the only place where Kubernetes says why something does not happen.

Events are not a log: equal ones are counted into one, they are dropped after an hour, and those of an
object's earlier incarnation carry its name. So each is read with its time and its uid.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from slipway.cluster.objects import Object
from slipway.cluster.verdict import moment

_NEVER = datetime.fromtimestamp(0, tz=UTC)


def event_time(event: Object) -> datetime:
    """Return when an event was seen last."""
    series = event.get("series") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("metadata", {}).get("creationTimestamp"),
    )
    return max((moment(text) or _NEVER for text in times), default=_NEVER)


def first_time(event: Object) -> datetime:
    """Return when an event was seen first."""
    for text in (event.get("firstTimestamp"), event.get("eventTime")):
        found = moment(text)
        if found:
            return found
    return event_time(event)


def events_of(
    events: Iterable[Object],
    obj: Object,
    *,
    reasons: Iterable[str] = (),
    since: datetime | None = None,
    any_incarnation: bool = False,
) -> list[Object]:
    """Return an object's events, the newest first.

    Args:
        events: all that were read.
        obj: the object.
        reasons: only these; all when empty.
        since: only those seen at that time or later.
        any_incarnation: also those of earlier objects of this name (a pod that a StatefulSet made anew).
    """
    wanted = set(reasons)
    metadata = obj["metadata"]
    found = [
        event
        for event in events
        if _is_about(event.get("involvedObject") or {}, metadata, any_incarnation=any_incarnation)
        and (not wanted or event.get("reason") in wanted)
        and (since is None or event_time(event) >= since)
    ]
    return sorted(found, key=event_time, reverse=True)


def _is_about(involved: Object, metadata: Object, *, any_incarnation: bool) -> bool:
    if involved.get("name") != metadata["name"]:
        return False
    uids = (involved.get("uid"), metadata.get("uid"))
    return any_incarnation or not all(uids) or uids[0] == uids[1]
