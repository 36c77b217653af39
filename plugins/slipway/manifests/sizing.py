"""Do the weights and the KV cache fit, is the cut possible, and how long may a start take?

Everything is known before anything is applied. What does not fit is said with its numbers and with the nearest thing
that does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil

from slipway.catalog.faults import Fault
from slipway.catalog.quantities import quantity_bytes
from slipway.catalog.records import Accelerator, Endpoint, Model, Runtime, Storage
from slipway.manifests.memory import GIB
from slipway.manifests.nearest import Changes, suggestions
from slipway.manifests.needs import Case, Needs, cut_faults, needs_of, told, whole_gib

# What each process on the host has for itself in front of a card (CUDA's libraries, NCCL's pinned buffers); the house's
# own estimate, there is no published figure.
_HOST_PROCESS_GIB = 1.5


@dataclass(frozen=True)
class Sizing:
    """What an endpoint needs, and what would fit where that does not.

    Attributes:
        text: the numbers in one line, and the suggestions if it does not fit.
        suggestions: changes of the endpoint's fields, each of which makes it fit.
    """

    needs: Needs
    text: str
    suggestions: list[Changes] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether there is as much as is needed."""
        return self.needs.fits


def size(
    endpoint: Endpoint, *, model: Model, device: Accelerator, runtime: Runtime, context_length: int
) -> Sizing:
    """Compute what the endpoint needs and, where it does not fit, what would."""
    case = Case(endpoint, model, device, runtime, context_length)
    needs = needs_of(case)
    if needs.fits:
        return Sizing(needs, needs.text)
    found = list(suggestions(case))
    listed = "; ".join(" and ".join(f"{name}: {value}" for name, value in one.items()) for one in found)
    return Sizing(needs, f"{needs.text}; what fits: {listed or 'nothing that was tried'}", found)


def sizing_faults(
    endpoint: Endpoint, *, model: Model, device: Accelerator, runtime: Runtime, context_length: int
) -> Iterator[Fault]:
    """Say which cut is impossible and what does not fit; the latter only where the endpoint enforces its sizing."""
    case = Case(endpoint, model, device, runtime, context_length)
    impossible = list(cut_faults(case))
    yield from impossible
    if impossible or endpoint.sizing == "advise":
        return
    yield from _host_faults(case)
    sizing = size(endpoint, model=model, device=device, runtime=runtime, context_length=context_length)
    if not sizing.fits:
        yield Fault(_blamed(case, sizing.needs), f"it does not fit: {sizing.text}")


def _blamed(case: Case, needs: Needs) -> str:
    """The field that is furthest from fitting: what holds the weights, or else how long the context is."""
    if needs.holds and needs.holds[0] > needs.holds[1]:
        return "context_length"
    if case.on_cpu:
        return "resources.memory"
    without = needs.needed - needs.kv_cache
    if needs.available is not None and without > needs.available:
        return "share.memory" if case.endpoint.share else "cards"
    return "context_length"


def _host_faults(case: Case) -> Iterator[Fault]:
    """What lies in /dev/shm is memory of the pod and counts against its limit, beside the processes."""
    if case.on_cpu:
        return
    shared = quantity_bytes(case.endpoint.shared_memory or case.runtime.shared_memory)
    memory = quantity_bytes(case.endpoint.resources.memory)
    processes = ceil((case.endpoint.cards + 1) * _HOST_PROCESS_GIB * GIB)
    if shared + processes > memory:
        yield Fault(
            "resources.memory",
            f"{case.endpoint.resources.memory} must hold /dev/shm ({told(shared)}) and {case.endpoint.cards + 1} "
            f"processes ({told(processes)}): {whole_gib(shared + processes)} at least, or a smaller shared_memory",
        )


def startup_budget_seconds(*, model: Model, runtime: Runtime, storage: Storage) -> int:
    """How long a pod may take to become healthy: reading the weights, and the program's own time.

    However a model is cut, its files are read once for a replica: each rank reads its part, and all of them share the
    volume's rate.
    """
    return runtime.startup_seconds + -(-quantity_bytes(model.size) // quantity_bytes(storage.read_rate))
