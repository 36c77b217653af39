"""From an Airflow connection to a cluster, in workers and in the triggerer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException

from slipway.errors import ClusterError, UsageError

if TYPE_CHECKING:
    from slipway.cluster.client import Cluster
    from slipway.cluster.shared import AsyncApiClient, Opener


def cluster_of(connection: str) -> Cluster:
    """Open the cluster of an Airflow connection; for workers.

    Raises:
        UsageError: there is no such connection, or its extras do not name one way to the API.
        ClusterError: the kubeconfig that it names cannot be used.
    """
    try:
        extra = Connection.get(connection).extra_dejson
    except AirflowNotFoundException as error:
        raise _no_connection(connection) from error
    return open_cluster(connection, extra)


def _no_connection(connection: str) -> UsageError:
    return UsageError(
        "no such Airflow connection",
        about=connection,
        remedy="Make a connection of type kubernetes with this id (Admin, Connections), or set "
        f"AIRFLOW_CONN_{connection.upper()}",
    )


def opener_of(connection: str) -> Opener:
    """What opens the cluster of an Airflow connection in the triggerer, by the provider's own hook."""

    def open_client() -> AbstractAsyncContextManager[AsyncApiClient]:
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook

        client: AbstractAsyncContextManager[AsyncApiClient] = AsyncKubernetesHook(
            conn_id=connection
        ).get_conn()
        return client

    return open_client


def open_cluster(connection: str, extra: Mapping[str, Any]) -> Cluster:
    """Open a cluster from a connection's extras, without the provider's hook, whose import costs a second.

    Raises:
        UsageError: the extras do not name exactly one way to the API.
        ClusterError: the kubeconfig cannot be read.
    """
    from kubernetes import client, config
    from kubernetes.config import ConfigException

    from slipway.cluster.client import Cluster
    from slipway.cluster.connection import client_configuration

    in_cluster = extra.get("in_cluster") is True
    keys = ("kube_config_path", "kube_config", "cluster_context")
    path, inline, context = (extra.get(key) or None for key in keys)
    if sum(map(bool, (in_cluster, path, inline))) != 1:
        raise UsageError(
            "the Airflow connection does not say how to reach the cluster",
            about=connection,
            remedy="Set exactly one of in_cluster (a JSON boolean), kube_config, kube_config_path",
        )
    settings = client_configuration()
    try:
        if in_cluster:
            config.load_incluster_config(client_configuration=settings)
        elif path:
            config.load_kube_config(config_file=path, context=context, client_configuration=settings)
        else:
            content = json.loads(inline) if isinstance(inline, str) else inline
            config.load_kube_config_from_dict(content, context=context, client_configuration=settings)
    except (ConfigException, OSError, ValueError) as error:
        raise ClusterError(
            "the kubeconfig cannot be used", about=f"connection {connection}", why=str(error)
        ) from error
    return Cluster.from_api_client(client.ApiClient(settings))


def credentials_of(connection: str) -> Mapping[str, str]:
    """Read what an Airflow connection holds.

    Raises:
        UsageError: there is no such connection.
    """
    from slipway.prepare.target import parts_of

    try:
        found = Connection.get(connection)
    except AirflowNotFoundException as error:
        raise UsageError(
            "no such Airflow connection",
            about=connection,
            remedy="Make it (Admin, Connections), or correct its name in the cluster's record",
        ) from error
    own = {name: getattr(found, name) for name in ("login", "password", "host", "schema", "port")}
    return parts_of(own, found.extra_dejson)
