"""The Gateway API's definitions: from a file that the record names, and never to an older version."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from slipway.errors import UsageError, bounded
from slipway.prepare.target import Target, package

# Every definition of a bundle carries both: gateway-api, pkg/consts/consts.go.
VERSION_ANNOTATION = "gateway.networking.k8s.io/bundle-version"
CHANNEL_ANNOTATION = "gateway.networking.k8s.io/channel"
_GROUP = "gateway.networking.k8s.io"
_KIND = "CustomResourceDefinition"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def gateway_definitions(target: Target) -> tuple[list[Object], str]:
    """Return the definitions to apply, and what is left as it is because it is newer or of a richer channel.

    Raises:
        UsageError: the file is not there, or holds something else than the version that the record says.
    """
    wanted = target.record.setup.gateway_api
    assert wanted is not None  # the step is only there with it
    found = _definitions_in(package(target, wanted.file))
    if not found:
        raise UsageError(
            "the file has no definitions of the Gateway API",
            about=wanted.file,
            remedy="Take standard-install.yaml of the Gateway API's release",
        )
    for one in found:
        _refuse_other_version(one, wanted.version, file=wanted.file)
    kept = [(one, _why_kept(target.cluster, one)) for one in found]
    left = [f"{one['spec']['names']['kind']} {why}" for one, why in kept if why]
    note = f"left as they are: {', '.join(left)}" if left else ""
    return [one for one, why in kept if not why], note


def _refuse_other_version(definition: Object, version: str, *, file: str) -> None:
    says = (definition["metadata"].get("annotations") or {}).get(VERSION_ANNOTATION, "")
    if says.removeprefix("v") != version:
        raise UsageError(
            "the file holds another version than the record says",
            about=file,
            why=f"{definition['metadata']['name']} is of {says or 'an unknown version'}, the record says {version}",
            remedy="Name the right file, or correct setup.gateway_api.version",
        )


def _why_kept(cluster: Cluster, wanted: Object) -> str:
    """Say why a live definition stays: fields that it has and ours has not would be lost, with what uses them."""
    api_version, name = wanted["apiVersion"], wanted["metadata"]["name"]
    live = cluster.get(api_version=api_version, kind=_KIND, name=name)
    if live is None:
        return ""
    has, ours = (one["metadata"].get("annotations") or {} for one in (live, wanted))
    if _version(has.get(VERSION_ANNOTATION)) > _version(ours.get(VERSION_ANNOTATION)):
        return f"is there in {has[VERSION_ANNOTATION]}, newer than {ours.get(VERSION_ANNOTATION)}"
    if has.get(CHANNEL_ANNOTATION) == "experimental" != ours.get(CHANNEL_ANNOTATION):
        return "is there of the experimental channel, which has more fields"
    return ""


def _version(text: str | None) -> Version:
    try:
        return Version((text or "0").removeprefix("v"))
    except InvalidVersion:
        return Version("0")


def _definitions_in(path: Path) -> list[Object]:
    documents: list[Any] = []
    for name, content in _files(path):
        try:
            documents += [one for one in yaml.load_all(content, Loader=_Loader) if isinstance(one, dict)]
        except yaml.YAMLError as error:
            raise UsageError("the file is not YAML", about=name, why=bounded(str(error))) from error
    definitions = [one for one in documents if one.get("kind") == _KIND]
    # A release's whole archive has both channels; the standard one comes last and counts.
    definitions.sort(key=_is_standard)
    ours = {one["metadata"]["name"]: one for one in definitions if one["spec"]["group"] == _GROUP}
    # What a release's file carries of a status would be refused as not ours to set.
    return [{key: value for key, value in ours[name].items() if key != "status"} for name in sorted(ours)]


def _is_standard(definition: Object) -> bool:
    return (definition["metadata"].get("annotations") or {}).get(CHANNEL_ANNOTATION) == "standard"


def _files(path: Path) -> list[tuple[str, bytes]]:
    """Return the YAML files of a package: itself, those of a directory, or those of an archive."""
    if path.is_dir():
        return [(str(one), one.read_bytes()) for one in sorted(path.rglob("*.yaml"))]
    if not path.name.endswith((".tgz", ".tar.gz")):
        return [(str(path), path.read_bytes())]
    try:
        with tarfile.open(path) as archive:
            members = [one for one in archive.getmembers() if one.isfile() and one.name.endswith(".yaml")]
            return [(one.name, content.read()) for one in members if (content := archive.extractfile(one))]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UsageError("the package cannot be read", about=str(path), why=bounded(str(error))) from error
