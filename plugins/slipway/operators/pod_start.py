"""Why a step's pod does not start: known while it is waited for, and not only when its time is over."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.triggers.pod import ContainerState, KubernetesPodTrigger
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException
from airflow.sdk import Connection

from slipway.cluster.objects import Object
from slipway.cluster.verdict import Doom, Limits
from slipway.errors import SlipwayError
from slipway.operators.connections import open_cluster

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster

LOOK_SECONDS = 5.0
PATIENCE = Limits(unschedulable=300)
"""Steps' pods ask for little, so that a full node lets them in sooner than it would a serving pod."""


class StepPodTrigger(KubernetesPodTrigger):
    """The provider's trigger, which also ends as soon as it is known that the pod will never start.

    The provider itself knows of images alone, and waits for all else until its time is over.
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow stores to start the trigger again after a restart."""
        return f"{type(self).__module__}.{type(self).__name__}", super().serialize()[1]

    async def _wait_for_pod_start(self) -> ContainerState:
        start = asyncio.ensure_future(super()._wait_for_pod_start())
        cluster: Cluster | None = None
        try:
            while not (await asyncio.wait({start}, timeout=LOOK_SECONDS))[0]:
                cluster = cluster or await self._open()
                doom = await asyncio.to_thread(self._look, cluster)
                if doom is not None:
                    raise PodLaunchTimeoutException(str(doom.error()))
        finally:
            start.cancel()
        return await start

    async def _open(self) -> Cluster:
        connection = str(self.kubernetes_conn_id)
        extra = (await Connection.async_get(connection)).extra_dejson
        return await asyncio.to_thread(open_cluster, connection, extra)

    def _look(self, cluster: Cluster) -> Doom | None:
        try:
            return step_doom(cluster, namespace=self.pod_namespace, name=self.pod_name)
        except SlipwayError as error:
            self.log.info("asking again: %s", error)
            return None


def step_doom(cluster: Cluster, *, namespace: str, name: str) -> Doom | None:
    """Why a step's pod will never start, or None while it may."""
    from slipway.cluster.pods import claim_names, pod_doom

    pod = cluster.get(api_version="v1", kind="Pod", namespace=namespace, name=name)
    if pod is None or pod.get("status", {}).get("phase") != "Pending":
        return None
    events, claims = list[Object](), list[Object]()
    for claim in claim_names(pod):
        found = cluster.get(api_version="v1", kind="PersistentVolumeClaim", namespace=namespace, name=claim)
        claims += [found] if found else []
    for about in (name, *claim_names(pod)):
        fields = f"involvedObject.name={about}"
        events += cluster.list(api_version="v1", kind="Event", namespace=namespace, field_selector=fields)
    return pod_doom(pod, events, claims, limits=PATIENCE, now=datetime.now(UTC))
