"""What people are told of an endpoint that changed, in one line each."""

from __future__ import annotations

from collections.abc import Mapping

from slipway.releases.records import DriftRecord, StateRecord


def line_of(change: StateRecord | DriftRecord) -> str:
    """Say a change of an endpoint's state, or what somebody changed about it."""
    where = f"{change.endpoint} in {change.cluster} (release {change.release_number})"
    since = f"since {change.since:%Y-%m-%d %H:%M} UTC"
    if isinstance(change, DriftRecord):
        if not change.differences:
            return f"{where} is as it was released again {since}"
        first, *more = change.differences
        others = f" (and {len(more)} more)" if more else ""
        return f"{where} is not as it was released: {line_of_difference(first)}{others}"
    if change.state == "failing":
        return f"{where} does not serve {since}: {change.reason}"
    return f"{where} serves again {since}"


def line_of_difference(one: Mapping[str, str]) -> str:
    """Say one difference: the object, the field, what it was and is, and who holds it now."""
    by = f" by {one['manager']}" if one["manager"] else ""
    when = f" at {one['at']}" if one["at"] else ""
    if one["what"] == "deleted":
        return f"{one['object']} {'is being deleted' + when if one['at'] else 'is gone: somebody deleted it'}"
    said = {
        "changed": f"was {one['was']}, is {one['now']}, changed",
        "removed": f"was {one['was']}, removed",
        "added": f"is {one['now']}, added",
    }
    return f"{one['object']}: {one['field']} {said[one['what']]}{by}{when}"
