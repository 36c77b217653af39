"""What a plan is made of: an endpoint with all records that it refers to, and the images of the project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slipway.catalog.images import known_code_digest, known_image_tag
from slipway.catalog.read import Catalog
from slipway.catalog.records import Accelerator, Cluster, Endpoint, Model, Program, Runtime
from slipway.manifests.devices import device_of


@dataclass(frozen=True)
class Images:
    """What is known of the images that the project builds; the same for every plan of a process."""

    include: Path
    package: Path

    @property
    def code(self) -> str:
        """The digest of the code that runs in pods."""
        return known_code_digest(self.package)

    def reference(self, name: str, *, cluster: Cluster) -> str:
        """An image that the project builds, as a cluster pulls it."""
        return (
            f"{cluster.registry}/{name}:{known_image_tag(name, include=self.include, package=self.package)}"
        )


@dataclass(frozen=True)
class Records:
    """An endpoint and all records that it refers to, the accelerator as its cluster has it."""

    endpoint: Endpoint
    model: Model
    runtime: Runtime
    program: Program | None
    device: Accelerator
    cluster: Cluster

    @property
    def context_length(self) -> int:
        """The longest context unless a run overrides it."""
        return self.endpoint.context_length or self.model.context_length

    @property
    def served_name(self) -> str:
        """The name that clients put into their requests."""
        return self.endpoint.served_name or self.model.served_name


def records_of(catalog: Catalog, name: str) -> Records:
    """Look up an endpoint and what it refers to.

    Raises:
        UsageError: no such endpoint.
        CatalogError: its records cannot be used.
    """
    endpoint = catalog.endpoint(name)
    runtime, cluster = catalog.runtimes[endpoint.runtime], catalog.clusters[endpoint.cluster]
    device = device_of(catalog.accelerators[endpoint.accelerator], cluster.accelerators[endpoint.accelerator])
    return Records(
        endpoint=endpoint,
        model=catalog.models[endpoint.model],
        runtime=runtime,
        program=catalog.programs[runtime.program] if runtime.program else None,
        device=device,
        cluster=cluster,
    )
