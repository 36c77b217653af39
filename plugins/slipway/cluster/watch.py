"""Waiting for a workload, for an Airflow trigger (asyncio) and for a terminal: two drivers of the same steps."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from slipway.cluster.client import Cluster
from slipway.cluster.transport import (
    CONNECT_SECONDS,
    READ_SECONDS,
    Answer,
    Request,
    checked,
    require_verification,
    unreachable,
)
from slipway.cluster.verdict import Limits, Verdict
from slipway.cluster.waiting import Pause, Report, Target, waiting
from slipway.errors import ClusterError

Progress = Callable[[str], Awaitable[None] | None]


class AsyncApiClient(Protocol):
    """What is used of a ``kubernetes_asyncio.client.ApiClient``."""

    configuration: Any

    @property
    def call_api(self) -> Any:
        """Send a request; a coroutine function."""


async def wait_for_workload(
    api_client: AsyncApiClient,
    *,
    kind: str,
    namespace: str,
    name: str,
    release: str,
    endpoint: str,
    deadline_seconds: float,
    on_progress: Progress | None = None,
    limits: Limits | None = None,
) -> Verdict:
    """Wait until a workload is available, or until it is known why it never will be.

    Args:
        api_client: of ``kubernetes_asyncio``; it stays open.
        kind: StatefulSet, Deployment or LeaderWorkerSet.
        namespace: of the workload.
        name: of the workload.
        release: the value of the release label that it must come up with.
        endpoint: the value of the endpoint label of its pods.
        deadline_seconds: when to give up. Then the verdict is doomed with reason DeadlineExceeded.
        on_progress: told one line whenever something changes.
        limits: patience with what often mends itself.

    Returns:
        A verdict that is available or doomed, never progressing.

    Raises:
        ClusterError: the cluster refuses the question (no permission), or gave no answer for three minutes.
    """
    require_verification(api_client.configuration)
    target = Target(
        kind=kind,
        namespace=namespace,
        name=name,
        release=release,
        endpoint=endpoint,
        limits=limits or Limits(),
    )
    steps = waiting(target, deadline_seconds=deadline_seconds)
    answer: Answer | None = None
    error: ClusterError | None = None
    while True:
        try:
            step = steps.throw(error) if error else steps.send(answer)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        answer, error = None, None
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Report):
            told = on_progress(step.what) if on_progress else None
            if inspect.isawaitable(told):
                await told
        else:
            try:
                answer = await _ask(api_client, step)
            except ClusterError as failed:
                error = failed


def wait_for_workload_sync(
    cluster: Cluster,
    *,
    kind: str,
    namespace: str,
    name: str,
    release: str,
    endpoint: str,
    deadline_seconds: float,
    on_progress: Callable[[str], None] | None = None,
    limits: Limits | None = None,
) -> Verdict:
    """Wait as ``wait_for_workload`` does, in this thread."""
    target = Target(
        kind=kind,
        namespace=namespace,
        name=name,
        release=release,
        endpoint=endpoint,
        limits=limits or Limits(),
    )
    steps = waiting(target, deadline_seconds=deadline_seconds)
    answer: Answer | None = None
    error: ClusterError | None = None
    while True:
        try:
            step = steps.throw(error) if error else steps.send(answer)
        except StopIteration as end:
            verdict: Verdict = end.value
            return verdict
        answer, error = None, None
        if isinstance(step, Pause):
            time.sleep(step.seconds)
        elif isinstance(step, Report):
            if on_progress:
                on_progress(step.what)
        else:
            try:
                answer = cluster.send(step)
            except ClusterError as failed:
                error = failed


async def _ask(api_client: AsyncApiClient, request: Request) -> Answer:
    import aiohttp

    host = str(api_client.configuration.host)
    try:
        response = await api_client.call_api(
            request.path,
            request.method,
            query_params=list(request.query.items()),
            header_params=request.headers,
            body=request.body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=(CONNECT_SECONDS, READ_SECONDS),
        )
        body = await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise unreachable(request, host=host, error=error) from error
    return checked(request, status=response.status, body=body, headers=response.headers)
