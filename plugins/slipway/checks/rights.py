"""What a right is, and those with which the checks of a whole cluster read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Verbs on resources of one API group.

    Attributes:
        why: what needs it.
        names: the only objects it is needed for; any when empty.
        needed: whether the main job fails without it.
    """

    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    group: str = ""
    names: tuple[str, ...] = ()
    needed: bool = True


def _look(group: str, *resources: str, why: str, names: tuple[str, ...] = ()) -> Rule:
    return Rule(group=group, resources=resources, verbs=("get", "list"), why=why, names=names, needed=False)


DEFINITIONS = _look(
    "apiextensions.k8s.io", "customresourcedefinitions", why="which version of an API is installed"
)
QUOTAS = _look("", "resourcequotas", "limitranges", why="whether the namespace lets the pods in")
PROGRAMS = _look("apps", "deployments", "daemonsets", why="whether controllers and device plugins run")
WEBHOOKS = _look(
    "admissionregistration.k8s.io",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    why="whether a webhook that sees our pods can answer",
)
SERVICES = _look("", "services", why="addresses of load balancers, and Services that routes lead to")
SLICES = _look("discovery.k8s.io", "endpointslices", why="whether a Service leads to a ready pod")
DRIVERS = _look("storage.k8s.io", "csidrivers", why="whether a storage class has its driver")
GATEWAYS = _look(
    "gateway.networking.k8s.io",
    *("gatewayclasses", "gateways", "httproutes"),
    why="whether the Gateway takes routes and has an address",
)
NODE_LEASES = _look("coordination.k8s.io", "leases", why="whether the nodes' clocks are right")
POOLS = _look("metallb.io", "ipaddresspools", why="whether addresses are left")
FLUID_STATE = _look(
    "data.fluid.io", "datasets", "jindoruntimes", why="the state of data sets and their cache"
)
DATASET_STATE = _look("dataset.baizeai.io", "datasets", why="the state of data sets")
HYDRA_CONFIG = _look(
    "", "configmaps", names=("hydra-agent", "hydra"), why="what Hydra and its agent are configured as"
)

INFRASTRUCTURE_RULES: tuple[Rule, ...] = (
    *(DEFINITIONS, QUOTAS, PROGRAMS, WEBHOOKS, SERVICES, SLICES, DRIVERS, GATEWAYS, POOLS, NODE_LEASES),
    *(FLUID_STATE, DATASET_STATE, HYDRA_CONFIG),
)
"""What only the checks of a whole cluster read. Nothing fails without them: what cannot be read is "not checked"."""
