"""What the history hands out: frozen records, so that nobody changes a release but through the history."""

from __future__ import annotations

import hashlib
from typing import Any, Literal, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict

Status = Literal["pending", "good", "failed", "superseded", "broken"]

PENDING: Status = "pending"
GOOD: Status = "good"
FAILED: Status = "failed"
SUPERSEDED: Status = "superseded"
BROKEN: Status = "broken"

LEGAL_CHANGES: dict[Status, frozenset[Status]] = {
    PENDING: frozenset({GOOD, FAILED, BROKEN}),
    GOOD: frozenset({SUPERSEDED}),
    FAILED: frozenset(),
    SUPERSEDED: frozenset(),
    BROKEN: frozenset(),
}
"""What a release may become. A finished release never goes back: another try is another release."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Release(_Record):
    """One rendered version of an endpoint, with its outcome.

    Attributes:
        id: the key in this history; another history may give the same release another one.
        number: counts the endpoint's releases from 1.
        run_id: the run that made it; one run makes one release of an endpoint.
        label: what the pods of this release carry as ``slipway.io/release``.
        digest: sha256 of ``objects``.
        plan_digest: sha256 of ``plan`` as canonical JSON.
        objects: the rendered objects, byte for byte as they were when the release was planned.
        images: references of all images, as digests where there is a registry.
        weights_digest: digest of the manifest of the weights; None until they were downloaded.
        fencing: the lock's fencing number; None while the run held no lock and so has changed nothing.
        failure: why it failed; on a pending release, the first thing that went wrong.
        rollback_of: the number of the release whose stored bytes this one is; None for one that was planned.
        returning_to: the number of the good release that the endpoint went, or goes, back to when this one failed.
        evidence: where the artefact store has what it looked like when it failed.
    """

    id: int
    endpoint: str
    number: int
    run_id: str
    cluster: str
    namespace: str
    status: Status
    label: str
    digest: str
    plan_digest: str
    plan: dict[str, Any]
    overrides: dict[str, Any]
    objects: bytes
    images: list[str]
    weights_source: str
    weights_digest: str | None = None
    reason: str = ""
    actor: str = ""
    fencing: int | None = None
    failure: str | None = None
    created_at: AwareDatetime
    finished_at: AwareDatetime | None = None
    rollback_of: int | None = None
    returning_to: int | None = None
    evidence: str | None = None

    @property
    def title(self) -> str:
        """How messages name it."""
        return f"release {self.number}"

    def has_its_objects(self) -> bool:
        """Whether ``objects`` are the bytes that ``digest`` was taken of: others must never be applied."""
        return hashlib.sha256(self.objects).hexdigest() == self.digest


class ProbeRecord(_Record):
    """One successful probe.

    Attributes:
        through: ``release`` or ``published``: the Service that it went through.
        answer: what the model said.
        result: the probe's whole result.
    """

    id: int
    release_id: int
    through: str
    answer: str
    result: dict[str, Any]
    created_at: AwareDatetime


class Figures(_Record):
    """The figures of a benchmark that are compared over time, in vLLM's words and units.

    A latency that the client did not report is None, never 0. Percentiles at 50 and 99, and the mean, of time to
    first token, time per output token, inter-token latency and end-to-end latency, in milliseconds.
    """

    duration: float | None = None
    completed: int
    failed: int
    total_input_tokens: int | None = None
    total_output_tokens: int | None = None
    request_throughput: float | None = None
    request_goodput: float | None = None
    output_throughput: float | None = None
    total_token_throughput: float | None = None
    mean_ttft_ms: float | None = None
    p50_ttft_ms: float | None = None
    p99_ttft_ms: float | None = None
    mean_tpot_ms: float | None = None
    p50_tpot_ms: float | None = None
    p99_tpot_ms: float | None = None
    mean_itl_ms: float | None = None
    p50_itl_ms: float | None = None
    p99_itl_ms: float | None = None
    mean_e2el_ms: float | None = None
    p50_e2el_ms: float | None = None
    p99_e2el_ms: float | None = None


class BenchmarkRecord(_Record):
    """One benchmark of a release.

    Attributes:
        valid: whether it may be compared: every request completed and every figure is a number.
        figures: the canonical figures.
        raw: the client's JSON without its lists, which have an entry for each request.
        raw_reference: where the unmodified JSON lies in the artefact store.
    """

    id: int
    release_id: int
    workload: str
    valid: bool
    figures: Figures
    raw: dict[str, Any]
    raw_reference: str
    created_at: AwareDatetime


class ChangeRecord(_Record):
    """What a run did to an endpoint without making a release.

    Attributes:
        run_id: the run; one run changes an endpoint once.
        release_id: the release that it was done to.
        kind: ``scale``, ``remove``, or ``restart`` by the regular probes.
        detail: what was asked, and what was found.
        failure: why it failed, or None.
    """

    id: int
    endpoint: str
    run_id: str
    release_id: int
    kind: str
    status: Literal["pending", "done", "failed"]
    detail: dict[str, Any]
    reason: str
    actor: str
    failure: str | None
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


State = Literal["serving", "failing", "stopped"]


class StateSeen(_Record):
    """What a probe saw of an endpoint; the attributes are those of ``StateRecord``."""

    endpoint: str
    cluster: str
    state: State
    release_number: int
    reason: str = ""
    seconds: float | None = None
    ttft_seconds: float | None = None


class StateRecord(_Record):
    """A state of an endpoint as its probes saw it.

    Attributes:
        state: ``stopped`` is scaled to 0 by a person, and no fault.
        reason: why it fails, or "".
        since, seen: the first and the last probe in this state.
        seconds, ttft_seconds: of the last probe: its whole time, and the time to the first token.
        alerted: whether the change to this state was told.
    """

    id: int
    endpoint: str
    cluster: str
    state: State
    reason: str
    release_number: int
    since: AwareDatetime
    seen: AwareDatetime
    seconds: float | None
    ttft_seconds: float | None
    alerted: bool


class DriftRecord(_Record):
    """How an endpoint differs from its release, as long as that stayed the same.

    Attributes:
        differences: each with ``object``, ``field``, ``what`` (changed, removed, added, deleted), ``was``, ``now``,
            ``manager`` and ``at``; none when it is as it was released, after it was not.
        since, seen: the first and the last look that found just these.
        alerted: whether it was told.
    """

    id: int
    endpoint: str
    cluster: str
    release_number: int
    differences: list[dict[str, str]]
    since: AwareDatetime
    seen: AwareDatetime
    alerted: bool


class HourRecord(_Record):
    """The probes of one endpoint in one hour.

    Attributes:
        streamed: how many of them measured a time to the first token.
    """

    endpoint: str
    hour: AwareDatetime
    probes: int
    failures: int
    seconds_sum: float
    seconds_max: float
    streamed: int
    ttft_sum: float
    ttft_max: float


class ReleaseLine(_Record):
    """What a list says of a release; the attributes are those of ``Release``."""

    id: int
    endpoint: str
    number: int
    run_id: str
    cluster: str
    namespace: str
    status: Status
    label: str
    images: list[str]
    weights_source: str
    weights_digest: str | None
    reason: str
    actor: str
    failure: str | None
    created_at: AwareDatetime
    finished_at: AwareDatetime | None
    rollback_of: int | None
    returning_to: int | None
    evidence: str | None


class EndpointLine(_Record):
    """What a list says of an endpoint.

    Attributes:
        newest: its newest release, whatever became of it.
        good: the number of the release that serves; None where nothing does.
        state: as the last probe saw it; None before the first.
        differences: how many things somebody changed since the release.
    """

    newest: ReleaseLine
    good: int | None
    state: StateRecord | None
    differences: int


class FindingRecord(_Record):
    """What a check found before the release changed anything."""

    id: int
    release_id: int
    check: str
    severity: str
    about: str
    reason: str
    remedy: str
    created_at: AwareDatetime


class FindingLike(Protocol):
    """What the history needs of a finding; the checks have the record, and neither package imports the other."""

    @property
    def check(self) -> str:
        """The check's id."""

    @property
    def severity(self) -> str:
        """How much it matters."""

    @property
    def about(self) -> str:
        """The object."""

    @property
    def reason(self) -> str:
        """What was found."""

    @property
    def remedy(self) -> str:
        """What to do."""
