"""A connection as a kubeconfig, for programs that read nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from slipway.cluster.client import Cluster


@contextmanager
def kubeconfig_file(cluster: Cluster) -> Iterator[Path]:
    """Write a kubeconfig that reaches the cluster as this connection does, readable by its owner, for as long as asked.

    Whatever the connection was made from (a file, an inline kubeconfig, a pod's own account), the client's settled
    configuration is what counts, so that a program acts as the very same user. A token that the client renews is the
    one of this moment.
    """
    with TemporaryDirectory(prefix="slipway-kubeconfig-") as directory:
        path = Path(directory) / "config"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(_content(cluster)), encoding="utf-8")
        yield path


def _content(cluster: Cluster) -> dict[str, Any]:
    settings, headers = cluster.client_settings()
    server: dict[str, Any] = {"server": settings.host}
    if settings.ssl_ca_cert:
        server["certificate-authority-data"] = _encoded(settings.ssl_ca_cert)
    if getattr(settings, "tls_server_name", None):
        server["tls-server-name"] = settings.tls_server_name
    if settings.proxy:
        server["proxy-url"] = settings.proxy
    user: dict[str, Any] = {}
    if settings.cert_file:
        user["client-certificate-data"] = _encoded(settings.cert_file)
    if settings.key_file:
        user["client-key-data"] = _encoded(settings.key_file)
    token = settings.get_api_key_with_prefix("authorization") or settings.get_api_key_with_prefix(
        "BearerToken"
    )
    if token:
        user["token"] = token.removeprefix("Bearer ")
    if "Impersonate-User" in headers:
        user["as"] = headers["Impersonate-User"]
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "slipway",
        "contexts": [{"name": "slipway", "context": {"cluster": "slipway", "user": "slipway"}}],
        "clusters": [{"name": "slipway", "cluster": server}],
        "users": [{"name": "slipway", "user": user}],
    }


def _encoded(file: str) -> str:
    return base64.b64encode(Path(file).read_bytes()).decode()
