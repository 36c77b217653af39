"""The provider's manager of a step's pod, made to look often enough for short pods and to outlast an API server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import KubernetesApiException
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLogsConsumer, PodManager, PodPhase
from urllib3.exceptions import HTTPError

if TYPE_CHECKING:
    from kubernetes.client import V1Pod

LOOK_SECONDS = 0.25
ENDING_SECONDS = 10.0
PATIENCE_SECONDS = 120.0
"""The pod goes on while the API server is away, so that nothing is lost by waiting as long as one takes to start."""


class QuickPodManager(PodManager):
    """Looks often while a pod starts, and while it ends: the provider's looks each second, and every two.

    An API server or a kubelet that is away for a while is no reason to give up a pod that goes on without it. The
    provider takes a pod for failed whose state or log cannot be read for some seconds, or is refused once: an API
    server that starts forbids everything until it has read its roles.
    """

    async def await_pod_start(self, *args: Any, **kwargs: Any) -> None:
        """Wait until the pod runs."""
        await super().await_pod_start(*args, **{**kwargs, "check_interval": LOOK_SECONDS})

    def await_pod_completion(self, pod: V1Pod, *args: Any, **kwargs: Any) -> V1Pod:
        """Return the pod in its final state."""
        wait_in_worker(self, pod, seconds=ENDING_SECONDS)
        return super().await_pod_completion(pod, *args, **kwargs)

    def read_pod(self, pod: V1Pod) -> V1Pod:
        """Return the pod as it is now.

        Raises:
            ApiException: it is gone, or may not be read.
            KubernetesApiException: there was no answer for two minutes.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return super().read_pod(pod)
            except Exception as error:
                if not is_api_error(error) or time.monotonic() > deadline or not _may_pass(error):
                    raise
                self.log.warning(
                    "the pod cannot be looked at for now, trying again: %s", what_api_said(error)
                )
                time.sleep(1)

    def read_pod_logs(self, pod: V1Pod, container_name: str, *args: Any, **kwargs: Any) -> PodLogsConsumer:
        """Follow the log of one of the pod's containers.

        Raises:
            HTTPError: it has ended, and what it said last cannot be read.
            ApiException: the login is refused, or the pod is gone.
        """
        from kubernetes.client import ApiException

        while True:
            try:
                log: PodLogsConsumer = super().read_pod_logs(pod, container_name, *args, **kwargs)
                return log
            except ApiException as error:
                if error.status == 401:
                    raise
                self.log.warning("the pod's log cannot be read for now: %s", what_api_said(error))
                if not self.container_is_running(pod, container_name):
                    raise HTTPError(what_api_said(error)) from error
                time.sleep(1)


def is_api_error(error: BaseException | None) -> bool:
    """Whether it is one of those that the API's clients raise: no answer, or one that is a refusal."""
    from kubernetes.client import ApiException

    return isinstance(error, ApiException | KubernetesApiException | HTTPError)


def what_api_said(error: BaseException) -> str:
    """One line of an error of the API's clients, without the headers."""
    status = getattr(error, "status", None)
    if status:
        return f"the API server answers {status} {getattr(error, 'reason', '') or ''}".strip()
    return " ".join(str(error).split())


def _may_pass(error: BaseException) -> bool:
    """Whether it is worth asking again: the server is away, or does not know its own roles yet."""
    status = int(getattr(error, "status", None) or 0)
    return status in (0, 403, 429) or status >= 500


def wait_in_worker(manager: PodManager, pod: V1Pod, *, seconds: float) -> V1Pod:
    """Wait for a pod's end for some seconds at most, and return how it is then."""
    deadline = time.monotonic() + seconds
    while True:
        pod = manager.read_pod(pod)
        if pod.status.phase in PodPhase.terminal_states or time.monotonic() > deadline:
            return pod
        time.sleep(LOOK_SECONDS)
