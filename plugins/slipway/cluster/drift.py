"""What somebody changed about an object since it was applied: field by field, with who holds each field now.

The server keeps, for each field of an object, who set it (``metadata.managedFields``). A field of ours that somebody
else has written is no longer ours, and one that he took out nobody holds; so what a release's manifest says and Slipway
does not hold any more has been changed. Values alone would not tell: the server writes some in another form, and
webhooks change others as they are applied, which is nobody's doing.

Nothing is asked of the server here: objects come from lists, which makes it cheap for a thousand endpoints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from slipway.catalog.quantities import quantity
from slipway.cluster.objects import MANAGER, Object, ref_of
from slipway.cluster.redact import HIDDEN, redact
from slipway.cluster.shapes import pod_templates
from slipway.errors import UsageError, bounded

Kind = Literal["changed", "removed", "added", "deleted"]
Tree = Mapping[str, Any]
_LONGEST_VALUE = 160
# Additions of controllers are their work: a volume's name on a claim, a node port, a status kept in the spec.
_CONTROLLERS = re.compile(r"^kube-|^kubelet$|controller|operator|provisioner|-manager$")


@dataclass(frozen=True)
class Drift:
    """One difference between a release and what is there.

    Attributes:
        object: ``Service models/qwen3-tiny``.
        field: ``spec.ports[name=http].port``; "" for the whole object.
        what: what happened to it; ``deleted`` is a whole object.
        was, now: the release's value and the live one, bounded and without what looks like a secret.
        manager: the field manager that holds it now (``kubectl-edit``); "" where the server does not say.
        at: when that manager wrote last, as the server says it.
    """

    object: str
    field: str
    what: Kind
    was: str = ""
    now: str = ""
    manager: str = ""
    at: str = ""


@dataclass(frozen=True)
class _Holder:
    """One other manager's fields below some field."""

    manager: str
    at: str
    tree: Tree


def drifts_of(wanted: Object, live: Object | None) -> list[Drift]:
    """Compare an object of a release with the live one. Replicas are left out: they belong to whoever scales. Pure.

    Args:
        wanted: as it was applied.
        live: as it is; None when it is not there.
    """
    about = str(ref_of(wanted))
    if live is None:
        return [Drift(object=about, field="", what="deleted")]
    if live["metadata"].get("deletionTimestamp"):
        return [Drift(object=about, field="", what="deleted", at=live["metadata"]["deletionTimestamp"])]
    ours, others = _managers(live)
    said = _what_counts(wanted)
    found = [*_changes(said, live, ours, others, ()), *_additions(said, live, others)]
    return [
        Drift(
            object=about,
            field=_dotted(one.path),
            what=one.what,
            was=_shown(one.path, one.was),
            now=_shown(one.path, one.now),
            manager=one.holder.manager if one.holder else "",
            at=one.holder.at if one.holder else "",
        )
        for one in found
    ]


@dataclass(frozen=True)
class _Found:
    path: tuple[str, ...]
    what: Kind
    was: Any
    now: Any
    holder: _Holder | None


def _managers(live: Object) -> tuple[Tree | None, list[_Holder]]:
    """Our own fields, and those of everybody else who is not Slipway in another role."""
    ours: Tree | None = None
    others = []
    for entry in live["metadata"].get("managedFields") or []:
        manager, tree = entry.get("manager", ""), entry.get("fieldsV1") or {}
        if manager == MANAGER and entry.get("operation") == "Apply":
            ours = tree
        elif not manager.startswith(MANAGER) and not entry.get("subresource"):
            others.append(_Holder(manager=manager, at=entry.get("time", ""), tree=tree))
    return ours, others


def _what_counts(wanted: Object) -> Object:
    """What of a manifest managers are kept for, less the replicas."""
    metadata = {
        key: wanted["metadata"][key] for key in ("labels", "annotations") if key in wanted["metadata"]
    }
    said = {
        key: value for key, value in wanted.items() if key not in ("apiVersion", "kind", "metadata", "status")
    }
    if pod_templates(wanted) and "replicas" in said["spec"]:
        said["spec"] = {key: value for key, value in said["spec"].items() if key != "replicas"}
    return {"metadata": metadata, **said}


def _changes(
    wanted: Any, live: Any, ours: Tree | None, others: list[_Holder], path: tuple[str, ...]
) -> Iterator[_Found]:
    """What of a release's value is not ours any more and not as it was."""
    if ours is not None and not _has_children(ours):
        return  # a whole value that is still ours
    taken = next((one for one in _newest(others) if not _has_children(one.tree)), None)
    if live is None:
        if wanted not in (None, {}, []):
            yield _Found(path, "removed", wanted, None, None)
    elif isinstance(wanted, dict) and isinstance(live, dict) and taken is None:
        for key, value in wanted.items():
            step = f"f:{key}"
            below = [_Holder(one.manager, one.at, one.tree[step]) for one in others if step in one.tree]
            yield from _changes(value, live.get(key), (ours or {}).get(step), below, (*path, key))
    elif isinstance(wanted, list) and isinstance(live, list) and taken is None and _keys(ours, others):
        yield from _changed_items(wanted, live, ours or {}, others, path)
    elif not _same(wanted, live):
        yield _Found(path, "changed", wanted, live, taken or next(iter(_newest(others)), None))


def _changed_items(
    wanted: list[Any], live: list[Any], ours: Tree, others: list[_Holder], path: tuple[str, ...]
) -> Iterator[_Found]:
    """The same for a list whose items have keys (``containers`` by name), or are a set."""
    for item in wanted:
        found = next((one for one in live if _is_item(item, one, _keys(ours, others))), None)
        name = _name_of(item, _keys(ours, others))
        if found is None:
            yield _Found((*path, name), "removed", item, None, None)
            continue
        below = [
            _Holder(one.manager, one.at, tree)
            for one in others
            if (tree := _item_of(one.tree, found)) is not None
        ]
        yield from _changes(item, found, _item_of(ours, found), below, (*path, name))


def _additions(wanted: Object, live: Object, others: list[_Holder]) -> Iterator[_Found]:
    """What people added to what a release says; labels and annotations are anybody's."""
    for one in others:
        if not _CONTROLLERS.search(one.manager):
            tree = {key: value for key, value in one.tree.items() if key != "f:metadata"}
            yield from _added(wanted, live, tree, one, ())


def _added(wanted: Any, live: Any, tree: Tree, who: _Holder, path: tuple[str, ...]) -> Iterator[_Found]:
    for step, below in tree.items():
        kind, _, rest = step.partition(":")
        if kind == "f" and isinstance(wanted, dict) and isinstance(live, dict) and rest in live:
            if rest in wanted:
                yield from _added(wanted[rest], live[rest], below, who, (*path, rest))
            elif (*path, rest) != ("spec", "replicas"):
                yield _Found((*path, rest), "added", None, live[rest], who)
        elif kind == "k" and isinstance(wanted, list) and isinstance(live, list):
            keys = json.loads(rest)
            found = next((one for one in live if _has(one, keys)), None)
            said = next((one for one in wanted if _is_item(one, found, frozenset(keys))), None)
            here = (*path, _name_of(found or keys, frozenset(keys)))
            if said is None:
                yield _Found(here, "added", None, found, who)
            else:
                yield from _added(said, found, below, who, here)
        elif kind == "v" and isinstance(wanted, list) and json.loads(rest) not in wanted:
            yield _Found((*path, rest), "added", None, json.loads(rest), who)


def _has_children(tree: Tree) -> bool:
    return any(key != "." for key in tree)


def _newest(holders: Iterable[_Holder]) -> list[_Holder]:
    return sorted(holders, key=lambda one: one.at, reverse=True)


def _keys(ours: Tree | None, others: Iterable[_Holder]) -> frozenset[str]:
    """By what the items of a list are told apart, as the managers' own entries say; "" for the values of a set."""
    for tree in [ours or {}, *(one.tree for one in others)]:
        for step in tree:
            if step.startswith("k:"):
                return frozenset(json.loads(step[2:]))
            if step.startswith("v:"):
                return frozenset({""})
    return frozenset()


def _is_item(wanted: Any, live: Any, keys: frozenset[str]) -> bool:
    """Whether a live item is the one that a manifest means; a key that the manifest leaves to a default fits any."""
    if not isinstance(wanted, dict) or not isinstance(live, dict):
        return bool(wanted == live)
    return all(key not in wanted or wanted[key] == live.get(key) for key in keys)


def _item_of(tree: Tree, item: Any) -> Tree | None:
    """The part of a list's managers' entries that is about one item."""
    for step, below in tree.items():
        kind, _, rest = step.partition(":")
        if (kind == "k" and _has(item, json.loads(rest))) or (kind == "v" and json.loads(rest) == item):
            found: Tree = below
            return found
    return None


def _has(item: Any, keys: Mapping[str, Any]) -> bool:
    return isinstance(item, dict) and all(item.get(key) == value for key, value in keys.items())


def _name_of(item: Any, keys: frozenset[str]) -> str:
    if not isinstance(item, dict):
        return f"[{item}]"
    return "[" + ",".join(f"{key}={item[key]}" for key in sorted(keys) if key in item) + "]"


def _same(wanted: Any, live: Any) -> bool:
    """Whether a live value is what a manifest says, defaults and other forms of a quantity aside."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return all(value in (None, {}, []) or _same(value, live.get(key)) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) == len(live) and all(map(_same, wanted, live))
    if wanted == live or str(wanted) == str(live):
        return True
    try:
        return quantity(str(wanted)) == quantity(str(live))
    except UsageError:
        return False


def _dotted(path: tuple[str, ...]) -> str:
    return "".join(part if part.startswith("[") else f".{part}" for part in path).lstrip(".")


def _shown(path: tuple[str, ...], value: Any) -> str:
    if value is None:
        return ""
    if "env" in path and path[-1] == "value":
        return HIDDEN  # whoever writes a value there may write a key
    text = value if isinstance(value, str) else json.dumps(_without_values(value), sort_keys=True)
    return bounded(redact(text), limit=_LONGEST_VALUE)


def _without_values(value: Any) -> Any:
    """The same without the values of environment variables."""
    if isinstance(value, dict):
        hidden = {"value": HIDDEN} if "name" in value and "value" in value else {}
        return {key: _without_values(one) for key, one in value.items()} | hidden
    return [_without_values(one) for one in value] if isinstance(value, list) else value
