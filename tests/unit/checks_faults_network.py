"""Faults of the Gateway API, of routes, load balancers and their pools."""

from __future__ import annotations

from tests.unit import checks_snapshot as snapshot
from tests.unit.checks_broken import Fault, change, listener_state, silent, state, tls, without

FAULTS: dict[str, Fault] = {
    "CRD missing": (
        without("CustomResourceDefinition", "referencegrants.gateway.networking.k8s.io"),
        *("gateway-api", "referencegrants", "not installed", "blocking"),
    ),
    "CRD too old": (
        change(
            *("CustomResourceDefinition", "httproutes.gateway.networking.k8s.io"),
            "metadata|annotations|gateway.networking.k8s.io/bundle-version",
            "v1.1.0",
        ),
        *("gateway-api", "httproutes", "older than 1.2.1", "blocking"),
    ),
    "CRD without a version": (
        change(
            *("CustomResourceDefinition", "gateways.gateway.networking.k8s.io"),
            "metadata|annotations|gateway.networking.k8s.io/bundle-version",
            None,
        ),
        *("gateway-api", "gateways.", "names no version", "not checked"),
    ),
    "CRD not established": (
        state("CustomResourceDefinition", "gateways.gateway.networking.k8s.io", "Established"),
        *("gateway-api", "gateways.", "not established", "blocking"),
    ),
    "class of Gateways gone": (
        without("GatewayClass", "eg"),
        "gateways",
        "GatewayClass eg",
        "no such class",
        "blocking",
    ),
    "class not accepted": (
        state("GatewayClass", "eg", "Accepted"),
        "gateways",
        "eg",
        "not accepted",
        "blocking",
    ),
    "class that nobody looked at": (
        change("GatewayClass", "eg", "status|conditions", []),
        *("gateways", "eg", "no controller has looked at it", "blocking"),
    ),
    "Gateway not programmed": (
        state("Gateway", "gateway", "Programmed"),
        "gateways",
        "gateway",
        "not programmed",
        "blocking",
    ),
    "Gateway without address": (
        change("Gateway", "gateway", "status|addresses", []),
        *("gateways", "Gateway gateways/gateway", "has no address", "blocking"),
    ),
    "Gateway's last change not seen": (
        change("Gateway", "gateway", "metadata|generation", 7),
        *("gateways", "Gateway gateways/gateway", "latest change", "warning"),
    ),
    "listener gone": (
        change("Gateway", "gateway", "spec|listeners|1", None),
        *("gateways", "listener https", "no such listener", "blocking"),
    ),
    "listener not resolved": (
        listener_state("ResolvedRefs"),
        "gateways",
        "listener https",
        "ResolvedRefs is False",
        "blocking",
    ),
    "listener not programmed": (
        listener_state("Programmed"),
        "gateways",
        "listener https",
        "Programmed is False",
        "blocking",
    ),
    "certificate expired": (tls(days=-3), "gateways", "certificate of", "expired 3 days ago", "blocking"),
    "certificate ends soon": (tls(days=5), "gateways", "certificate of", "5 more days", "warning"),
    "certificate of another host": (
        tls(names=("other.example",)),
        *("gateways", "certificate of", "for other.example, not for *.models.example", "blocking"),
    ),
    "certificate's chain broken": (
        tls(broken_chain=True),
        "gateways",
        "certificate of",
        "chain is broken",
        "blocking",
    ),
    "certificate gone": (
        without("Secret", "models-tls"),
        "gateways",
        "certificate of",
        "no Secret",
        "blocking",
    ),
    "certificate without key": (
        change("Secret", "models-tls", "data|tls.key", None),
        *("gateways", "certificate of", "has no tls.key", "blocking"),
    ),
    "certificate is none": (
        change("Secret", "models-tls", "data|tls.crt", snapshot.encoded("hello")),
        *("gateways", "certificate of", "is no certificate", "blocking"),
    ),
    "route not accepted": (
        change(
            *("HTTPRoute", "qwen", "status|parents|0|conditions"),
            [{"type": "Accepted", "status": "False", "message": "NotAllowedByListeners"}],
        ),
        *("routes", "models/qwen", "Accepted is False: NotAllowedByListeners", "blocking"),
    ),
    "route nobody looks at": (
        change("HTTPRoute", "qwen", "status|parents", []),
        *("routes", "models/qwen", "says nothing of it", "blocking"),
    ),
    "cluster's own route gone": (
        without("HTTPRoute", "hydra-agent-knoway"),
        *("routes", "hydra-agent-knoway", "no such route", "blocking"),
    ),
    "route leads elsewhere": (
        change("HTTPRoute", "hydra-agent-knoway", "spec|rules|0|backendRefs|0|port", 9090),
        *(
            "routes",
            "hydra-agent-knoway",
            "does not lead to Service hydra-system/knoway-gateway:8080",
            "blocking",
        ),
    ),
    "service gone": (without("Service", "knoway-gateway"), "routes", "knoway", "is not there", "blocking"),
    "service of another port": (
        change("Service", "knoway-gateway", "spec|ports|0|port", 80),
        *("routes", "knoway", "leads to port 8080", "blocking"),
    ),
    "service without endpoints": (
        silent("knoway-gateway"),
        "routes",
        "knoway",
        "leads to no ready pod",
        "warning",
    ),
    "no address from the load balancer": (
        change("Service", "qwen-public", "status", {}),
        *("balancers", "qwen-public", "no load balancer has given it an address", "blocking"),
    ),
    "pool gone": (without("IPAddressPool", "pool"), "balancers", "pool", "no such pool", "blocking"),
    "pool used up": (
        change("IPAddressPool", "pool", "status|availableIPv4", 0),
        *("balancers", "pool", "none of 10 addresses is left", "blocking"),
    ),
    "pool that says nothing": (
        change("IPAddressPool", "pool", "status", {}),
        *("balancers", "pool", "10 addresses; its status does not say", "not checked"),
    ),
    "MetalLB down": (
        change("Deployment", "controller", "status|readyReplicas", 0),
        *("balancers", "MetalLB", "0 of 1", "blocking"),
    ),
    "node port of another Service": (
        lambda objects: [
            *objects,
            snapshot.obj(
                *("v1", "Service", "thief"),
                namespace="elsewhere",
                spec={"type": "NodePort", "ports": [{"port": 1, "nodePort": 30080}]},
            ),
        ],
        *("balancers", "qwen-nodes", "node port 30080 is Service elsewhere/thief's", "blocking"),
    ),
    "no node port": (
        change("Service", "qwen-nodes", "spec", {"type": "ClusterIP", "ports": [{"port": 8000}]}),
        *("balancers", "qwen-nodes", "no node port", "blocking"),
    ),
}
