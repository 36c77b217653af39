"""The connection to an API server: one request with a timeout, repeated while that can help."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, Protocol

from slipway.cluster.faults import ApiError, UnreachableError
from slipway.cluster.missing import in_ending_namespace, in_no_namespace, namespace_in
from slipway.cluster.transport import (
    CONNECT_SECONDS,
    READ_SECONDS,
    Answer,
    Request,
    checked,
    require_verification,
    unreachable,
)
from slipway.errors import ClusterError, bounded

PATIENCE_SECONDS = 30.0
_FORBIDDEN_PATIENCE_SECONDS = 10.0
MOST_CONNECTIONS = 64
"""The checks of a cluster ask side by side; a smaller pool would open and drop a connection for each request."""

logger = logging.getLogger(__name__)


class SyncApiClient(Protocol):
    """What is used of a ``kubernetes.client.ApiClient``."""

    configuration: Any
    call_api: Any


def client_configuration() -> Any:
    """Return the settings that every client starts from, whatever says how it reaches its cluster."""
    from kubernetes import client  # slow to import: only where a connection is made

    configuration = client.Configuration()
    configuration.retries = False  # the loop in `send` is the only one
    configuration.connection_pool_maxsize = MOST_CONNECTIONS
    return configuration


def client_from_kubeconfig(path: str | Path, *, context: str | None) -> SyncApiClient:
    """Make a client as a kubeconfig says; ``context`` None takes its current one.

    Raises:
        ClusterError: the file cannot be used; nothing is sent to the server here.
    """
    import yaml
    from kubernetes import client, config  # slow to import: only where a connection is made

    configuration = client_configuration()
    try:
        config.load_kube_config(
            config_file=str(path),
            context=context,
            client_configuration=configuration,
            persist_config=False,
        )
    except (config.ConfigException, yaml.YAMLError, OSError, ValueError) as error:
        raise ClusterError(
            "the kubeconfig cannot be used",
            about=f"{path}, context {context}" if context else str(path),
            why=bounded(str(error)),
            remedy="Check the file with: kubectl --kubeconfig FILE config get-contexts",
        ) from error
    api_client: SyncApiClient = client.ApiClient(configuration)
    return api_client


class Connection:
    """Sends requests; safe to use from several threads.

    Args:
        api_client: a configured client; its certificates must be verified.
        patience: for how many seconds a request is tried again.
    """

    def __init__(self, *, api_client: SyncApiClient, patience: float) -> None:
        require_verification(api_client.configuration)
        self._api_client = api_client
        self._patience = patience

    @property
    def server(self) -> str:
        """The address of the API server."""
        return str(self._api_client.configuration.host)

    def settings(self) -> tuple[Any, dict[str, str]]:
        """The client's configuration, and the headers that it sends with each request."""
        return self._api_client.configuration, dict(getattr(self._api_client, "default_headers", {}))

    def send(self, request: Request) -> Answer:
        """Send a request, again and again while the fault is transient and patience lasts.

        Raises:
            ApiError: the server refused it.
            UnreachableError: the server gave no answer.
        """
        started, pause, asked_again = time.monotonic(), 0.25, False
        while True:
            try:
                return self._send_once(request)
            except (ApiError, UnreachableError) as error:
                forbidden = isinstance(error, ApiError) and error.status == 403
                if forbidden and not asked_again and self._is_ready():
                    asked_again = True  # it may have become ready just after the refusal
                    continue
                wait = max(pause, (error.retry_after or 0.0) if isinstance(error, ApiError) else 0.0)
                refused = forbidden and asked_again
                if refused:
                    return self._without_rights(request, error)
                if not _may_pass(error, request) or not self._has_time(started, wait, error):
                    raise
                logger.info("trying again in %.1f s: %s", wait, error)
                time.sleep(wait)
                pause = min(pause * 2, 4.0)

    def _without_rights(self, request: Request, refusal: ApiError | UnreachableError) -> Answer:
        """Answer a refused request as whoever has all rights would be answered, where its namespace is gone.

        A role belongs to its namespace and goes with it: what looks like a missing right is then a missing namespace.

        Raises:
            ApiError: the refusal itself, where the namespace is there; else what the server would say.
        """
        namespace = namespace_in(request.path)
        if namespace is None:
            raise refusal
        path = f"/api/v1/namespaces/{namespace}"
        asked = Request(method="GET", path=path, what="look for the namespace", accept=frozenset({403, 404}))
        found = self._send_once(asked)
        if found.status == 404:
            return in_no_namespace(request, namespace=namespace, now=found.date)
        if found.status == 200 and found.json().get("metadata", {}).get("deletionTimestamp"):
            raise in_ending_namespace(request, namespace=namespace) from refusal
        raise refusal

    def _has_time(self, started: float, wait: float, error: ClusterError) -> bool:
        forbidden = isinstance(error, ApiError) and error.status == 403
        patience = min(self._patience, _FORBIDDEN_PATIENCE_SECONDS) if forbidden else self._patience
        return time.monotonic() - started + wait <= patience

    def _is_ready(self) -> bool:
        """Return whether the server has read its roles and bindings; until then it forbids everything.

        Every authenticated user may ask, by Kubernetes's own role system:public-info-viewer. Where a cluster took
        that away, each refusal costs the patience for it.
        """
        try:
            self._send_once(Request(method="GET", path="/readyz", what="ask whether the server is ready"))
        except (ApiError, UnreachableError):
            return False
        return True

    def _send_once(self, request: Request) -> Answer:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            response = self._api_client.call_api(
                request.path,
                request.method,
                query_params=list(request.query.items()),
                header_params=request.headers,
                body=request.body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
            status, body, headers = response.status, response.data, response.headers
        except AttributeError as error:
            # How the client ends at a TLS fault: it decodes the body of its own exception, which has none.
            if not isinstance(error.__context__, ApiException):
                raise
            raise unreachable(request, host=self.server, error=error) from error
        except ApiException as error:
            body = error.body.encode() if isinstance(error.body, str) else error.body or b""
            status, headers = error.status, error.headers or {}
        except (HTTPError, OSError) as error:
            raise unreachable(request, host=self.server, error=error) from error
        return checked(request, status=int(status), body=body, headers=headers)


def _may_pass(error: ApiError | UnreachableError, request: Request) -> bool:
    """Return whether the same request may succeed in a moment, and may be sent again at all."""
    if isinstance(error, ApiError):
        return error.is_transient or error.status == 403
    return error.is_transient and (request.repeatable or not error.may_have_arrived)
