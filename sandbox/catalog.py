"""The include directory that the sandbox's Airflow reads: links to the checkout's, or a copy for a named cluster."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from sandbox.cluster import Cluster
from sandbox.errors import USER_MISTAKE, SandboxError
from sandbox.settings import CHECKOUT, Settings

DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


def include_directory(config: Settings) -> Path:
    """Where Slipway finds its catalog: in the sandbox's home, so that tests can put another one in its place."""
    return config.home / "include"


def link(config: Settings) -> None:
    """Let each folder of the include directory be the checkout's."""
    target = include_directory(config)
    target.mkdir(parents=True, exist_ok=True)
    for folder in ("catalog", "images", "schemas", "templates"):
        lead(target / folder, to=CHECKOUT / "include" / folder)


def lead(path: Path, *, to: Path) -> None:
    """Make a path a link, at one stroke whatever link it was before; a folder that it was is deleted."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(to)
    new.replace(path)


@contextmanager
def with_records(
    config: Settings, records: Mapping[str, Mapping[str, Any]], *, folder: Path
) -> Iterator[None]:
    """Let Airflow read the checkout's catalog with further records, until the end.

    The checkout stays as it is, also when whoever needs them is killed; then the next ``up`` mends the link.

    Args:
        config: the sandbox's.
        records: by ``folder/name``, without their names.
        folder: where the catalog can lie meanwhile.
    """
    shutil.copytree(CHECKOUT / "include" / "catalog", folder / "catalog")
    for path, record in records.items():
        text = yaml.safe_dump({"name": Path(path).name, **record}, sort_keys=False)
        (folder / "catalog" / f"{path}.yaml").write_text(text, encoding="utf-8")
    lead(include_directory(config) / "catalog", to=folder / "catalog")
    try:
        yield
    finally:
        lead(include_directory(config) / "catalog", to=CHECKOUT / "include" / "catalog")


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
    # The Gateway, the load balancers and Prometheus are the native node's.
    for part in (record, record.get("setup", {})):
        for key in ("gateway", "load_balancers", "monitoring", "address_pools", "address_pool_namespace"):
            part.pop(key, None)
    for name in ("qwen3-tiny-by-load", "qwen3-tiny-published"):
        (target / "catalog" / "endpoints" / f"{name}.yaml").unlink(missing_ok=True)
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
