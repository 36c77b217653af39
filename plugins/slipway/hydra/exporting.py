"""A runtime of the catalog as Hydra's two documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta

from slipway.catalog.images import image_tag
from slipway.catalog.read import include_directory
from slipway.catalog.records import BuiltImage, Runtime
from slipway.errors import bounded
from slipway.hydra.configuration import GPU_TYPES, KUBERNETES_OWN, MODEL_PORT
from slipway.hydra.faults import HydraError
from slipway.hydra.gowrite import write_go
from slipway.hydra.jinja import parse_jinja
from slipway.hydra.shell import check_quotes
from slipway.hydra.tree import OURS, VARIABLES, Body, Kind, names, put_out
from slipway.hydra.volumes import shared_memory
from slipway.hydra.writing import yaml_text

CONFIG_MAP = "hydra-runtime-template"
NAMESPACE = "hydra-system"
# What goes over, or is about the catalog itself.
_CARRIED = {
    "name",
    "display_name",
    "images",
    "command",
    "args",
    "distributed",
    "env",
    "port",
    "ports",
    "shared_memory",
}
_CARRIED |= {here for _, here, _ in KUBERNETES_OWN}


@dataclass(frozen=True)
class Exported:
    """A runtime for Hydra.

    Attributes:
        config_map: the ConfigMap of the global cluster, with this runtime's template alone.
        agent: the ``deployment_templates`` for ``hydra-agent`` in each work cluster.
        notes: what Hydra cannot be told, one sentence each.
    """

    config_map: dict[str, Any]
    agent: dict[str, Any]
    notes: tuple[str, ...]

    def to_yaml(self) -> str:
        """Both as one multi-document YAML text, the notes as comments at the top."""
        return yaml_text(self.config_map, comments=self.notes) + "---\n" + yaml_text(self.agent)


def export_runtime(
    runtime: Runtime,
    *,
    namespace: str = NAMESPACE,
    fixed: Mapping[str, str | int] | None = None,
    registry: str | None = None,
    include: Path | None = None,
) -> Exported:
    """Write a runtime as Hydra's documents.

    Args:
        runtime: the catalog's record.
        namespace: where Hydra's ConfigMap is.
        fixed: values for variables that Hydra does not have (``CONTEXT_LENGTH``); they become text.
        registry: where images that this project builds are, for a runtime that has one.
        include: the include directory of those images; the project's own when None.

    Raises:
        HydraError: something that the runtime needs and Hydra does not have.
    """
    values = _fixed_values(runtime, fixed or {})
    _refuse_unknown(runtime, values)
    command = [_body(runtime, "command", number, values) for number in range(len(runtime.command))]
    arguments = [_body(runtime, "args", number, values) for number in range(len(runtime.args))]
    if runtime.port != MODEL_PORT and "MODEL_PORT" not in set[str]().union(*map(names, command + arguments)):
        raise HydraError(
            f"port {runtime.port} has no counterpart",
            about=f"runtime {runtime.name}",
            why=f"Hydra's MODEL_PORT is always {MODEL_PORT}, and the templates do not use it",
        )
    template = _without_empty(
        {
            "runtime": runtime.name,
            "runtimeZH": runtime.display_name.get("zhCN"),
            "podTemplate": _pod_template(runtime, command, arguments),
        }
    )
    metadata = {"name": CONFIG_MAP, "namespace": namespace}
    data = {"config.yaml": yaml_text({"templates": [template]})}
    return Exported(
        config_map={"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data},
        agent={"deployment_templates": list(_deployments(runtime, registry, include))},
        notes=tuple(_notes(runtime, arguments)),
    )


def _refuse_unknown(runtime: Runtime, fixed: Mapping[str, str | int]) -> None:
    """Name all variables at once that Hydra does not have."""
    environment = jinja2.Environment(autoescape=False)  # noqa: S701 - arguments, not HTML
    used: set[str] = set()
    for part in (*runtime.command, *runtime.args):
        try:
            used |= meta.find_undeclared_variables(environment.parse(part))
        except (jinja2.TemplateSyntaxError, RecursionError):
            continue  # it is refused with its line when it is read
    if unknown := sorted(used - set(VARIABLES) - set(fixed)):
        raise HydraError(
            f"Hydra has no variable {', '.join(unknown)}",
            about=f"runtime {runtime.name}",
            remedy="Give each a fixed value, or take the argument out and set it for each deployment",
        )


def _fixed_values(runtime: Runtime, fixed: Mapping[str, str | int]) -> dict[str, str | int]:
    """The values with the types that their variables have."""
    made: dict[str, str | int] = {}
    for name, value in fixed.items():
        kind = OURS.get(name)
        if kind is None or (kind is Kind.NUMBER and not str(value).isdecimal()):
            raise HydraError(
                f"{bounded(name, limit=80)}={bounded(str(value), limit=80)} cannot be fixed",
                about=f"runtime {runtime.name}",
                remedy=f"Fix one of {', '.join(f'{one} ({of.value})' for one, of in OURS.items())}",
            )
        made[name] = int(value) if kind is Kind.NUMBER else str(value)
    return made


def _body(runtime: Runtime, field: str, number: int, fixed: Mapping[str, str | int]) -> Body:
    def where(line: int) -> str:
        return f"runtime {runtime.name}, {field}.{number}, line {line}"

    quoted = field == "args" and runtime.in_shell
    body = parse_jinja(getattr(runtime, field)[number], where=where, fixed=fixed, quoted=quoted)
    if quoted:
        check_quotes(body, where=where)
    return body


def _pod_template(runtime: Runtime, command: list[Body], arguments: list[Body]) -> dict[str, Any]:
    own = {there: getattr(runtime, here) for there, here, _ in KUBERNETES_OWN}
    volumes, mounts = shared_memory(runtime.shared_memory)
    ports = {"http": MODEL_PORT, **runtime.ports} if runtime.ports else {}
    return _without_empty(
        {
            "initContainers": own["initContainers"],
            "podSecurityContext": own["podSecurityContext"],
            "volumes": own["volumes"] + volumes,
            "containerTemplate": _without_empty(
                {
                    "commandTemplate": [write_go(body) for body in command],
                    "argsTemplate": [write_go(body) for body in arguments],
                    "volumeMounts": own["volumeMounts"] + mounts,
                    "ports": [
                        {"name": name, "containerPort": number, "protocol": "TCP"}
                        for name, number in ports.items()
                    ],
                    "securityContext": own["securityContext"],
                }
            ),
        }
    )


def _without_empty(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value}


def _deployments(runtime: Runtime, registry: str | None, include: Path | None) -> Iterator[dict[str, Any]]:
    for kind, image in runtime.images.items():
        types = [name for name, of in GPU_TYPES.items() if of == kind]
        reference = _built(runtime, image, registry, include) if isinstance(image, BuiltImage) else image
        container: dict[str, Any] = {"image": _image(runtime, reference)}
        if runtime.env:
            container["env"] = [{"name": name, "value": value} for name, value in runtime.env.items()]
        yield {
            "match_runtimes": [runtime.name],
            "match_gpu_types": types or [kind],
            "container_template": container,
        }


def _built(runtime: Runtime, image: BuiltImage, registry: str | None, include: Path | None) -> str:
    if registry is None:
        raise HydraError(
            f"the image {image.built} is built here",
            about=f"runtime {runtime.name}",
            remedy="Push it to a registry and name that",
        )
    tag = image_tag(image.built, include=include or include_directory(), package=Path(__file__).parents[1])
    return f"{registry.rstrip('/')}/{image.built}:{tag}"


def _image(runtime: Runtime, reference: str) -> dict[str, str]:
    """The three parts that Hydra joins again with a slash and a colon."""
    path, at, digest = reference.partition("@")
    first, slash, rest = path.partition("/")
    if not slash or not ({".", ":"} & set(first) or first == "localhost"):
        first, rest = "docker.io", path if slash else f"library/{path}"
    repository, colon, tag = rest.partition(":")
    if at and not colon:
        raise HydraError(
            "an image without a tag",
            about=f"runtime {runtime.name}",
            why=bounded(reference),
            remedy="Add its tag",
        )
    return {"registry": first, "repository": repository, "tag": (tag or "latest") + at + digest}


def _notes(runtime: Runtime, arguments: list[Body]) -> Iterator[str]:
    yield f"Add the item to the templates of {CONFIG_MAP}: that ConfigMap applied alone would remove all others."
    yield "deployment_templates go into hydra-agent in each work cluster."
    if types := sorted({kind for kind in runtime.images if kind not in GPU_TYPES.values()}):
        yield f"Hydra brings no GPU type for {', '.join(types)}: make it in hydra-gpu-configs under that name."
    quoted = sorted(set[str]().union(*(put_out(body) for body in arguments)))
    if runtime.in_shell and quoted:
        yield f"Hydra does not quote for the shell what Slipway quotes: {', '.join(quoted)}."
    if runtime.port != MODEL_PORT:
        yield f"It serves on port {MODEL_PORT} in Hydra, not {runtime.port}."
    if runtime.pod_security_context is None and runtime.security_context is None:
        yield "It runs as its image says in Hydra, without the security context that Slipway gives by itself."
    fields = type(runtime).model_fields
    lost = {
        name: getattr(runtime, name)
        for name in fields
        if name not in _CARRIED and getattr(runtime, name) != fields[name].default
    }
    if other := sorted(set(runtime.display_name) - {"zhCN"}):
        lost["display_name"] = ", ".join(other)
    for name, value in lost.items():
        yield bounded(f"Hydra has nothing for {name} ({value}).")
