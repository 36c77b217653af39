"""What Hydra's documents say, as records of the catalog."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from slipway.catalog.records import Runtime, Task
from slipway.errors import bounded
from slipway.hydra.configuration import (
    KUBERNETES_OWN,
    MODEL_PORT,
    Configuration,
    DeploymentTemplate,
    RuntimeTemplate,
)
from slipway.hydra.document import Entry
from slipway.hydra.faults import HydraError
from slipway.hydra.gotemplate import parse_go
from slipway.hydra.jinja import write_jinja
from slipway.hydra.shell import check_quotes, hides_shell_string, names_shell, split_command
from slipway.hydra.tree import LIST, Body, names, put_out
from slipway.hydra.volumes import split_volumes
from slipway.hydra.writing import yaml_text

_FLAG = re.compile(r"--?[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Translated:
    """A runtime that came from Hydra, not yet in any folder.

    Attributes:
        runtime: the record.
        notes: what is different from Hydra, or was not said there, one sentence each.
        text: the record's file, the notes as comments at its top.
    """

    runtime: Runtime
    notes: tuple[str, ...]
    text: str


def translate(
    configuration: Configuration, *, renamed: Mapping[str, str], task: Task = "chat"
) -> list[Translated]:
    """Make records of what Hydra's documents say, in their order; runtimes with an image alone come last.

    Raises:
        HydraError: something that the catalog cannot hold.
    """
    entries: dict[str, Entry] = {}
    templates: dict[str, RuntimeTemplate] = {}
    for template in configuration.templates:
        if template.name in templates:
            template.entry.refuse(f"runtime {bounded(template.name, limit=80)!r} is there twice")
        templates[template.name], entries[template.name] = template, template.entry
    deployments: dict[str, list[DeploymentTemplate]] = {}
    for deployment in configuration.deployments:
        for runtime in deployment.runtimes:
            name = runtime.string("a runtime's name")
            entries.setdefault(name, runtime)
            deployments.setdefault(name, []).append(deployment)
    made: dict[str, Translated] = {}
    for name, entry in entries.items():
        one = _translated(
            renamed.get(name, name), name, entry, templates.get(name), deployments.get(name, []), task
        )
        if one.runtime.name in made:
            entry.refuse(f"two runtimes would be named {one.runtime.name!r}")
        made[one.runtime.name] = one
    if unused := set(renamed) - set(entries):
        raise HydraError(
            "no such runtime", about=", ".join(sorted(unused)), remedy=f"There are: {_list(entries)}"
        )
    return list(made.values())


def _list(values: Iterable[str]) -> str:
    return ", ".join(bounded(value, limit=80) for value in values) or "none"


def _translated(
    name: str,
    hydras_name: str,
    entry: Entry,
    template: RuntimeTemplate | None,
    deployments: Sequence[DeploymentTemplate],
    task: Task,
) -> Translated:
    parts = template.parts if template else {}
    notes: list[str] = []
    commands = list(_bodies(parts.get("commandTemplate"), notes))
    arguments = list(_bodies(parts.get("argsTemplate"), notes))
    used = set[str]().union(*(names(body) for _, body in [*commands, *arguments]))
    record: dict[str, Any] = {
        "name": name,
        "display_name": {"zhCN": template.chinese} if template and template.chinese else {},
        "task": task,
        **_images(hydras_name, entry, deployments),
        "command": split_command([write_jinja(body) for _, body in commands]),
        "args": [write_jinja(body) for _, body in arguments],
        "distributed": bool(used & {"IS_DISTRIBUTED", "IS_LEADER"}),
        "ports": _ports(parts["ports"], notes) if "ports" in parts else {},
        **{
            here: _own(parts[there], there, many=many)
            for there, here, many in KUBERNETES_OWN
            if there in parts
        },
    }
    fields, more = split_volumes(parts, record)
    notes += more
    record = {key: value for key, value in {**record, **fields}.items() if value not in ({}, [], False)}
    runtime = _validated(record, entry, parts)
    _check_command(runtime, commands, parts.get("commandTemplate", entry))
    _check_arguments(runtime, arguments)
    if len(runtime.command) > len(commands):
        notes.append("The command is two words here, as it is meant, and one in Hydra's document.")
    notes[:0] = _differences(runtime, hydras_name, parts, arguments, used)
    kept = tuple(dict.fromkeys(bounded(note) for note in notes))
    header = f"Runtime {bounded(hydras_name, limit=80)} of Hydra"
    return Translated(runtime, kept, yaml_text(record, comments=(header, *kept)))


def _bodies(entry: Entry | None, notes: list[str]) -> Iterator[tuple[Entry, Body]]:
    """Each element of a list of templates with what it says; those that say nothing are left out."""
    for item in entry.sequence("a list of templates") if entry else []:
        body = parse_go(item.string("a template"), where=item.line_in)
        if body:
            yield item, body
        else:
            notes.append(f"An empty element of a list of templates is left out ({item.place}).")


def _images(name: str, entry: Entry, deployments: Sequence[DeploymentTemplate]) -> dict[str, Any]:
    """The images by kind of accelerator, and the environment, which must be the same on each."""
    images: dict[str, str] = {}
    environment: tuple[dict[str, str], Entry] | None = None
    for deployment in deployments:
        for kind in deployment.kinds:
            if images.setdefault(kind, deployment.image) != deployment.image:
                deployment.entry.refuse(
                    f"runtime {bounded(name, limit=80)!r} has two images for {kind}",
                    why=f"{bounded(images[kind])} and {bounded(deployment.image)}",
                    remedy="Give each image a runtime of its own",
                )
        environment = environment or (deployment.env, deployment.entry)
        if environment[0] != deployment.env:
            deployment.entry.refuse(
                f"runtime {bounded(name, limit=80)!r} has another env than in {environment[1].place}",
                remedy="Give each env a runtime of its own: a runtime of the catalog has one",
            )
    if not images:
        entry.refuse(
            f"runtime {bounded(name, limit=80)!r} has no image",
            remedy="Give the file with the agent's deployment_templates too",
        )
    return {"images": images, "env": environment[0] if environment else {}}


def _ports(entry: Entry, notes: list[str]) -> dict[str, int]:
    """The ports besides the one that serves, by name."""
    ports: dict[str, int] = {}
    seen: set[int] = set()
    for item in entry.sequence("ports"):
        keys = item.mapping(("name", "containerPort", "protocol"), of="a port")
        number = keys["containerPort"].data() if "containerPort" in keys else None
        if not isinstance(number, int) or isinstance(number, bool):
            item.refuse("a port has no containerPort that is a number")
        if "protocol" in keys and keys["protocol"].string("protocol") != "TCP":
            keys["protocol"].refuse("a port's protocol is not TCP", why="the catalog's ports are")
        name = keys["name"].string("a port's name") if "name" in keys else ""
        if number in seen or (name and name in ports):
            item.refuse("a port is there twice")
        seen.add(number)
        if number == MODEL_PORT:
            if name not in ("", "http"):
                notes.append(f"Port {MODEL_PORT} is named http here and {bounded(name, limit=80)} in Hydra.")
            continue
        ports[name or f"port-{number}"] = number
        if not name:
            notes.append(f"Port {number} had no name; it is named port-{number}.")
    return ports


def _own(entry: Entry, name: str, *, many: bool) -> Any:
    if many:
        for item in entry.sequence(name):
            item.mapping(of=f"an item of {name}")
    else:
        entry.mapping(of=name)
    return entry.data()


def _validated(record: dict[str, Any], entry: Entry, parts: Mapping[str, Entry]) -> Runtime:
    try:
        return Runtime.model_validate(record)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, fault["loc"]))
        theirs = {here: there for there, here, _ in KUBERNETES_OWN}
        theirs |= {"command": "commandTemplate", "args": "argsTemplate", "ports": "ports"}
        part = theirs.get(field.split(".")[0], "") if field else "argsTemplate"
        place = parts.get(part, entry).place
        raise HydraError(
            "a runtime that the catalog cannot hold",
            about=f"{place}, {bounded(field, limit=80)}" if field else place,
            why=fault["msg"].removeprefix("Value error, "),
        ) from error


def _check_command(runtime: Runtime, commands: Sequence[tuple[Entry, Body]], entry: Entry) -> None:
    """Refuse what leaves open whether a shell reads the arguments."""
    for item, body in commands:
        if LIST in names(body):
            item.refuse(f"a command asks for {LIST}", remedy="Put it into argsTemplate")
    if not runtime.in_shell and hides_shell_string([*runtime.command, *runtime.args]):
        entry.refuse(
            "a shell reads an argument that Slipway would not quote",
            why="only with a command that ends in -c is the one argument known to be a shell's",
            remedy="End commandTemplate in -c on its own ([/bin/bash, -l, -c]), with the text in argsTemplate",
        )
    if runtime.in_shell and not names_shell(runtime.command):
        entry.refuse(
            "-c of a program that is no shell",
            why="values are quoted as a shell wants it",
            remedy="Start the program from a shell, or give it a file",
        )


def _check_arguments(runtime: Runtime, arguments: Sequence[tuple[Entry, Body]]) -> None:
    """Refuse what custom arguments and quoting would do harm to."""
    for entry, body in arguments:
        if runtime.in_shell:
            check_quotes(body, where=entry.line_in)
            if LIST not in put_out(body):
                entry.refuse(
                    f"the shell string does not put out {LIST}",
                    why="an endpoint's arguments would be lost",
                    remedy="End it in {{ range .CUSTOM_ARGS }} {{ . }}{{ end }}",
                )
        elif LIST in names(body):
            entry.refuse(
                f"an argument puts out {LIST} itself",
                why="the command does not end in -c, so they are appended, and would be there twice",
                remedy=f"Take {LIST} out of argsTemplate",
            )
    flags: set[str] = set()
    for argument, (entry, _) in zip(runtime.args, arguments, strict=True):
        found = _FLAG.match(argument)
        flag = found.group().replace("_", "-").lower() if found else ""
        if flag and flag in flags:
            entry.refuse(f"the flag {bounded(flag, limit=80)} is there twice", why="the catalog keeps one")
        flags.add(flag)


def _differences(
    runtime: Runtime,
    hydras_name: str,
    parts: Mapping[str, Entry],
    arguments: Sequence[tuple[Entry, Body]],
    used: set[str],
) -> Iterator[str]:
    yield (
        f"Not said by Hydra, so Slipway's: task {runtime.task}, health_path {runtime.health_path},"
        f" metrics_path {runtime.metrics_path}, startup_seconds {runtime.startup_seconds}."
    )
    yield "Without api_key_env no endpoint of it can have an API key: name the program's variable if it has one."
    quoted = sorted(set[str]().union(*(put_out(body) for _, body in arguments)))
    if runtime.in_shell and quoted:
        yield f"Quoted for the shell here and not in Hydra: {', '.join(quoted)}."
    if not runtime.command and not runtime.args:
        yield "No template: the image's own command, with the endpoint's arguments alone."
    if not {"podSecurityContext", "securityContext"} <= set(parts):
        yield (
            f"Without a security context of its own it runs as user {runtime.user} on a read-only root file system;"
            " in Hydra as the image says."
        )
    if runtime.distributed:
        yield "distributed is set because a template asks for IS_DISTRIBUTED or IS_LEADER."
    if runtime.name != hydras_name and "RUN_TIME" in used:
        yield f"RUN_TIME is {runtime.name} here."
