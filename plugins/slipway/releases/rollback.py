"""Which release an endpoint goes back to."""

from __future__ import annotations

from slipway.errors import UsageError
from slipway.releases.records import GOOD, SUPERSEDED, Release
from slipway.releases.store import History


def rollback_target(
    history: History, endpoint: str, *, to: int | None = None
) -> tuple[Release | None, Release]:
    """Return the release that serves, or None, and the one to go back to.

    Args:
        history: the history.
        endpoint: the endpoint's name.
        to: the number of a release; by default the one that was good before the one that serves.

    Raises:
        UsageError: there is none, or it never was good: what was never proven is not gone back to.
    """
    serving = history.last_good(endpoint)
    if to is None:
        target = history.last_good(endpoint, before=serving.number) if serving else None
        if target is None:
            raise UsageError(
                "there is no release to go back to",
                about=endpoint,
                why="it has no good release before the one that serves"
                if serving
                else "nothing of it serves",
                remedy=f"Name one: slipway history {endpoint} lists them",
            )
        return serving, target
    target = history.by_number(endpoint, to)
    if target is None:
        raise UsageError(
            "there is no such release",
            about=f"release {to} of {endpoint}",
            remedy=f"See slipway history {endpoint}",
        )
    if target.status not in (GOOD, SUPERSEDED):
        raise UsageError(
            "the release was never proven and cannot be gone back to",
            about=f"release {to} of {endpoint}, {target.status}",
            remedy=f"Choose one that was good: slipway history {endpoint}",
        )
    return serving, target
