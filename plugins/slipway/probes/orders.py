"""The order to prove that an endpoint serves, and what the proof showed."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from slipway.catalog.records.fields import Task


class Outside(BaseModel):
    """Where clients outside the cluster come in.

    Attributes:
        base_url: as clients call it.
        address: what to connect to; nobody's DNS need know the name yet.
        authority: the file with the authority that signs certificates there; None for the public ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str
    address: str
    authority: str | None = None


class ProbeOrder(BaseModel):
    """Prove that an endpoint answers as a client would have it.

    Attributes:
        base_url: ``http://service.namespace.svc:port``, without ``/v1``.
        outside: ask there as well, in the end.
        served_name: the name that clients put into ``model``.
        task: what the model is for; it decides which requests are sent.
        health_path: answers 200 when the runtime is up; a whole address where that has a port of its own.
        metrics_path: Prometheus text, or None where the runtime has none; likewise.
        tool_calls: whether the runtime was started with a parser for the model's tool calls.
        deadline_seconds: for all steps together; a starting server is asked again until then.
        longest_seconds: beyond this nothing is waited for, whatever has begun; None lets the last request end.
        request_seconds: for one request; for a streamed one, between two pieces.
        expect_api_key: whether the endpoint must refuse a wrong key.
        api_key_file: holds the API key; None where it comes from ``SLIPWAY_API_KEY``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str
    outside: Outside | None = None
    served_name: str
    task: Task = "chat"
    health_path: str = "/health"
    metrics_path: str | None = "/metrics"
    tool_calls: bool = False
    deadline_seconds: float = Field(default=120, gt=0)
    longest_seconds: float | None = Field(default=None, gt=0)
    request_seconds: float = Field(default=60, gt=0)
    expect_api_key: bool = True
    api_key_file: str | None = None

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/").removesuffix("/v1")


class ProbeStep(BaseModel):
    """One step that succeeded, its time (retries included) and what was seen."""

    model_config = ConfigDict(extra="forbid")

    name: str
    seconds: float
    detail: str


class ProbeResult(BaseModel):
    """An endpoint that serves.

    Attributes:
        ttft_seconds: from sending the streamed request to its first piece with text; None where nothing is streamed.
        answer: the streamed answer, or the completion's text, bounded.
        outside: the steps once more, from where clients outside the cluster come in.
    """

    model_config = ConfigDict(extra="forbid")

    steps: list[ProbeStep]
    ttft_seconds: float | None
    answer: str
    served_names: list[str]
    outside: list[ProbeStep] = []


class WatchedEndpoint(BaseModel):
    """One of many endpoints that are probed together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str
    probe: ProbeOrder


class WatchOrder(BaseModel):
    """Probe many endpoints and say of each what was seen.

    Attributes:
        endpoints: in any order.
        at_once: how many are begun side by side; one that is slow to answer does not keep others from beginning. Each
            has at most one connection or two.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoints: list[WatchedEndpoint]
    at_once: int = Field(default=16, ge=1, le=512)


class Sight(BaseModel):
    """What a probe of one of many endpoints saw: a line of the pod's log.

    Attributes:
        state: ``serving`` or ``failing``.
        reason: why it fails.
        seconds: of the whole probe, where it serves.
        ttft_seconds: as a probe's.
    """

    model_config = ConfigDict(extra="forbid")

    endpoint: str
    state: Literal["serving", "failing"]
    reason: str = ""
    seconds: float | None = None
    ttft_seconds: float | None = None


class WatchResult(BaseModel):
    """How many endpoints were probed, and how many of them fail."""

    model_config = ConfigDict(extra="forbid")

    probed: int
    failing: int
