"""The nearest thing that fits, for an endpoint that does not; each suggestion was sized as any endpoint is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import Any

from slipway.catalog.quantities import quantity, quantity_bytes
from slipway.manifests.memory import GIB
from slipway.manifests.needs import KV_SPACE, Case, cut_faults, needs_of, whole_gib

LEAST_CONTEXT = 1024
"""No shorter context is suggested."""

Changes = dict[str, int | str]
"""New values of the endpoint's fields, by their names with dots."""


def suggestions(case: Case) -> Iterator[Changes]:
    """Changes after which it fits: a shorter context; more memory or cards; or both if neither is enough."""
    found = False
    shorter = _longest_context(case)
    if shorter:
        found = True
        yield {"context_length": shorter}
    variants = [(changes, changed) for changes, changed in _larger(case) if not any(cut_faults(changed))]
    for changes, changed in variants:
        if needs_of(changed).fits:
            yield changes
            return
    for changes, changed in variants if not found else ():
        shorter = _longest_context(changed)
        if shorter:
            yield {**changes, "context_length": shorter}
            return


def _longest_context(case: Case) -> int | None:
    """The longest context of whole thousands (1024) that fits and is shorter than the asked one."""
    architecture, now = case.model.architecture, needs_of(case)
    if architecture is None or now.available is None:
        return None
    if now.holds is not None:
        room, each = now.holds[1], now.holds[0] / case.context_length
    else:
        room, each = now.available - (now.needed - now.kv_cache), now.kv_cache / case.context_length
    tokens = int(room / each) // LEAST_CONTEXT * LEAST_CONTEXT
    if not LEAST_CONTEXT <= tokens < case.context_length:
        return None
    return tokens if needs_of(replace(case, context_length=tokens)).fits else None


def _larger(case: Case) -> Iterator[tuple[Changes, Case]]:
    """The endpoint with more of what it runs on, the smallest change first."""
    if case.on_cpu:
        yield from _larger_pods(case)
        return
    yield from _larger_shares(case)
    endpoint, device = case.endpoint, case.device
    counts = device.shared_counts if endpoint.share and device.shared_counts else device.counts
    doubled = [endpoint.cards * 2**power for power in range(1, 5) if endpoint.cards * 2**power <= 16]
    for cards in [count for count in counts if count > endpoint.cards] if counts else doubled:
        yield _with_cards(case, cards=cards, pods=endpoint.parallel.pods)
    most = max([*counts, endpoint.cards])
    for pods in (2, 4) if case.runtime.distributed and not endpoint.share else ():
        if pods > endpoint.parallel.pods:
            yield _with_cards(case, cards=most, pods=pods)


def _with_cards(case: Case, *, cards: int, pods: int) -> tuple[Changes, Case]:
    endpoint, parallel = case.endpoint, case.endpoint.parallel
    changes: Changes = {"cards": cards}
    update: dict[str, Any] = {}
    if pods != parallel.pods:
        # Between pods only what passes from one group of layers to the next has to travel.
        update = {"pods": pods, "pipeline": pods}
        changes |= {"parallel.pods": pods, "parallel.pipeline": pods}
    if parallel.tensor:
        update["tensor"] = max(1, cards * pods // update.get("pipeline", parallel.pipeline))
        changes["parallel.tensor"] = update["tensor"]
    changed = endpoint.model_copy(update={"cards": cards, "parallel": parallel.model_copy(update=update)})
    return changes, replace(case, endpoint=changed)


def _larger_shares(case: Case) -> Iterator[tuple[Changes, Case]]:
    share, device = case.endpoint.share, case.device
    if share is None or device.share is None or device.card_memory is None:
        return
    unit, whole = quantity(device.share.unit), quantity(device.card_memory)
    steps = device.share.allowed or range(
        ceil(quantity("1Gi") / unit), int(whole / unit) + 1, ceil(quantity("1Gi") / unit)
    )
    now = quantity(share.memory)
    for step in steps:
        if now < step * unit <= whole:
            memory = _written(int(step * unit))
            larger = share.model_copy(update={"memory": memory})
            yield (
                {"share.memory": memory},
                replace(case, endpoint=case.endpoint.model_copy(update={"share": larger})),
            )


def _larger_pods(case: Case) -> Iterator[tuple[Changes, Case]]:
    endpoint, now = case.endpoint, needs_of(case)
    changes: Changes = {}
    env = dict(endpoint.env)
    kv_cache = now.kv_cache
    if now.holds and now.holds[0] > now.holds[1]:
        gib = ceil(now.holds[0] / GIB)
        env[KV_SPACE] = changes[f"env.{KV_SPACE}"] = str(gib)
        kv_cache = gib * GIB * case.ranks_per_pod
    needed = now.needed - now.kv_cache + kv_cache
    memory = endpoint.resources.memory
    if needed > quantity_bytes(memory):
        memory = whole_gib(needed)
        changes["resources.memory"] = memory
    resources = endpoint.resources.model_copy(update={"memory": memory})
    yield changes, replace(case, endpoint=endpoint.model_copy(update={"env": env, "resources": resources}))


def _written(amount: int) -> str:
    return f"{amount // GIB}Gi" if amount % GIB == 0 else f"{amount // 2**20}Mi"
