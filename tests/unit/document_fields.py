"""A Kubernetes object as path → value, so that two that say the same in other words have the same fields."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

# Where the pod of a workload is; a bare Pod of a document has it at `spec`.
POD = re.compile(r"^spec\.(leaderWorkerTemplate\.leaderTemplate\.|template\.)spec\.|^spec\.(?=containers\.)")

# Lists whose entries are known by one of their fields; entries of all others by their place.
KEYS = {
    "env": "name",
    "volumeMounts": "mountPath",
    "tolerations": "key",
    "matchExpressions": "key",
    "listeners": "name",
    "encryptOptions": "name",
    "add": "name",
    "set": "name",
}

# What the API server fills in by itself: saying it and not saying it is the same.
DEFAULTS = {
    "*Probe.httpGet.scheme": "HTTP",
    "*Probe.successThreshold": "1",
    "*Probe.failureThreshold": "3",
    "*.ports.*.protocol": "TCP",
    "pod.restartPolicy": "Always",
    "pod.schedulerName": "default-scheduler",
    "spec.revisionHistoryLimit": "10",
    "spec.type": "ClusterIP",
    "spec.updateStrategy.type": "RollingUpdate",
    "spec.updateStrategy.rollingUpdate.partition": "0",
}


def flat(value: Any) -> dict[str, str]:
    """An object as path → value. A serving pod has the same path whatever keeps it."""
    paths = {POD.sub("pod.", path): text for path, text in _leaves(value, "")}
    return {
        path: text
        for path, text in paths.items()
        if not any(text == usual and fnmatchcase(path, where) for where, usual in DEFAULTS.items())
    }


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if "containers" in value:
            value = _with_volumes_at_their_mounts(value)
        if "image" in value and ("args" in value or "command" in value):
            value = _with_arguments_by_flag(value)
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield from _entries(value, path)
    elif value is not None:
        yield path, str(value).lower() if isinstance(value, bool) else str(value)


def _entries(value: list[Any], path: str) -> Iterator[tuple[str, str]]:
    known_by = KEYS.get(path.rsplit(".", 1)[-1])
    if value and not any(isinstance(entry, dict | list) for entry in value):
        yield path, ", ".join(map(str, value))
        return
    for place, entry in enumerate(value):
        if known_by and known_by in entry:
            rest = {key: inner for key, inner in entry.items() if key != known_by}
            yield from _leaves(rest, f"{path}.{entry[known_by]}")
        else:
            yield from _leaves(entry, f"{path}.{place}")


def _with_volumes_at_their_mounts(pod: dict[str, Any]) -> dict[str, Any]:
    """Put each volume where it is mounted: its name says nothing outside the pod."""
    volumes = {
        volume["name"]: {key: inner for key, inner in volume.items() if key != "name"}
        for volume in pod.get("volumes", [])
    }

    def mounted(container: dict[str, Any]) -> dict[str, Any]:
        mounts = [
            {
                **{key: inner for key, inner in mount.items() if key != "name"},
                "volume": volumes[mount["name"]],
            }
            for mount in container.get("volumeMounts", [])
        ]
        return {**container, "volumeMounts": mounts}

    without = {key: inner for key, inner in pod.items() if key != "volumes"}
    for key in ("initContainers", "containers"):
        if key in pod:
            without[key] = [mounted(one) for one in pod[key]]
    return without


def _with_arguments_by_flag(container: dict[str, Any]) -> dict[str, Any]:
    """Take command, arguments and the shell script in them apart: program, flags, environment, the rest."""
    rest = {key: inner for key, inner in container.items() if key not in ("command", "args")}
    words = [*container.get("command", []), *container.get("args", [])]
    environment: list[dict[str, str]] = []
    if "-c" in words[:-1]:
        words, environment, rest["script"] = _script(words[words.index("-c") + 1])
    program = words[: next((n for n, word in enumerate(words) if word.startswith("--")), len(words))]
    flags: dict[str, str] = {}
    for word in words[len(program) :]:
        if word.startswith("--"):
            flag, _, value = word.partition("=")
            flags[flag] = value or "true"
        else:
            flags[list(flags)[-1]] = word
    if program[:2] == ["vllm", "serve"]:
        program, flags["--model"] = ["python3", "-m", "vllm.entrypoints.openai.api_server"], program[2]
    return {**rest, "program": program, "args": flags, "env": [*rest.get("env", []), *environment]}


def _script(text: str) -> tuple[list[str], list[dict[str, str]], list[str]]:
    """Take a shell script apart: the server's words, what it exports, and its other lines."""
    server: list[str] = []
    environment, others = [], []
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip().startswith("export "):
            name, _, value = line.strip().removeprefix("export ").partition("=")
            environment.append({"name": name, "value": value})
        elif " --" in line:
            command, _, output = line.partition(" > ")
            server = [word for word in shlex.split(command) if word != "exec"]
            others += [f"> {output.strip()}"] if output else []
        elif line.strip() and not line.strip().startswith("#"):
            others.append(" ".join(line.split()))
    return server, environment, others
