"""What is different between two releases of an endpoint, for people: read before a rollback."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from slipway.manifests.render import Manifest, Rendered
from slipway.releases.records import Release

# Each release names its pods, Services and selectors by its own label; that difference says nothing.
_OWN_LABEL = "<release>"


def difference(old: Release, new: Release) -> list[str]:
    """Say line by line what deploying ``new`` in the place of ``old`` changes: image, arguments, weights, objects.

    Args:
        old: what serves.
        new: what is to serve.
    """
    lines = list(_facts(old, new))
    before, after = _objects(old), _objects(new)
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            lines.append(f"{name}: would be deleted")
        elif name not in before:
            lines.append(f"{name}: would be made")
        else:
            lines += difflib.unified_diff(
                before[name].splitlines(),
                after[name].splitlines(),
                f"{name} of {old.title}",
                f"{name} of {new.title}",
                lineterm="",
                n=2,
            )
    return lines or ["no difference"]


def _facts(old: Release, new: Release) -> Iterator[str]:
    server_before, server_after = _server(old), _server(new)
    facts = {
        "image": (server_before.get("image"), server_after.get("image")),
        "args": (_words(server_before.get("args")), _words(server_after.get("args"))),
        "weights": (old.weights_source, new.weights_source),
        "weights digest": (old.weights_digest, new.weights_digest),
    }
    for name, (before, after) in facts.items():
        if before != after:
            yield f"{name}: {before or 'none'} -> {after or 'none'}"


def _server(release: Release) -> Mapping[str, Any]:
    server: Mapping[str, Any] = release.plan.get("server") or {}
    return server


def _words(args: list[str] | None) -> str:
    return " ".join(args or [])


def _objects(release: Release) -> dict[str, str]:
    found = Rendered.from_bytes(release.objects)
    return {_name(obj, found.release): _text(obj, found.release) for obj in found.objects()}


def _name(obj: Manifest, label: str) -> str:
    return f"{obj['kind']} {_neutral(obj['metadata']['name'], label)}"


def _text(obj: Manifest, label: str) -> str:
    # Neutral before it is YAML: a label of digits alone is quoted there, and another is not.
    neutral = json.loads(_neutral(json.dumps(obj), label))
    return yaml.safe_dump(neutral, sort_keys=True, allow_unicode=True, width=110)


def _neutral(text: str, label: str) -> str:
    return text.replace(label, _OWN_LABEL).replace(label[:8], _OWN_LABEL)
