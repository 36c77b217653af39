"""The records of the catalog. Each is one YAML file in ``include/catalog/<folder>``, named like the file.

The words are the project's: a model is weights, a program is what serves and what is known of its arguments, a
runtime is a program's image and how it is started, an accelerator is a device kind as a cluster offers it, an
endpoint joins them in a namespace of a cluster, a workload is a load for benchmarks. Unknown keys are refused
everywhere, so that a typing error is found before anything runs.
"""

from __future__ import annotations

from slipway.catalog.records.accelerators import Accelerator, AcceleratorChange, Refusal, SharedMemory
from slipway.catalog.records.clusters import (
    Cluster,
    Gateway,
    IngressClass,
    Listener,
    LoadBalancers,
    Monitoring,
    ObjectStore,
    OssStore,
    Storage,
)
from slipway.catalog.records.endpoints import (
    ApiKey,
    Autoscaling,
    Dataset,
    Endpoint,
    Exposure,
    Fluid,
    IngressExposure,
    NetworkRule,
    Parallel,
    Placement,
    Resources,
    RouteExposure,
    ServiceExposure,
    Share,
    StaticVolume,
    Volume,
)
from slipway.catalog.records.fields import (
    SOURCE_SCHEMES,
    AcceleratorKind,
    Argument,
    ImageReference,
    KubernetesObject,
    Name,
    PodSecurity,
    Record,
    Revision,
    Source,
    Task,
    Toleration,
)
from slipway.catalog.records.models import Architecture, LatentAttention, Model
from slipway.catalog.records.runtimes import ArgumentRule, BuiltImage, Program, Runtime
from slipway.catalog.records.setup import (
    AddressPool,
    Chart,
    GatewayApi,
    NamespaceSetup,
    NfsExport,
    NodeChoice,
    Rights,
    Route,
    SecretSource,
    Setup,
)
from slipway.catalog.records.strategies import Canary, Strategy
from slipway.catalog.records.workloads import Workload

__all__ = [
    "SOURCE_SCHEMES",
    "Accelerator",
    "AcceleratorChange",
    "AcceleratorKind",
    "AddressPool",
    "ApiKey",
    "Architecture",
    "Argument",
    "ArgumentRule",
    "Autoscaling",
    "BuiltImage",
    "Canary",
    "Chart",
    "Cluster",
    "Dataset",
    "Endpoint",
    "Exposure",
    "Fluid",
    "Gateway",
    "GatewayApi",
    "ImageReference",
    "IngressClass",
    "IngressExposure",
    "KubernetesObject",
    "LatentAttention",
    "Listener",
    "LoadBalancers",
    "Model",
    "Monitoring",
    "Name",
    "NamespaceSetup",
    "NetworkRule",
    "NfsExport",
    "NodeChoice",
    "ObjectStore",
    "OssStore",
    "Parallel",
    "Placement",
    "PodSecurity",
    "Program",
    "Record",
    "Refusal",
    "Resources",
    "Revision",
    "Rights",
    "Route",
    "RouteExposure",
    "Runtime",
    "SecretSource",
    "ServiceExposure",
    "Setup",
    "Share",
    "SharedMemory",
    "Source",
    "StaticVolume",
    "Storage",
    "Strategy",
    "Task",
    "Toleration",
    "Volume",
    "Workload",
]
