"""Custom resource definitions of the kinds that Slipway makes objects of, so that a real API server judges them.

All but one come from the Go modules that `sandbox/go` pins. LeaderWorkerSet, the Gateway API, MetalLB and KEDA have
their controllers here (sandbox/{leaderworkerset,traefik,metallb,keda}.py): objects of the other kinds are accepted, and
nothing acts on them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sandbox import gobuild
from sandbox.cluster import Cluster
from sandbox.progress import say
from sandbox.settings import FILES, Settings

OWN = FILES / "manifests" / "crds"
# On everything that comes from a module: what it was made of. What has it is not looked at again.
CONTENT_LABEL = "slipway.io/sandbox-content"


@dataclass(frozen=True)
class Source:
    """A folder of a Go module with one file for each definition.

    Attributes:
        pinned_in: the directory below `sandbox/go` whose go.mod names the module's version.
        module: the module's path.
        folder: where in it the files are.
        names: of the definitions, as Kubernetes has them: plural and group.
    """

    pinned_in: str
    module: str
    folder: str
    names: tuple[str, ...]

    def files(self, directory: Path) -> list[Path]:
        """The files of these definitions, named as controller-gen names them."""
        parts = [name.partition(".") for name in self.names]
        return [directory / self.folder / f"{group}_{plural}.yaml" for plural, _, group in parts]


LWS = Source(
    "lws",
    "sigs.k8s.io/lws",
    "config/crd/bases",
    # Its controller watches both kinds and ends where one of them is missing.
    ("leaderworkersets.leaderworkerset.x-k8s.io", "disaggregatedsets.disaggregatedset.x-k8s.io"),
)
METALLB = Source(
    "extensions",
    "go.universe.tf/metallb",
    "config/crd/bases",
    # Its controller does not start without a single one of them.
    (
        "bfdprofiles.metallb.io",
        "bgpadvertisements.metallb.io",
        "bgppeers.metallb.io",
        "communities.metallb.io",
        "configurationstates.metallb.io",
        "ipaddresspools.metallb.io",
        "l2advertisements.metallb.io",
        "servicebgpstatuses.metallb.io",
        "servicel2statuses.metallb.io",
    ),
)
KEDA = Source(
    "autoscaling",
    "github.com/kedacore/keda/v2",
    "config/crd/bases",
    # Its operator does not start without a single one of them.
    (
        "cloudeventsources.eventing.keda.sh",
        "clustercloudeventsources.eventing.keda.sh",
        "clustertriggerauthentications.keda.sh",
        "scaledjobs.keda.sh",
        "scaledobjects.keda.sh",
        "triggerauthentications.keda.sh",
    ),
)
SOURCES = (
    Source(
        "crds",
        "sigs.k8s.io/gateway-api",
        "config/crd/standard",
        (
            "gatewayclasses.gateway.networking.k8s.io",
            "gateways.gateway.networking.k8s.io",
            "grpcroutes.gateway.networking.k8s.io",
            "httproutes.gateway.networking.k8s.io",
            "referencegrants.gateway.networking.k8s.io",
        ),
    ),
    LWS,
    Source(
        "crds",
        "github.com/fluid-cloudnative/fluid",
        "config/crd/bases",
        ("datasets.data.fluid.io", "jindoruntimes.data.fluid.io", "dataloads.data.fluid.io"),
    ),
    METALLB,
    KEDA,
    Source(
        "crds",
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd",
        ("servicemonitors.monitoring.coreos.com",),
    ),
)


def ensure(config: Settings, cluster: Cluster) -> None:
    """Install the definitions and wait until they are served; nothing is fetched or sent when all are there."""
    own = sorted(OWN.glob("*.yaml"))
    pinned = sorted({source.pinned_in for source in SOURCES})
    pins = [FILES / "go" / module / name for module in pinned for name in ("go.mod", "go.sum")]
    content = content_of(repr(SOURCES).encode(), *(file.read_bytes() for file in (*pins, *own)))
    count = sum(len(source.names) for source in SOURCES) + len(own)
    if has_content(cluster, "customresourcedefinitions", content, count=count):
        return
    files = [file for source in SOURCES for file in source.files(module_of(config, source))]
    # The C parser: LeaderWorkerSet's two files alone are 2.8 MB.
    objects = [yaml.load(file.read_bytes(), yaml.CSafeLoader) for file in (*files, *own)]
    apply_content(cluster, objects, content)
    names = [f"customresourcedefinition/{one['metadata']['name']}" for one in objects]
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    say(f"{count} custom resource definitions installed")


def module_of(config: Settings, source: Source) -> Path:
    """The directory of a source's module, fetched when it is missing."""
    return gobuild.module_directory(config, pinned_in=source.pinned_in, module=source.module)


def content_of(*parts: bytes) -> str:
    """A label's value for what objects are made of."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def has_content(cluster: Cluster, kinds: str, content: str, *, count: int) -> bool:
    """Whether so many objects in the cluster were made of just this."""
    # As a table: its rows come without the objects, which are megabytes.
    table = cluster.kubectl(
        "get", kinds, f"--selector={CONTENT_LABEL}={content}", "--no-headers", check=False
    )
    return sum(1 for line in table.splitlines() if line.strip()) == count


def apply_content(cluster: Cluster, objects: list[dict[str, Any]], content: str) -> None:
    """Apply objects and leave on each what it was made of."""
    for one in objects:
        one["metadata"].setdefault("labels", {})[CONTENT_LABEL] = content
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
