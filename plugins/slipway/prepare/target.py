"""The cluster that is prepared, and what a step may use."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from slipway.catalog.read import Catalog
from slipway.catalog.records import Cluster as Record
from slipway.checks.subject import Credentials
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from slipway.errors import UsageError
from slipway.manifests.cluster_objects import cluster_record, render_cluster

PACKAGES_VARIABLE = "SLIPWAY_PACKAGES"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A cluster, its record, and what its steps may use.

    Attributes:
        catalog: all records.
        include: the include directory.
        cluster: the live API, as somebody who may set it up.
        credentials: how connections are read.
        packages: the directory of offline packages; None where none is mounted.
        take_over: whether fields that other managers hold are taken over.
    """

    catalog: Catalog
    include: Path
    record: Record
    cluster: Cluster
    credentials: Credentials
    packages: Path | None = None
    take_over: bool = False
    _rendered: dict[str, list[Object]] = field(default_factory=dict, repr=False)

    def objects(self, *kinds: str) -> list[Object]:
        """Return those of the cluster's own objects that have one of these kinds."""
        if "all" not in self._rendered:
            self._rendered["all"] = render_cluster(self.catalog, self.record.name, include=self.include)
        return [one for one in self._rendered["all"] if one["kind"] in kinds]


def target_of(
    catalog: Catalog,
    name: str,
    *,
    include: Path,
    cluster: Cluster,
    credentials: Credentials,
    take_over: bool = False,
) -> Target:
    """Describe what is to be prepared.

    Raises:
        UsageError: no such cluster, or the packages directory that the environment names is not there.
    """
    return Target(
        catalog=catalog,
        include=include,
        record=cluster_record(catalog, name),
        cluster=cluster,
        credentials=credentials,
        packages=packages_directory(),
        take_over=take_over,
    )


def packages_directory() -> Path | None:
    """Return the directory of offline packages, None where none is named.

    Raises:
        UsageError: it is not there.
    """
    named = os.environ.get(PACKAGES_VARIABLE)
    if not named:
        return None
    if not Path(named).is_dir():
        raise UsageError(
            "the directory of packages is not there",
            about=f"{PACKAGES_VARIABLE}={named}",
            remedy="Mount it, or unset the variable",
        )
    return Path(named)


def package(target: Target, name: str) -> Path:
    """Return a file or directory of the packages directory.

    Raises:
        UsageError: there is no such directory, or nothing of this name in it.
    """
    if target.packages is None:
        raise UsageError(
            "there is no directory of packages",
            about=name,
            why=f"{PACKAGES_VARIABLE} is not set",
            remedy=f"Put {name} into a directory and name that in {PACKAGES_VARIABLE}",
        )
    path = target.packages / name
    if not path.exists():
        raise UsageError(
            "the package is not there",
            about=str(path),
            remedy=f"Put it into the directory that {PACKAGES_VARIABLE} names",
        )
    return path


def environment_credentials(connection: str) -> Mapping[str, str]:
    """Read a connection from ``AIRFLOW_CONN_<ID>``, as JSON or as a URI: how a terminal has connections.

    Raises:
        UsageError: the variable is not set, or holds neither. Its value is never quoted.
    """
    variable = f"AIRFLOW_CONN_{connection.upper()}"
    text = os.environ.get(variable)
    if not text:
        raise UsageError(
            "no such connection",
            about=connection,
            remedy=f"Set {variable}, or run the DAG where Airflow has the connection",
        )
    if text.lstrip().startswith("{"):
        try:
            parts = json.loads(text)
        except ValueError:
            raise UsageError("the connection cannot be read", about=variable, why="it is not JSON") from None
        extra = parts.get("extra") or {}
        return parts_of(parts, json.loads(extra) if isinstance(extra, str) else extra)
    url = urlsplit(text)
    own = {
        "login": url.username and unquote(url.username),
        "password": url.password and unquote(url.password),
        "host": url.hostname,
        "schema": url.path.lstrip("/"),
        "port": url.port,
    }
    return parts_of(own, dict(parse_qsl(url.query)))


def parts_of(own: Mapping[str, object], extra: Mapping[str, object]) -> dict[str, str]:
    """Return what a connection holds, by the names that records use; what is empty is left out."""
    named = {key: own.get(key) for key in ("login", "password", "host", "schema", "port")}
    flat = {
        f"extra.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in extra.items()
    }
    return {key: str(value) for key, value in {**named, **flat}.items() if value not in (None, "")}
