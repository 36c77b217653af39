"""Checks that make pods to try things out, for whoever asks."""

from __future__ import annotations

from slipway.checks import rights
from slipway.checks.check import Check
from slipway.checks.reach import check_reach
from slipway.checks.volumes import check_volumes

TRIALS: tuple[Check, ...] = (
    Check(
        id="volume",
        title="a volume can be bound, written and read by two pods",
        scope="cluster",
        function=check_volumes,
        asked=("active",),
        remedy="kubectl describe storageclass",
        deadline=600,
    ),
    Check(
        id="reach",
        title="pods reach DNS, registry, Gateway and sources",
        scope="cluster",
        function=check_reach,
        asked=("active",),
        remedy="Open the way from the cluster's pods",
        rights=(rights.GATEWAYS,),
        deadline=300,
    ),
)
