"""One YAML file of the catalog, read with suspicion: what YAML would pass over in silence is a fault with its line.

YAML takes the last of two equal keys, reads ``1:30`` as 90 and ``2026-01-01`` as a date, and lets a few lines of
anchors grow to gigabytes. A record is plain data: mappings, lists, text, numbers, true, false and null.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slipway.errors import bounded

LARGEST_FILE = 1024 * 1024
MOST_VALUES = 50_000
DEEPEST = 64
LONGEST_KEY = 256
# The C parser calls itself for each level and has no limit; so many characters cannot exhaust a stack.
_HARMLESS_LENGTH = 4096

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_LONGEST_NUMBER = 40
_PLAIN = frozenset(f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq", "merge"))

Where = tuple[int | str, ...]


@dataclass(frozen=True)
class Mistake:
    """A fault of a document itself, whatever it should describe."""

    line: int
    where: Where
    message: str


@dataclass(frozen=True)
class Document:
    """A file's text and what it says; ``data`` means nothing when there is a mistake."""

    text: str
    data: Any
    mistakes: list[Mistake]


def read_document(path: Path) -> Document:
    """Read a file; never raises for what the file contains."""
    try:
        if not path.is_file() and path.exists():
            return _unusable("is not a file")
        if (size := path.stat().st_size) > LARGEST_FILE:
            return _unusable(f"has {size} bytes; a record has at most {LARGEST_FILE}")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        return _unusable(f"is not UTF-8: {error.reason} at byte {error.start}")
    except OSError as error:
        return _unusable(f"cannot be read: {error.strerror}")
    try:
        return _parse(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        return _unusable(f"not YAML: {bounded(str(error.problem or error.context))}", line=line, text=text)
    except yaml.YAMLError as error:
        return _unusable(f"not YAML: {bounded(str(error))}", text=text)


def line_of(text: str, where: Sequence[int | str] | str) -> int:
    """Find the line of a field: the deepest part of it that the document has.

    Args:
        text: a document that could be read.
        where: keys and positions, or these joined with dots; a key may itself have dots.
    """
    node, line = yaml.compose(text, Loader=_Loader), 1
    rest = list(where.split(".")) if isinstance(where, str) else [str(part) for part in where]
    while rest:
        found = _step(node, rest)
        if found is None:
            break
        line, node, used = found
        rest = rest[used:]
    return line


def _step(node: Any, rest: list[str]) -> tuple[int, Any, int] | None:
    """Go one level down: the line there, the node, and how many parts of the way that took."""
    if isinstance(node, yaml.MappingNode):
        for used in range(len(rest), 0, -1):
            name = ".".join(rest[:used])
            for key, value in node.value:
                if key.value == name:
                    return key.start_mark.line + 1, value, used
    elif isinstance(node, yaml.SequenceNode) and rest[0].isdigit() and int(rest[0]) < len(node.value):
        item = node.value[int(rest[0])]
        return item.start_mark.line + 1, item, 1
    return None


def _unusable(message: str, *, line: int = 1, text: str = "") -> Document:
    return Document(text, None, [Mistake(line, (), message)])


def _parse(text: str) -> Document:
    if len(text) > _HARMLESS_LENGTH:
        _refuse_depth(text)
    loader = _Loader(text)
    try:
        reader = _Reader(loader)
        node = loader.get_single_node()
        data = None if node is None else reader.value(node, ())
    except _TooLargeError as error:
        return Document(text, None, [Mistake(error.line, (), "its anchors and aliases grow without bounds")])
    finally:
        loader.dispose()
    return Document(text, data, sorted(reader.mistakes, key=lambda mistake: mistake.line))


def _refuse_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise yaml.YAMLError(f"nested deeper than {DEEPEST} levels")


class _TooLargeError(Exception):
    def __init__(self, line: int) -> None:
        self.line = line


class _Reader:
    """Makes data of nodes, every alias written out, as far as that stays within bounds; and keeps what is odd.

    PyYAML's own constructor takes anything a tag may mean and drops a key that comes twice; this is also faster.
    """

    def __init__(self, loader: Any) -> None:
        self._numbers = {"int": loader.construct_yaml_int, "float": loader.construct_yaml_float}
        self._words: dict[str, bool] = loader.bool_values
        self._left = MOST_VALUES
        self.mistakes: list[Mistake] = []

    def value(self, node: Any, where: Where) -> Any:
        """What a node says; None where it is odd."""
        self._left -= 1
        if self._left < 0 or len(where) > DEEPEST:
            raise _TooLargeError(node.start_mark.line + 1)
        kind = node.tag.removeprefix(_TAG)
        if kind == "str":
            return node.value
        if kind == "map":
            return self._mapping(node, where)
        if kind == "seq":
            return [self.value(item, (*where, number)) for number, item in enumerate(node.value)]
        return self._scalar(node, kind, where)

    def _mapping(self, node: Any, where: Where) -> dict[Any, Any]:
        self.mistakes += _twice(node, where)
        merged: dict[Any, Any] = {}
        own: dict[Any, Any] = {}
        for key, item in node.value:
            if key.tag == f"{_TAG}merge":
                merged = {**self._merged(item, (*where, "<<")), **merged}
            elif isinstance(key, yaml.ScalarNode) and len(key.value) <= LONGEST_KEY:
                name = self.value(key, where)
                own[name] = self.value(item, (*where, name))
            else:
                self._odd(key, where, f"a key is one scalar of at most {LONGEST_KEY} characters")
        return {**merged, **own} if merged else own

    def _merged(self, node: Any, where: Where) -> dict[Any, Any]:
        """What ``<<`` brings in: a mapping, or several of which the first counts most."""
        found = self.value(node, where)
        parts = found if isinstance(found, list) else [found]
        if not all(isinstance(part, dict) for part in parts):
            self._odd(node, where, "only mappings can be merged")
            return {}
        return {key: value for part in reversed(parts) for key, value in part.items()}

    def _scalar(self, node: Any, kind: str, where: Where) -> Any:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _PLAIN:
            if kind == "timestamp":
                return self._odd(node, where, "YAML reads this as a date: put it in quotes")
            tag = bounded(node.tag, limit=80)
            return self._odd(node, where, f"the tag {tag} has no meaning in a record")
        if kind == "null":
            return None
        if kind == "bool" and node.value.lower() in self._words:
            return self._words[node.value.lower()]
        if ":" in node.value:
            message = "YAML reads this as a number to the base of 60: put it in quotes"
            return self._odd(node, where, message)
        try:
            number = self._numbers[kind](node) if len(node.value) <= _LONGEST_NUMBER else math.inf
        except (KeyError, ValueError):
            number = math.inf
        return number if math.isfinite(number) else self._odd(node, where, "is not a number that can be used")

    def _odd(self, node: Any, where: Where, message: str) -> None:
        self.mistakes.append(Mistake(node.start_mark.line + 1, where, message))


def _twice(node: Any, where: Where) -> Iterator[Mistake]:
    keys = [key.value if isinstance(key, yaml.ScalarNode) else "" for key, _ in node.value]
    if len(set(keys)) == len(keys):
        return
    first: dict[str, int] = {}
    for (key, _), name in zip(node.value, keys, strict=True):
        line = key.start_mark.line + 1
        if name in first:
            yield Mistake(line, (*where, name), f"is there twice: first in line {first[name]}")
        first.setdefault(name, line)
