"""Waiting, without a worker, until pods that were told to end have drained and are gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway.operators.connections import opener_of

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
        """Watch them; an API server that is away for a while is asked again."""
        from slipway.cluster.shared import seat
        from slipway.cluster.watch import wait_until_gone

        async with seat(self.connection, self.namespace, opener=opener_of(self.connection)) as taken:
            left = await wait_until_gone(
                taken,
                namespace=self.namespace,
                endpoint=self.endpoint_object,
                but_release=self.but_release,
                seconds=self.seconds,
                say=lambda line: self.log.info("%s", line),
            )
        yield TriggerEvent({"left": left})
