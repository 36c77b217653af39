"""Accelerators: device kinds as clusters offer them, with the rules that their device plugins and clouds have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from slipway.catalog.records.fields import (
    AcceleratorKind,
    Annotations,
    Argument,
    EnvironmentName,
    KubernetesObject,
    LabelKey,
    Labels,
    LabelValue,
    Name,
    Names,
    ObjectName,
    PodSecurity,
    Quantity,
    Record,
    ResourceName,
    Text,
    Toleration,
)

# What a device plugin, a scheduler or a cloud refuses in a pod or for it.
Refusal = Literal["node_name", "scheduler_name", "host_path", "host_network", "node_port", "daemon_set"]


class SharedMemory(Record):
    """How a share of a card's memory is asked for.

    Attributes:
        resource: such as ``nvidia.com/gpumem``. It is per card: 8 cards with 79872 MiB each ask for 79872.
        unit: what 1 of it is, such as ``1Mi``.
        allowed: the only amounts that can be had, in units; empty for any.
    """

    resource: ResourceName
    unit: Quantity = "1Mi"
    allowed: list[int] = []


class Accelerator(Record):
    """A device kind as a cluster offers it.

    Attributes:
        kind: what the hardware is; picks the runtime's image.
        offered_by: who hands the devices out. ``simulated`` devices compute nothing.
        resource: the extended resource that counts cards; None for a CPU.
        card_memory: the memory of one whole card (of the slice, for MIG); None where it is not known.
        counts: the only numbers of cards that one pod can have; empty for any.
        share: how part of a card's memory is asked for; None where only whole cards can be had.
        shared_counts: the only numbers of cards when a share is asked for; empty for any.
        cores: the resource that asks for a share of a card's cores; None where it can't be.
        cores_per_card: how much of it a whole card is: 100 where it counts percent.
        pod_labels, pod_annotations: what the scheduler or the cloud reads on pods.
        share_annotations: those that a pod with a share needs besides.
        node_selector, node_affinity: on which nodes; the second maps a label to the values that will do.
        guaranteed: requests must equal limits, for cpu too.
        refuses: what pods, or Services in front of them, must not have.
        args: by program, arguments for more than one card that the device kind makes necessary.
        env: environment variables for the serving container.
        volumes, volume_mounts: Kubernetes' own: drivers that no container runtime mounts.
        pod_security: the level that pods with this device need at most.
        notes: what a person should know, one sentence each.
    """

    name: Name
    display_name: Names = {}
    kind: AcceleratorKind
    offered_by: Literal["kubernetes", "device-plugin", "mig", "hami", "acs", "simulated"]
    resource: ResourceName | None = None
    card_memory: Quantity | None = None
    counts: list[Annotated[int, Field(gt=0)]] = []
    share: SharedMemory | None = None
    shared_counts: list[Annotated[int, Field(gt=0)]] = []
    cores: ResourceName | None = None
    cores_per_card: Annotated[int, Field(gt=0)] = 100
    pod_labels: Labels = {}
    pod_annotations: Annotations = {}
    share_annotations: Annotations = {}
    node_selector: Labels = {}
    node_affinity: dict[LabelKey, list[LabelValue]] = {}
    tolerations: list[Toleration] = []
    runtime_class: ObjectName | None = None
    guaranteed: bool = False
    refuses: list[Refusal] = []
    args: dict[Name, list[Argument]] = {}
    env: dict[EnvironmentName, Text] = {}
    volumes: list[KubernetesObject] = []
    volume_mounts: list[KubernetesObject] = []
    pod_security: PodSecurity = "restricted"
    notes: list[Text] = []

    @model_validator(mode="after")
    def _consistent(self) -> Accelerator:
        if self.kind != "cpu" and self.resource is None:
            raise ValueError("an accelerator that is not a CPU names the resource that counts its cards")
        if self.offered_by == "simulated" and self.kind != "cpu":
            raise ValueError(
                "simulated devices compute nothing: their kind is cpu, so that a CPU's image runs"
            )
        return self


class AcceleratorChange(Record):
    """What one cluster has otherwise than the accelerator's record: its own resource names, labels and taints.

    ``pod_labels`` and ``pod_annotations`` are added to the record's, key by key; everything else takes the place of
    what the record says.
    """

    resource: ResourceName | None = None
    share_resource: ResourceName | None = None
    cores: ResourceName | None = None
    card_memory: Quantity | None = None
    pod_labels: Labels | None = None
    pod_annotations: Annotations | None = None
    node_selector: Labels | None = None
    node_affinity: dict[LabelKey, list[LabelValue]] | None = None
    tolerations: list[Toleration] | None = None
    runtime_class: ObjectName | None = None
