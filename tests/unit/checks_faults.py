"""All faults as data: how each is made in a healthy cluster, and what must be found; what else shows, what hides."""

from __future__ import annotations

from tests.unit import checks_faults_network, checks_faults_nodes, checks_faults_objects
from tests.unit.checks_broken import Fault

FAULTS: dict[str, Fault] = {
    **checks_faults_objects.FAULTS,
    **checks_faults_nodes.FAULTS,
    **checks_faults_network.FAULTS,
}


# Checks of an endpoint that rightly stop at the same fault.
CONSEQUENCES = {
    "all nodes closed": {"cards"},
    "Gateway without address": {"names"},
    "class of one node": {"classes"},
    "HAMi's webhook down": {"webhooks"},
}

# By fault: those that cannot be seen beside it, because it takes away where they would show.
HIDDEN: dict[str, set[str]] = {
    "all nodes closed": {"full nodes"},
    "storage class gone": {"claim not bound"},
    "node not ready": {"a node's clock ahead", "a node's clock far behind"},
    "node silent": {"a node's clock ahead", "a node's clock far behind"},
    "no card offered": {"old driver", "old CUDA", "driver unknown", "simulated cards as real"},
    "taint": {"old CUDA", "simulated cards as real"},
    "simulated cards as real": {"old driver", "driver unknown"},
    "Fluid's webhook gone": {"webhook down"},
    "no namespace": {"HAMi passes over the namespace"},
}


# By fault: what mends it is no command that could be run here: a look at what failed, a person's choice, a record.
ADVICE: set[str] = {
    "namespace ends",
    "node not ready",
    "node silent",
    "disk pressure",
    "memory pressure",
    "no network",
    "old kernel",
    "kubelet newer",
    "kubelet too old",
    "no card offered",
    "full nodes",
    "old driver",
    "old CUDA",
    "driver unknown",
    "MIG single",
    "simulated cards as real",
    "HAMi's scheduler down",
    "device plugin down",
    "device plugin partly down",
    "device plugin for no node",
    "webhook down",
    "class of one node",
    "CRD without a version",
    "CRD not established",
    "class of Gateways gone",
    "class not accepted",
    "class that nobody looked at",
    "Gateway not programmed",
    "Gateway without address",
    "Gateway's last change not seen",
    "listener not resolved",
    "listener not programmed",
    "route not accepted",
    "route nobody looks at",
    "service gone",
    "service of another port",
    "service without endpoints",
    "no address from the load balancer",
    "pool used up",
    "pool that says nothing",
    "MetalLB down",
    "LeaderWorkerSet's controller down",
    "KEDA down",
    "Prometheus operator not found",
    "agent down",
    "data set failed",
    "Fluid down",
    "claim not bound",
    "claim lost",
    "claim of one node",
    "claim of another class",
    "claim is being deleted",
    "a node's clock ahead",
    "a node's clock far behind",
    "HAMi's webhook down",
    "node port of another Service",
    "cache not ready",
    "Hydra down",
    "Istio down",
    "Istio not found",
    "Hydra's MySQL down",
    "Hydra's MySQL gone",
    "Hydra's Redis down",
    "Hydra's Redis of another port",
    "Hydra names no Redis",
}
