"""The order to measure an endpoint under a load, and what comes back."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Workload(BaseModel):
    """A load: what is asked, how often, and how long the answers are.

    Attributes:
        name: the catalog's name for it.
        data: ``conversations`` (our ShareGPT-shaped file, by the chat API) or ``random`` (tokens of a fixed
            count, by the completions API, answers of a fixed length).
        requests: how many are measured.
        rate: requests a second; None sends all at once.
        burstiness: of the arrivals when there is a rate: 1 is Poisson, lower is burstier.
        concurrency: the most that are under way at once; None is no limit.
        warmups: requests before the measured ones; they repeat the first prompt.
        seed: the same seed asks the same things in the same order.
        input_tokens: of a random prompt; conversations have their own lengths.
        output_tokens: a fixed length of answers; None leaves it to the data.
        percentiles: reported for each latency.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    data: Literal["conversations", "random"] = "conversations"
    requests: int = Field(ge=1)
    rate: float | None = Field(default=None, gt=0)
    burstiness: float = Field(default=1.0, gt=0)
    concurrency: int | None = Field(default=None, ge=1)
    warmups: int = Field(default=0, ge=0)
    seed: int = 0
    input_tokens: int | None = Field(default=None, ge=1)
    output_tokens: int | None = Field(default=None, ge=1)
    percentiles: tuple[float, ...] = (50, 90, 95, 99)

    @field_validator("percentiles")
    @classmethod
    def _are_percentiles(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or not all(0 < percentile <= 100 for percentile in value):
            raise ValueError("must be between 0 and 100, at least one")
        return tuple(sorted(set(value)))


class BenchmarkOrder(BaseModel):
    """Measure an endpoint; its API key comes from ``SLIPWAY_API_KEY``.

    Attributes:
        base_url: ``http://service.namespace.svc:port``, without ``/v1``.
        tokenizer: the directory of the model's tokenizer in this pod: the client counts tokens with it.
        timeout_seconds: for the whole benchmark, the client's start included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str
    served_name: str
    tokenizer: str
    workload: Workload
    timeout_seconds: float = Field(default=1800, gt=0)

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/").removesuffix("/v1")


class BenchmarkResult(BaseModel):
    """What vLLM's client measured, as it wrote it.

    Attributes:
        raw: the client's JSON, unmodified, unless ``in_log`` names keys.
        in_log: keys of the JSON that hold one value for each request and did not fit into a termination
            message: they are in the pod's log, on the line that ``whole_raw`` reads.
        raw_sha256: of the whole JSON in its canonical form.
    """

    model_config = ConfigDict(extra="forbid")

    raw: dict[str, Any]
    in_log: list[str] = []
    raw_sha256: str
