"""Waiting, without a worker, until pods that were told to end have drained and are gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway.catalog.names import ENDPOINT_LABEL, RELEASE_LABEL

GONE_MARGIN_SECONDS = 120
"""Longer than a pod may drain; then it is killed anyway."""


class PodsGoneTrigger(BaseTrigger):
    """Wait until no serving pod of an endpoint is left; they may drain for a while.

    Args:
        connection: the Airflow connection of the cluster.
        namespace: the endpoint's namespace.
        endpoint_object: its object name.
        seconds: for how long to wait.
        but_release: pods of the release with this label stay.
    """

    KEYS = ("connection", "namespace", "endpoint_object", "seconds", "but_release")

    def __init__(
        self,
        *,
        connection: str,
        namespace: str,
        endpoint_object: str,
        seconds: float,
        but_release: str | None = None,
    ) -> None:
        super().__init__()
        self.connection, self.namespace = connection, namespace
        self.endpoint_object, self.seconds, self.but_release = endpoint_object, seconds, but_release

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What Airflow stores to start the trigger again after a restart."""
        return f"{type(self).__module__}.{type(self).__name__}", {
            key: getattr(self, key) for key in self.KEYS
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look each second; an API server that is away for a while is asked again."""
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook
        from kubernetes_asyncio.client import ApiException, CoreV1Api

        deadline, left = time.monotonic() + self.seconds, ["unknown"]
        others = f",{RELEASE_LABEL}!={self.but_release}" if self.but_release else ""
        selector = f"{ENDPOINT_LABEL}={self.endpoint_object},{RELEASE_LABEL}{others}"
        async with AsyncKubernetesHook(conn_id=self.connection).get_conn() as client:
            while left and time.monotonic() < deadline:
                try:
                    pods = await CoreV1Api(client).list_namespaced_pod(
                        self.namespace, label_selector=selector
                    )
                    left = [pod.metadata.name for pod in pods.items]
                except (ApiException, OSError) as error:
                    self.log.info("asking again: %s", error)
                await asyncio.sleep(1)
        yield TriggerEvent({"left": left})
