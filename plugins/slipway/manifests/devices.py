"""From an accelerator's record to what a serving pod asks for, with the rules of those who hand devices out.

The rules are data of the records (``catalog/accelerators``); here they are held against an endpoint, so that what a
device plugin, a scheduler or a cloud would refuse (or worse, silently change) is known before anything is applied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

from slipway.catalog.faults import Fault
from slipway.catalog.quantities import quantity, readable
from slipway.catalog.records import (
    Accelerator,
    AcceleratorChange,
    Cluster,
    Endpoint,
    Runtime,
    SharedMemory,
    Toleration,
)
from slipway.manifests.podsecurity import host_paths, pod_security_faults


@dataclass(frozen=True)
class PodDevices:
    """What the accelerator adds to a serving pod."""

    requests: dict[str, str]
    limits: dict[str, str]
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    node_selector: dict[str, str] = field(default_factory=dict)
    node_affinity: dict[str, list[str]] = field(default_factory=dict)
    tolerations: list[Toleration] = field(default_factory=list)
    runtime_class: str | None = None
    args: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    volume_mounts: list[dict[str, Any]] = field(default_factory=list)


def device_of(accelerator: Accelerator, change: AcceleratorChange) -> Accelerator:
    """The accelerator as one cluster has it.

    Labels and annotations of the change are added key by key (one label of ACS is otherwise, not all); everything
    else takes the place of the record's.
    """
    changed = {
        name: value
        for name, value in dict(change).items()
        if value is not None and name not in ("share_resource", "pod_labels", "pod_annotations")
    }
    if change.share_resource and accelerator.share:
        changed["share"] = accelerator.share.model_copy(update={"resource": change.share_resource})
    changed["pod_labels"] = {**accelerator.pod_labels, **(change.pod_labels or {})}
    changed["pod_annotations"] = {**accelerator.pod_annotations, **(change.pod_annotations or {})}
    return accelerator.model_copy(update=changed)


def devices_for(endpoint: Endpoint, device: Accelerator, *, program: str | None) -> PodDevices:
    """What a serving pod of this endpoint carries for its device; the endpoint has no fault.

    Cards are in requests and limits. A share's memory and cores are in the limits alone, as HAMi's own examples have
    them: no node lists them as allocatable, HAMi's scheduler counts them by itself, and the API server makes equal
    requests of them when a pod is created.
    """
    resources, share = endpoint.resources, endpoint.share
    requests = {"cpu": resources.cpu, "memory": resources.memory}
    limits = {"memory": resources.memory}
    cpu_limit = resources.cpu if device.guaranteed else resources.cpu_limit
    if cpu_limit:
        limits["cpu"] = cpu_limit
    annotations = dict(device.pod_annotations)
    if device.resource:
        limits[device.resource] = requests[device.resource] = str(endpoint.cards)
    if share and device.share:
        limits[device.share.resource] = str(_units(share.memory, device.share))
        annotations.update(device.share_annotations)
        if share.cores and device.cores:
            limits[device.cores] = str(ceil(Fraction(share.cores * device.cores_per_card, 100)))
    return PodDevices(
        requests=requests,
        limits=limits,
        labels=dict(device.pod_labels),
        annotations=annotations,
        node_selector=dict(device.node_selector),
        node_affinity={label: list(values) for label, values in device.node_affinity.items()},
        tolerations=list(device.tolerations),
        runtime_class=device.runtime_class,
        args=list(device.args.get(program or "", [])) if endpoint.cards > 1 else [],
        env=dict(device.env),
        volumes=[dict(volume) for volume in device.volumes],
        volume_mounts=[dict(mount) for mount in device.volume_mounts],
    )


def device_faults(
    endpoint: Endpoint, device: Accelerator, *, cluster: Cluster, runtime: Runtime
) -> Iterator[Fault]:
    """Say what the endpoint asks for that this device kind, or the namespace it needs, cannot give."""
    change = cluster.accelerators.get(endpoint.accelerator)
    if change and change.share_resource and device.share is None:
        yield Fault(
            "accelerator",
            f"catalog/clusters/{cluster.name}.yaml names a share_resource, but {device.name!r} gives whole cards only",
        )
    yield from _count_faults(endpoint, device)
    yield from _share_faults(endpoint, device)
    yield from _refusals(endpoint, device, runtime=runtime)
    limit = endpoint.resources.cpu_limit
    if device.guaranteed and limit and quantity(limit) != quantity(endpoint.resources.cpu):
        yield Fault(
            "resources.cpu_limit",
            f"{device.name!r} wants requests to equal limits: leave {limit} out, the limit is then cpu "
            f"({endpoint.resources.cpu})",
        )
    yield from pod_security_faults(endpoint, device, runtime=runtime, cluster=cluster)


def _count_faults(endpoint: Endpoint, device: Accelerator) -> Iterator[Fault]:
    cards = endpoint.cards
    if device.resource is None:
        if cards:
            yield Fault("cards", f"accelerator {device.name!r} has no cards, and {cards} are asked for")
        return
    if not cards:
        yield Fault("cards", f"accelerator {device.name!r} takes at least 1 card ({device.resource})")
        return
    if device.counts and cards not in device.counts:
        allowed = ", ".join(map(str, device.counts))
        noun = "card" if device.counts == [1] else "cards"
        yield Fault("cards", f"{device.name!r} gives a pod {allowed} {noun}, not {cards}")
    if endpoint.share and device.shared_counts and cards not in device.shared_counts:
        allowed = ", ".join(map(str, device.shared_counts))
        yield Fault(
            "cards",
            f"a share of {device.name!r} is of {allowed} card, not of {cards}: leave share out for whole cards",
        )


def _share_faults(endpoint: Endpoint, device: Accelerator) -> Iterator[Fault]:
    share = endpoint.share
    if share is None:
        return
    if device.share is None:
        yield Fault("share", f"accelerator {device.name!r} gives whole cards only")
        return
    if share.cores and device.cores is None:
        yield Fault("share.cores", f"{device.name!r} divides memory, not cores")
    asked, unit = quantity(share.memory), quantity(device.share.unit)
    whole = quantity(device.card_memory) if device.card_memory else None
    if whole and asked > whole:
        yield Fault("share.memory", _too_much(endpoint, asked, whole, unit))
    elif device.share.allowed and asked / unit not in device.share.allowed:
        amounts = [amount * unit for amount in device.share.allowed]
        nearest = next((amount for amount in amounts if amount >= asked), amounts[-1])
        allowed = ", ".join(readable("memory", amount) for amount in amounts)
        yield Fault(
            "share.memory",
            f"{share.memory} cannot be had of a {device.name!r} card, only {allowed}; nearest: "
            f"{readable('memory', nearest)}",
        )
    elif asked % unit or not asked:
        nearest = max(1, ceil(asked / unit)) * unit
        yield Fault(
            "share.memory",
            f"{share.memory} is not a multiple of {device.share.unit}, the unit of {device.share.resource}; nearest: "
            f"{readable('memory', nearest)}",
        )


def _too_much(endpoint: Endpoint, asked: Fraction, whole: Fraction, unit: Fraction) -> str:
    """Most often the sum over all cards was written: the amount is per card."""
    told = f"{endpoint.share.memory if endpoint.share else ''} is more than a card has"
    each = asked / max(1, endpoint.cards)
    if endpoint.cards > 1 and each <= whole and not each % unit:
        written = _as_written(each)
        return (
            f"{told} ({readable('memory', whole)}): it is asked for per card, and this looks like the sum of "
            f"{endpoint.cards} x {written}; write {written}"
        )
    return f"{told}: write at most {_as_written(whole - whole % unit)}, or leave share out for whole cards"


def _as_written(amount: Fraction) -> str:
    """An amount exactly, in the largest unit that leaves no fraction."""
    for suffix, size in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if not amount % size:
            return f"{amount // size}{suffix}"
    return str(int(amount))


def _units(memory: str, share: SharedMemory) -> int:
    return int(quantity(memory) / quantity(share.unit))


def _refusals(endpoint: Endpoint, device: Accelerator, *, runtime: Runtime) -> Iterator[Fault]:
    placement, who = endpoint.placement, device.name
    if "node_name" in device.refuses and placement.node_name:
        yield Fault(
            "placement.node_name",
            f"{who!r} refuses pods that name their node: use placement.node_selector "
            f"(kubernetes.io/hostname: {placement.node_name})",
        )
    if "scheduler_name" in device.refuses and placement.scheduler:
        yield Fault(
            "placement.scheduler",
            f"{who!r} passes over pods that name a scheduler, so they get no device: leave {placement.scheduler} out",
        )
    if "host_network" in device.refuses and placement.host_network:
        yield Fault("placement.host_network", f"{who!r} has no host network for pods")
    if "host_path" in device.refuses:
        paths = ", ".join(host_paths(runtime.volumes))
        if paths:
            yield Fault(
                "runtime",
                f"runtime {runtime.name!r} mounts {paths} from the node; {who!r} has no nodes to mount from",
            )
    if "node_port" in device.refuses:
        for number, service in enumerate(endpoint.exposure.services):
            if service.type == "NodePort":
                yield Fault(
                    f"exposure.services.{number}", f"{who!r} has no NodePort Services: use type LoadBalancer"
                )
    if device.offered_by == "hami" and (runtime.security_context or {}).get("privileged"):
        yield Fault(
            "runtime", f"HAMi passes over privileged containers, so {runtime.name!r} would get no device"
        )
