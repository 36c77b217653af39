"""The include directory that the sandbox's Airflow reads: the checkout's, or a copy that fits a named cluster."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from sandbox.cluster import Cluster
from sandbox.errors import USER_MISTAKE, SandboxError
from sandbox.settings import CHECKOUT, Settings

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def include_directory(config: Settings) -> Path:
    """Where Slipway finds its catalog."""
    return CHECKOUT / "include" if config.native else config.home / "include"


def fit(config: Settings, cluster: Cluster) -> None:
    """Copy the checkout's include directory and let the record of cluster ``sandbox`` say what the named one offers.

    Raises:
        SandboxError: the cluster has no default storage class.
    """
    assert config.registry is not None  # settings ask for it together with the kubeconfig
    target = include_directory(config)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(CHECKOUT / "include", target)
    path = target / "catalog" / "clusters" / "sandbox.yaml"
    record: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    host = config.registry.removeprefix("http://").removeprefix("https://").rstrip("/")
    record["registry"] = f"{host}/slipway"
    record["repositories"] = [f"{host}/slipway/"]
    record["storage"]["storage_class"] = _default_class(cluster)
    # The Gateway and the load balancers are the native node's.
    for part in (record, record.get("setup", {})):
        for key in ("gateway", "load_balancers", "address_pools", "address_pool_namespace"):
            part.pop(key, None)
    (target / "catalog" / "endpoints" / "qwen3-tiny-published.yaml").unlink(missing_ok=True)
    path.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")


def _default_class(cluster: Cluster) -> str:
    classes = json.loads(cluster.kubectl("get", "storageclasses", "-o", "json"))["items"]
    for item in classes:
        if (item["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true":
            return str(item["metadata"]["name"])
    names = ", ".join(item["metadata"]["name"] for item in classes) or "none"
    raise SandboxError(
        f"the cluster has no default storage class (it has: {names}); mark one: kubectl annotate storageclass NAME "
        f"{DEFAULT_CLASS}=true",
        status=USER_MISTAKE,
    )
