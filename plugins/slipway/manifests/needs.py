"""What an endpoint needs of a card, or of its pod's memory, against what is there; and whether its cut is possible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from slipway.catalog.faults import Fault
from slipway.catalog.quantities import quantity_bytes
from slipway.catalog.records import Accelerator, Endpoint, Model, Runtime
from slipway.manifests.memory import (
    GIB,
    Cut,
    Loading,
    flag_value,
    loading_of,
    token_bytes,
    weight_bytes,
    working_bytes,
)

KV_SPACE = "VLLM_CPU_KVCACHE_SPACE"
KV_SPACE_GIB = 4
"""What vLLM up to 0.12 reserves on a CPU when nobody says; later versions take a part of all memory that they see."""

# vLLM on a CPU without weights and cache. Measured: vLLM 0.32.0 with the stand-in model has 1.9 GiB in two processes,
# 1 GiB of them the cache; its third process, the worker, is half a GiB more.
_PROGRAM_GIB, _WORKER_GIB = 1.0, 0.5


@dataclass(frozen=True)
class Case:
    """What is sized."""

    endpoint: Endpoint
    model: Model
    device: Accelerator
    runtime: Runtime
    context_length: int

    @property
    def on_cpu(self) -> bool:
        """Whether the pod's memory holds the model; simulated cards have none."""
        return self.device.kind == "cpu"

    @property
    def cards(self) -> int:
        """Cards of one replica, over all of its pods."""
        return self.endpoint.cards * self.endpoint.parallel.pods

    @property
    def cut(self) -> Cut:
        """How the model is cut; unless told otherwise, over all cards of a pipeline stage."""
        parallel = self.endpoint.parallel
        over = 1 if self.on_cpu else max(1, self.cards // parallel.pipeline)
        return Cut(tensor=parallel.tensor or over, pipeline=parallel.pipeline)

    @property
    def ranks_per_pod(self) -> int:
        """How many ranks share the memory of a pod."""
        return max(1, self.cut.tensor * self.cut.pipeline // self.endpoint.parallel.pods)

    @property
    def arguments(self) -> list[str]:
        """The runtime's and the endpoint's, the latter having the last word."""
        return [*self.runtime.args, *self.endpoint.args]

    @property
    def loading(self) -> Loading:
        """Types, as the arguments have them."""
        return loading_of(self.arguments, model=self.model)

    def flag(self, name: str) -> str | None:
        """The value of one argument."""
        return flag_value(" ".join(self.arguments), name)


@dataclass(frozen=True)
class Needs:
    """What an endpoint needs: of each card, or of the pod where the model lies in the pod's memory.

    Attributes:
        weights, kv_cache, working: bytes; the cache for ``context_length`` tokens of each concurrent request, or all
            of the space that a CPU's program reserves for it; and what the program needs besides.
        shared_memory: /dev/shm, where it counts against the same memory.
        available: bytes; None where a card's memory is not known.
        holds: the bytes that the cache of a rank needs, and those that the program reserves for it, if any.
        text: all of that in one line.
    """

    weights: int
    kv_cache: int
    working: int
    shared_memory: int
    available: int | None
    holds: tuple[int, int] | None
    text: str

    @property
    def needed(self) -> int:
        """All together."""
        return self.weights + self.kv_cache + self.working + self.shared_memory

    @property
    def fits(self) -> bool:
        """Whether it is there; yes where a card's memory is not known."""
        enough = self.holds is None or self.holds[0] <= self.holds[1]
        return enough and (self.available is None or self.needed <= self.available)


def needs_of(case: Case) -> Needs:
    """Compute what is needed, of each card or of the pod."""
    return _size_of_pod(case) if case.on_cpu else _size_of_card(case)


def _asked(case: Case) -> int:
    """The cache that the asked context takes for all concurrent requests."""
    architecture = case.model.architecture
    if architecture is None:
        return 0
    each = token_bytes(architecture, cut=case.cut, loading=case.loading)
    return each * case.context_length * case.endpoint.concurrency


def _cache_text(case: Case, *, asked: int, reserved: int | None) -> str:
    """The cache's part of the sum in words, with what it is for; both amounts are of one rank."""
    counted = case.model.architecture is not None
    tokens = f"{case.context_length} tokens x {case.endpoint.concurrency}"
    ranks = case.ranks_per_pod if case.on_cpu else 1
    times = f"{ranks} x " if ranks > 1 else ""
    if reserved is None:
        if not counted:
            return "KV cache of an unknown architecture"
        return f"KV cache {times}{told(asked)} ({tokens})"
    need = f"; {tokens} need {told(asked)}" if counted else ""
    return f"KV cache {times}{told(reserved)} ({KV_SPACE}{need})"


def _size_of_card(case: Case) -> Needs:
    endpoint, device, cut = case.endpoint, case.device, case.cut
    said = case.flag("--gpu-memory-utilization") or case.flag("--mem-fraction-static")
    part = float(said) if said and said.replace(".", "", 1).isdigit() else endpoint.memory_utilization
    memory = endpoint.share.memory if endpoint.share else device.card_memory
    available = int(quantity_bytes(memory) * part) if memory else None
    weights = weight_bytes(case.model, cut=cut, loading=case.loading)
    kv_cache, working = _asked(case), working_bytes(case.model.architecture, cut=cut)
    needed = weights + kv_cache + working
    whose = "share" if endpoint.share else "card"
    room = (
        f" of {told(available)} per {whose} ({case.cards} x {told(quantity_bytes(memory))} x {part:g})"
        if available is not None and memory
        else " per card; how much memory a card has is not known"
    )
    return Needs(
        weights=weights,
        kv_cache=kv_cache,
        working=working,
        shared_memory=0,
        available=available,
        holds=None,
        text=(
            f"weights {told(weights)} + {_cache_text(case, asked=kv_cache, reserved=None)} + {told(working)} for "
            f"activations and communication = {told(needed)}{room}"
        ),
    )


def _size_of_pod(case: Case) -> Needs:
    endpoint, runtime = case.endpoint, case.runtime
    ranks = case.ranks_per_pod
    weights = weight_bytes(case.model, cut=case.cut, loading=case.loading) * ranks
    # Each rank on a CPU reserves the space for its own part of the cache.
    asked, space = _asked(case), _reserved(case)
    kv_cache = (asked if space is None else space) * ranks
    one_process = case.flag("--distributed-executor-backend") == "uni"
    working = ceil((_PROGRAM_GIB + (0 if one_process else ranks * _WORKER_GIB)) * GIB)
    shared = quantity_bytes(endpoint.shared_memory or runtime.shared_memory)
    available = quantity_bytes(endpoint.resources.memory)
    needed = weights + kv_cache + working + shared
    return Needs(
        weights=weights,
        kv_cache=kv_cache,
        working=working,
        shared_memory=shared,
        available=available,
        holds=None if space is None else (asked, space),
        text=(
            f"weights {told(weights)} + {_cache_text(case, asked=asked, reserved=space)} + {told(working)} for "
            f"the program + /dev/shm {told(shared)} = {told(needed)} of the pod's {told(available)}"
        ),
    )


def _reserved(case: Case) -> int | None:
    """The cache that vLLM reserves on a CPU; None for other programs, which take what they need."""
    if case.runtime.program != "vllm":
        return None
    said = {**case.runtime.env, **case.device.env, **case.endpoint.env}.get(KV_SPACE, "")
    return (int(said) if said.isdigit() else KV_SPACE_GIB) * GIB


def cut_faults(case: Case) -> Iterator[Fault]:
    """Say why the model cannot be cut as asked: no setting makes such a program start."""
    parallel, cut = case.endpoint.parallel, case.cut
    ranks = cut.tensor * cut.pipeline
    if not case.on_cpu and case.cards and ranks != case.cards:
        yield Fault(
            "parallel.tensor" if parallel.tensor else "parallel.pipeline",
            f"tensor {cut.tensor} x pipeline {cut.pipeline} = {ranks}, but there are {case.endpoint.cards} cards x "
            f"{parallel.pods} pods = {case.cards}",
        )
    architecture = case.model.architecture
    if architecture is None:
        return
    where = "parallel.tensor" if parallel.tensor or case.on_cpu else "cards"
    heads, kv_heads = architecture.attention_heads, architecture.kv_heads
    possible = [number for number in range(1, heads + 1) if not _uneven(case.model, number)]
    nearest = f"possible are {', '.join(map(str, possible))}"
    if heads % cut.tensor:
        yield Fault(where, f"{heads} attention heads cannot be cut over {cut.tensor} ranks; {nearest}")
    elif _uneven(case.model, cut.tensor):
        yield Fault(
            where,
            f"{kv_heads} KV heads and {cut.tensor} ranks: one must divide the other; {nearest}",
        )
    if cut.pipeline > architecture.layers:
        yield Fault(
            "parallel.pipeline", f"{architecture.layers} layers cannot be cut into {cut.pipeline} groups"
        )


def _uneven(model: Model, tensor: int) -> bool:
    """Whether heads come out uneven; with MLA there is nothing of KV heads to cut."""
    architecture = model.architecture
    if architecture is None:
        return False
    kv_heads = architecture.kv_heads
    alike = architecture.latent is not None or kv_heads % tensor == 0 or tensor % kv_heads == 0
    return bool(architecture.attention_heads % tensor) or not alike


def told(amount: int) -> str:
    """An amount as people read it."""
    return f"{amount / GIB:.1f} GiB" if amount >= GIB // 10 else f"{amount / 2**20:.0f} MiB"


def whole_gib(amount: int) -> str:
    """The next whole GiB, as a quantity."""
    return f"{ceil(amount / GIB)}Gi"
