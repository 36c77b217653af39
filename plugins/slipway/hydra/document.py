"""YAML with the place of everything in it, read with suspicion: what has no meaning here is refused with its line.

A value knows its file and line also when it stands in YAML inside YAML, as ``config.yaml`` does in a ConfigMap.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from slipway.errors import bounded
from slipway.hydra.faults import HydraError

# A ConfigMap holds 1 MiB; kubectl shows the managed fields and the last applied form beside it.
LARGEST_FILE = 4 * 1024 * 1024
DEEPEST = 64
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_OCTAL = re.compile(r"0[0-7]{1,17}")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]+([eE][-+]?[0-9]{1,2})?")


@dataclass(frozen=True)
class Origin:
    """Where a YAML text comes from.

    Attributes:
        file: what a person calls it.
        line: the file's line of the text's first one.
        inside: None when the text's lines are the file's; else what they are lines of.
    """

    file: str
    line: int = 1
    inside: str | None = None

    def at(self, line: int) -> str:
        """Name a line of the text, counted from 1."""
        if self.inside is None:
            return f"{self.file}:{self.line + line - 1}"
        return f"{self.file}:{self.line}, line {line} of {self.inside}"


@dataclass(frozen=True)
class Entry:
    """One value of a document."""

    node: Any
    origin: Origin

    @property
    def place(self) -> str:
        """File and line."""
        return self.origin.at(self.node.start_mark.line + 1)

    @property
    def empty(self) -> bool:
        """Whether nothing is said: null, ``[]`` or ``{}``."""
        return self._is("null") or (not isinstance(self.node, yaml.ScalarNode) and not self.node.value)

    def refuse(self, what: str, why: str = "", remedy: str = "") -> NoReturn:
        """Raise an error about this value."""
        raise HydraError(what, about=self.place, why=why, remedy=remedy)

    def mapping(self, known: Collection[str] | None = None, *, of: str = "") -> dict[str, Entry]:
        """Its keys and values.

        Args:
            known: the only keys that it may have; None for any.
            of: what it describes, for the message.

        Raises:
            HydraError: not a mapping, a key that is not known, or one that is there twice.
        """
        if not isinstance(self.node, yaml.MappingNode) or not self._is("map"):
            self.refuse(f"{of or 'this'} is not a mapping of keys to values")
        made: dict[str, Entry] = {}
        for key, value in self.node.value:
            entry = Entry(key, self.origin)
            name = entry.string("a key")
            if name in made:
                entry.refuse(f"the key {bounded(name, limit=80)!r} is there twice")
            if known is not None and name not in known:
                entry.refuse(
                    f"the key {bounded(name, limit=80)!r} of {of} is not known",
                    why="it would be lost",
                    remedy=f"Take it out; known are: {', '.join(known)}",
                )
            made[name] = Entry(value, self.origin)
        return made

    def sequence(self, of: str) -> list[Entry]:
        """Its items; none when nothing is said.

        Raises:
            HydraError: not a list.
        """
        if self._is("null"):
            return []
        if not isinstance(self.node, yaml.SequenceNode) or not self._is("seq"):
            self.refuse(f"{of} is not a list")
        return [Entry(item, self.origin) for item in self.node.value]

    def string(self, of: str) -> str:
        """Its text.

        Raises:
            HydraError: not text; YAML takes 1.10 for a number and yes for true.
        """
        if not isinstance(self.node, yaml.ScalarNode):
            self.refuse(f"{of} is not text")
        if not self._is("str"):
            self.refuse(f"{of} is not text", why="YAML reads it as another type", remedy="Put it in quotes")
        return str(self.node.value)

    def line_in(self, line: int) -> str:
        """Name a line of its text, counted from 1: the file's own where the text stands there line by line."""
        first = self.node.start_mark.line + 1
        if self.node.style == "|":
            return self.origin.at(first + line)
        single = "\n" not in self.node.value
        return self.origin.at(first) + ("" if single else f", line {line} of the template")

    def inner(self, of: str) -> Iterator[Entry]:
        """The documents of the YAML that its text is."""
        text, first = self.string(of), self.node.start_mark.line + 1
        exact = self.node.style == "|" and self.origin.inside is None
        origin = Origin(self.origin.file, self.origin.line + first) if exact else None
        return read_text(text, origin or Origin(self.origin.file, self.origin.line + first - 1, inside=of))

    def data(self) -> Any:
        """Itself as plain data, for what is Kubernetes' own.

        Raises:
            HydraError: a value that YAML readers do not agree on, or a tag.
        """
        if isinstance(self.node, yaml.MappingNode):
            return {key: value.data() for key, value in self.mapping().items()}
        if isinstance(self.node, yaml.SequenceNode):
            return [item.data() for item in self.sequence("this")]
        return self._scalar()

    def _scalar(self) -> str | int | float | bool | None:
        text: str = self.node.value
        if self._is("str"):
            return text
        if self._is("null"):
            return None
        if self._is("bool"):
            return text.lower() in ("true", "yes", "on")
        if self._is("int") and _DECIMAL.fullmatch(text):
            return int(text)
        if self._is("int") and _OCTAL.fullmatch(text):
            return int(text, 8)
        if self._is("float") and _FLOAT.fullmatch(text):
            return float(text)
        self.refuse(
            "a value that cannot be carried over", why=bounded(text, limit=80), remedy="Put it in quotes"
        )

    def _is(self, kind: str) -> bool:
        return bool(self.node.tag == _TAG + kind)


def read_file(path: Path) -> Iterator[Entry]:
    """The documents of a file.

    Raises:
        HydraError: it cannot be read, or is not YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        text = content.decode("utf-8")
    except OSError as error:
        raise HydraError("a file cannot be read", about=str(path), why=str(error.strerror)) from error
    except UnicodeDecodeError as error:
        raise HydraError("a file is not UTF-8", about=str(path), why=str(error.reason)) from error
    if len(content) > LARGEST_FILE:
        raise HydraError("a file is too large", about=str(path), why=f"more than {LARGEST_FILE} bytes")
    return read_text(text, Origin(str(path)))


def read_text(text: str, origin: Origin) -> Iterator[Entry]:
    """The documents of a YAML text; empty ones are left out.

    Raises:
        HydraError: it is not YAML, is nested too deeply, or has aliases, which a few lines can grow without bounds.
    """
    try:
        _refuse_growth(text, origin)
        for node in yaml.compose_all(text, Loader=_Loader):
            entry = Entry(node, origin)
            if not entry.empty:
                yield entry
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = bounded(str(error.problem or error.context))
        raise HydraError("not YAML", about=origin.at(mark.line + 1 if mark else 1), why=why) from error
    except (yaml.YAMLError, ValueError) as error:
        raise HydraError("not YAML", about=origin.at(1), why=bounded(str(error))) from error


def _refuse_growth(text: str, origin: Origin) -> None:
    """Look at the parser's events, which take no depth of ours, before anything is built from them."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST or isinstance(event, yaml.AliasEvent):
            raise HydraError(
                f"nested deeper than {DEEPEST} levels" if depth > DEEPEST else "an alias",
                about=origin.at(event.start_mark.line + 1 if event.start_mark else 1),
                remedy="Write it out",
            )
