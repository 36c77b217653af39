"""The registry: every check as data and one function, by what it is about."""

from __future__ import annotations

from slipway.checks.check import Check
from slipway.checks.registry.clusters import API, CLUSTERS
from slipway.checks.registry.endpoints import ENDPOINTS
from slipway.checks.registry.nodes import NODES
from slipway.checks.registry.trials import TRIALS

__all__ = ["API", "CHECKS"]

CHECKS: tuple[Check, ...] = (*CLUSTERS, *NODES, *ENDPOINTS, *TRIALS)
