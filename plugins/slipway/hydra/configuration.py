"""Hydra's two documents: the templates of runtimes, and the agent's images for them.

The first is the ConfigMap ``hydra-runtime-template`` of the global cluster, the second a part of ``hydra-agent`` in
each work cluster. Both may come as bare YAML, as a ConfigMap, or as what ``kubectl get -o yaml`` prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import get_args

from slipway.catalog.records import AcceleratorKind
from slipway.errors import bounded
from slipway.hydra.document import Entry

TEMPLATE_KEYS = ("runtime", "runtimeZH", "podTemplate")
POD_KEYS = ("initContainers", "podSecurityContext", "volumes", "containerTemplate")
CONTAINER_KEYS = ("commandTemplate", "argsTemplate", "volumeMounts", "ports", "securityContext")
IMAGE_KEYS = ("registry", "repository", "tag")
MODEL_PORT = 8000
# Hydra's word for what is Kubernetes' own, the catalog's, and whether it is a list.
KUBERNETES_OWN = (
    ("initContainers", "init_containers", True),
    ("volumes", "volumes", True),
    ("volumeMounts", "volume_mounts", True),
    ("podSecurityContext", "pod_security_context", False),
    ("securityContext", "security_context", False),
)
KINDS: tuple[AcceleratorKind, ...] = get_args(AcceleratorKind)
# The types that Hydra brings along; others are made in its hydra-gpu-configs and can have any name.
GPU_TYPES: dict[str, AcceleratorKind] = {
    "cpu": "cpu",
    "nvidia-gpu": "nvidia",
    "nvidia-vgpu": "nvidia",
    "metax-gpu": "metax",
    "ascend-gpu-910": "ascend",
    "ascend-gpu-910b": "ascend",
}


@dataclass(frozen=True)
class RuntimeTemplate:
    """An item of ``templates``; ``parts`` has what is said of the pod and its container, empty things left out."""

    name: str
    chinese: str | None
    entry: Entry
    parts: dict[str, Entry]


@dataclass(frozen=True)
class DeploymentTemplate:
    """An item of ``deployment_templates``: the image of some runtimes on some kinds of accelerators."""

    runtimes: list[Entry]
    kinds: list[AcceleratorKind]
    image: str
    env: dict[str, str]
    entry: Entry


@dataclass(frozen=True)
class Configuration:
    """All that a person's files say."""

    templates: list[RuntimeTemplate] = field(default_factory=list)
    deployments: list[DeploymentTemplate] = field(default_factory=list)


def read_configuration(documents: Iterable[Entry]) -> Configuration:
    """Read documents of either kind.

    Raises:
        HydraError: anything that is not known, with file and line.
    """
    found = Configuration()
    for document in documents:
        for entry in _bare(document):
            keys = entry.mapping(("templates", "deployment_templates"), of="the document")
            for item in keys["templates"].sequence("templates") if "templates" in keys else []:
                found.templates.append(_runtime_template(item))
            for item in (
                keys["deployment_templates"].sequence("deployment_templates")
                if "deployment_templates" in keys
                else []
            ):
                found.deployments.append(_deployment_template(item))
    return found


def _bare(document: Entry) -> Iterator[Entry]:
    """The configuration itself, out of the Kubernetes objects around it."""
    keys = document.mapping(of="the document")
    if "kind" not in keys:
        yield document
        return
    kind = keys["kind"].string("kind")
    if kind == "List":
        listed = document.mapping(("apiVersion", "kind", "metadata", "items"), of="the List")
        for item in listed["items"].sequence("items") if "items" in listed else []:
            yield from _bare(item)
    elif kind == "ConfigMap":
        known = ("apiVersion", "kind", "metadata", "immutable", "data")
        data = document.mapping(known, of="the ConfigMap").get("data")
        for name, value in data.mapping(of="data").items() if data and not data.empty else ():
            yield from value.inner(bounded(name, limit=80))
    else:
        keys["kind"].refuse(f"a {bounded(kind, limit=80)} is not a ConfigMap")


def _required(keys: dict[str, Entry], key: str, entry: Entry, *, of: str) -> Entry:
    if key not in keys or keys[key].empty:
        entry.refuse(f"{of} has no {key}")
    return keys[key]


def _runtime_template(entry: Entry) -> RuntimeTemplate:
    keys = entry.mapping(TEMPLATE_KEYS, of="a runtime's template")
    parts: dict[str, Entry] = {}
    if "podTemplate" in keys and not keys["podTemplate"].empty:
        parts = keys["podTemplate"].mapping(POD_KEYS, of="podTemplate")
        container = parts.pop("containerTemplate", None)
        if container and not container.empty:
            parts |= container.mapping(CONTAINER_KEYS, of="containerTemplate")
    chinese = keys.get("runtimeZH")
    return RuntimeTemplate(
        name=_required(keys, "runtime", entry, of="a runtime's template").string("runtime"),
        chinese=chinese.string("runtimeZH") if chinese and not chinese.empty else None,
        entry=entry,
        parts={key: part for key, part in parts.items() if not part.empty},
    )


def _deployment_template(entry: Entry) -> DeploymentTemplate:
    name = "a deployment template"
    keys = entry.mapping(("match_runtimes", "match_gpu_types", "container_template"), of=name)
    container = _required(keys, "container_template", entry, of=name).mapping(
        ("image", "env"), of="container_template"
    )
    image = _required(container, "image", keys["container_template"], of="container_template")
    parts = image.mapping(IMAGE_KEYS, of="image")
    registry, repository, tag = (_required(parts, key, image, of="image").string(key) for key in IMAGE_KEYS)
    runtimes = _required(keys, "match_runtimes", entry, of=name).sequence("match_runtimes")
    types = _required(keys, "match_gpu_types", entry, of=name).sequence("match_gpu_types")
    return DeploymentTemplate(
        runtimes=runtimes,
        kinds=list(dict.fromkeys(_kind(one) for one in types)),
        image=f"{registry}/{repository}:{tag}",
        env=dict(_env(container["env"])) if "env" in container else {},
        entry=entry,
    )


def _kind(entry: Entry) -> AcceleratorKind:
    name = entry.string("a GPU type")
    known: dict[str, AcceleratorKind] = dict(GPU_TYPES)
    known.update((kind, kind) for kind in KINDS)
    if name not in known:
        entry.refuse(
            f"the GPU type {bounded(name, limit=80)!r} is not known", remedy=f"Known are: {', '.join(known)}"
        )
    return known[name]


def _env(entry: Entry) -> Iterator[tuple[str, str]]:
    for item in entry.sequence("env"):
        keys = item.mapping(("name", "value"), of="a variable of env")
        name = _required(keys, "name", item, of="a variable of env").string("name")
        yield name, keys["value"].string("value") if "value" in keys else ""
