"""What a plan says of how its release takes the place of the one that serves."""

from __future__ import annotations

from typing import Literal

from slipway.catalog.records import Canary, Record, Strategy

Colour = Literal["blue", "green"]
"""Which of an endpoint's two workloads: while one serves, the next release can come up as the other."""


class Rollout(Record):
    """How a release takes the place of the one that serves; what it serves in the end is not touched by it.

    Attributes:
        reason: why this strategy, for people.
        serving: the label of the release that served when this was chosen; None when none did.
        surge: replicas that a rolling change may have more than wanted at a time.
        unavailable: replicas that it may have fewer.
        canary: of the strategy of that name.
    """

    strategy: Strategy = "recreate"
    reason: str = ""
    serving: str | None = None
    surge: int = 0
    unavailable: int = 1
    canary: Canary = Canary()

    @property
    def beside(self) -> bool:
        """Whether the new release comes up beside the one that serves, which stays as it is until then."""
        return self.strategy in ("blue-green", "canary")
