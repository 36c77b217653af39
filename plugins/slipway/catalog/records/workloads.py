"""Workloads: loads for benchmarks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slipway.catalog.records.fields import Name, Record


class Workload(Record):
    """A benchmark load.

    Attributes:
        data: ``conversations`` (the small ShareGPT-shaped set that the project ships) or ``random``.
        rate: requests a second (Poisson arrivals), or None for all at once.
        concurrency: at most so many requests in flight, or None for no cap.
        warmups: requests before the measured ones.
    """

    name: Name
    data: Literal["conversations", "random"] = "conversations"
    requests: Annotated[int, Field(gt=0, le=100_000)]
    rate: Annotated[float, Field(gt=0)] | None = None
    burstiness: Annotated[float, Field(gt=0)] = 1.0
    concurrency: Annotated[int, Field(gt=0)] | None = None
    warmups: Annotated[int, Field(ge=0)] = 0
    seed: int = 1
    input_tokens: Annotated[int, Field(gt=0)] = 128
    output_tokens: Annotated[int, Field(gt=0)] | None = None
    percentiles: list[int] = [50, 90, 95, 99]
    timeout_seconds: Annotated[int, Field(gt=0)] = 1800

    @model_validator(mode="after")
    def _warmups_fit(self) -> Workload:
        if self.warmups > self.requests:
            raise ValueError("warmups are at most as many as requests")
        return self
