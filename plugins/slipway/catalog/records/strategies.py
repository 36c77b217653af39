"""How a release takes the place of the one that serves."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slipway.catalog.records.fields import Record

Strategy = Literal["recreate", "rolling", "blue-green", "canary"]


class Canary(Record):
    """How a canary goes on: which percentages of the requests the new release gets before it gets all.

    Attributes:
        weights: the steps before 100; one at 0 would only be seen to fail when it is raised.
        seconds: how long each step is watched.
        errors_percent: of requests to the new release, ours and clients'; more end the rollout.
    """

    weights: list[Annotated[int, Field(ge=1, le=99)]] = Field(default=[1, 10, 50], max_length=20)
    seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    errors_percent: Annotated[float, Field(ge=0, le=100)] = 1

    @model_validator(mode="after")
    def _rising(self) -> Canary:
        if self.weights != sorted(set(self.weights)):
            raise ValueError("weights must rise from step to step")
        return self
