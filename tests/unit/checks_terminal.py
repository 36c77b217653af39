"""What a person types who follows a remedy: kubectl, helm and `slipway render` against the objects of a snapshot.

The commands do what the real ones do to objects, as far as remedies use them; `tests/cluster` runs some for real.
What controllers would do then (program a Gateway, make a larger volume) is done at once.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import yaml

from slipway.catalog.read import Catalog, include_directory
from slipway.cluster.objects import Object
from slipway.manifests.cluster_objects import chart_values, render_cluster
from tests.unit import checks_snapshot as snapshot
from tests.unit.checks_api import FakeApi, plural_of

_COMMAND = re.compile(r"(?:^|[:;,] )((?:kubectl|slipway|helm) .+)$")
_LOOKS = re.compile(r"kubectl (-n \S+ )?(describe|get|edit|logs)\b")
# What a person has to fill in, and commands that only tell something.
_CHOICES = re.compile(r"\b(NODE|ENDPOINT|PROFILE|slipway (check|validate))\b")
_CHARTS = {
    "hydra-agent": ("hydra-agent", "knoway-gateway"),
    "hydra": ("hydra",),
    "hami": ("hami-scheduler", "hami-scheduler-x", "hami-device-plugin", "hami-webhook"),
    "csi-driver-nfs": ("nfs.csi.k8s.io",),
    "fluid": (
        "dataset-controller",
        "jindoruntime-controller",
        "fluid-webhook",
        "fluid-pod-admission-webhook",
    ),
}


def command_of(remedy: str) -> str:
    """The command that mends, with what it reads; "" where the remedy is advice or only a look."""
    first, _, rest = remedy.partition("\n")
    found = _COMMAND.search(first)
    if not found or _LOOKS.match(found[1]) or _CHOICES.search(found[1]):
        return ""
    return f"kubectl apply -f -\n{rest}" if rest else found[1]


class Terminal:
    """Runs commands against a snapshot's API server."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api

    def run(self, command: str) -> None:
        """Run a command or a pipe of them; further lines are what the first one reads."""
        line, _, text = command.partition("\n")
        for piece in line.split(" && "):
            for part in piece.split(" | "):
                words = shlex.split(part.replace("…", "good"))
                text = getattr(self, f"_{words[0]}")(words[1:], text)
        self._controllers()

    # -- programs --------------------------------------------------------------------------------------------

    def _slipway(self, words: list[str], text: str) -> str:
        assert words[:2] == ["render", "--cluster"]
        catalog = cast(Catalog, SimpleNamespace(clusters={words[2]: snapshot.record()}))
        if "--values" in words:
            return yaml.safe_dump(chart_values(catalog, words[2], words[words.index("--values") + 1]))
        return yaml.safe_dump_all(render_cluster(catalog, words[2], include=include_directory()))

    def _helm(self, words: list[str], text: str) -> str:
        assert words[:2] == ["upgrade", "-i"]
        name = words[2]
        for one in snapshot.healthy():
            if one["metadata"]["name"] in _CHARTS[name] and one["kind"] != "Dataset":
                self._put(one)
        if name == "hydra-agent":
            values = yaml.safe_load(text)["global"]["config"]
            data = {"config.yaml": yaml.safe_dump(values)}
            self._put(snapshot.obj("v1", "ConfigMap", name, namespace="hydra-system", data=data))
        if name == "hydra":
            data = {"config.yaml": snapshot.SERVER_CONFIG}
            self._put(snapshot.obj("v1", "ConfigMap", name, namespace="hydra-system", data=data))
        return ""

    def _kubectl(self, words: list[str], text: str) -> str:
        namespace = None
        if words[0] == "-n":
            namespace, words = words[1], words[2:]
        verb, rest = words[0], words[1:]
        verbs: dict[str, Callable[[list[str], str | None, str], str]] = {
            "apply": self._apply,
            "create": self._create,
            "label": self._label,
            "taint": self._taint,
            "uncordon": self._uncordon,
            "patch": self._patch,
            "scale": self._scale,
        }
        return verbs[verb](rest, namespace, text)

    # -- kubectl's verbs -------------------------------------------------------------------------------------

    def _apply(self, words: list[str], namespace: str | None, text: str) -> str:
        assert words[0] == "-f"
        if words[1].startswith("https://"):
            # What the release of the Gateway API consists of.
            text = yaml.safe_dump_all(
                one for one in snapshot.healthy() if one["kind"] == "CustomResourceDefinition"
            )
        for one in yaml.safe_load_all(text):
            self._put(one)
        return ""

    def _create(self, words: list[str], namespace: str | None, text: str) -> str:
        names = [one for one in words if not one.startswith("-")]
        if names[0] == "namespace":
            self._put(snapshot.obj("v1", "Namespace", names[1]))
            return ""
        data = {"tls.crt": snapshot.certificate("*.models.example"), "tls.key": "k"}
        if names[1] == "generic":
            pairs = [one.removeprefix("--from-literal=") for one in words if one.startswith("--from-literal")]
            data = dict(one.split("=", 1) for one in pairs)
        encoded = {key: snapshot.encoded(value) for key, value in data.items()}
        made = snapshot.obj("v1", "Secret", names[2], namespace=namespace, data=encoded)
        if any(one.startswith("--dry-run") for one in words):
            return yaml.safe_dump(made)
        assert not any(_is(one, "secret", names[2], namespace) for one in self.api.objects), "it is there"
        self._put(made)
        return ""

    def _label(self, words: list[str], namespace: str | None, text: str) -> str:
        kind, *rest = [one for one in words if not one.startswith("--")]
        pairs = [one for one in rest if "=" in one or one.endswith("-")]
        for name in [one for one in rest if one not in pairs]:
            for pair in pairs:
                key, equals, value = pair.partition("=")
                gone = not equals
                self._change(
                    *(kind, name, namespace),
                    lambda one, key=key, value=value, gone=gone: (
                        one["metadata"]["labels"].pop(key.removesuffix("-"), None)
                        if gone
                        else one["metadata"]["labels"].update({key: value})
                    ),
                )
        return ""

    def _taint(self, words: list[str], namespace: str | None, text: str) -> str:
        key, _, effect = words[-1].removesuffix("-").partition(":")

        def without(node: Object) -> None:
            kept = [one for one in node["spec"]["taints"] if (one["key"], one["effect"]) != (key, effect)]
            node["spec"]["taints"] = kept

        for name in words[1:-1]:
            self._change(words[0], name, None, without)
        return ""

    def _uncordon(self, words: list[str], namespace: str | None, text: str) -> str:
        for name in words:
            self._change("node", name, None, lambda one: one["spec"].pop("unschedulable", None))
        return ""

    def _patch(self, words: list[str], namespace: str | None, text: str) -> str:
        patch = json.loads(words[words.index("-p") + 1])
        how: Callable[[Object], None] = lambda one: _merge(one, patch)  # noqa: E731
        if "--type=json" in words:
            how = lambda one: [_json_patch(one, change) for change in patch] and None  # noqa: E731
        return self._change(words[0], words[1], namespace, how)

    def _scale(self, words: list[str], namespace: str | None, text: str) -> str:
        replicas = int(words[2].partition("=")[2])
        return self._change(
            *(words[0], words[1], namespace), lambda one: one["spec"].update({"replicas": replicas})
        )

    # -- objects ---------------------------------------------------------------------------------------------

    def _put(self, wanted: Object) -> None:
        """Apply: what is there keeps its status."""
        metadata = wanted["metadata"]
        for one in self.api.objects:
            if _is(one, wanted["kind"], metadata["name"], metadata.get("namespace")):
                status = wanted.get("status", one.get("status"))
                one.clear()
                one.update(wanted)
                if status is not None:
                    one["status"] = status
                break
        else:
            self.api.objects.append(wanted)
        wanted["metadata"].setdefault("labels", {})
        self.api.kinds.add((wanted["apiVersion"], wanted["kind"]))

    def _change(self, kind: str, name: str, namespace: str | None, how: Callable[[Object], Any]) -> str:
        [found] = [one for one in self.api.objects if _is(one, kind, name, namespace)]
        how(found)
        return ""

    def _controllers(self) -> None:
        """What acts on objects has acted: all is programmed, bound and running as its spec says."""
        for one in self.api.objects:
            status = one.setdefault("status", {})
            act = _CONTROLLERS.get(one["kind"])
            if act:
                act(one, status)


def _programmed(one: Object, status: Object) -> None:
    status.update(next(other for other in snapshot.healthy() if other["kind"] == "Gateway")["status"])
    one["metadata"]["generation"] = 1


def _accepted(one: Object, status: Object) -> None:
    if not status:
        status.update(snapshot.route("a", "b", ("c", 1), None)["status"])


def _running(one: Object, status: Object) -> None:
    if one["spec"].get("replicas") == 1:
        status.setdefault("readyReplicas", 1)


def _grown(one: Object, status: Object) -> None:
    if status.get("capacity"):
        status["capacity"] = dict(one["spec"]["resources"]["requests"])


def _counted(one: Object, status: Object) -> None:
    if not status:
        status["availableIPv4"] = 10


def _offered(one: Object, status: Object) -> None:
    for port in one["spec"]["ports"] if one["spec"].get("type") == "NodePort" else []:
        port.setdefault("nodePort", 30080)


def _encoded(one: Object, status: Object) -> None:
    for key, value in one.pop("stringData", {}).items():
        one["data"][key] = snapshot.encoded(value)


_CONTROLLERS: dict[str, Callable[[Object, Object], None]] = {
    "Gateway": _programmed,
    "HTTPRoute": _accepted,
    "Deployment": _running,
    "PersistentVolumeClaim": _grown,
    "IPAddressPool": _counted,
    "Service": _offered,
    "Secret": _encoded,
    "ResourceQuota": lambda one, status: status.clear(),
}


def _is(one: Object, kind: str, name: str, namespace: str | None) -> bool:
    called = {
        one["kind"].lower(),
        plural_of(one["kind"]),
        {"PersistentVolumeClaim": "pvc"}.get(one["kind"], ""),
    }
    group = one["apiVersion"].rpartition("/")[0]
    return (
        (kind.lower() in called or kind == f"{plural_of(one['kind'])}.{group}")
        and one["metadata"]["name"] == name
        and one["metadata"].get("namespace") == namespace
    )


def _merge(target: Any, change: Any) -> None:
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        else:
            target[key] = value


def _json_patch(target: Any, change: dict[str, Any]) -> bool:
    assert change["op"] == "replace"
    *path, last = [one.replace("~1", "/") for one in change["path"].split("/")[1:]]
    for step in path:
        target = target[int(step)] if step.isdigit() else target[step]
    assert last in target, "a replacement needs what it replaces"
    target[last] = change["value"]
    return True
