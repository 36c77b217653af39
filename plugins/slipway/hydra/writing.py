"""YAML files as a person would write them, and many of them written at once."""

from __future__ import annotations

import math
import os
import re
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from slipway.hydra.faults import HydraError

WIDTH = 110
# Longer texts stand in a block of their own, where nothing of them needs escaping.
LONG = 80
# YAML takes these for line ends too, and only in double quotes are they escaped.
_LINE_ENDS = re.compile("[\r\x85\u2028\u2029]")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, items of lists indented below their key, no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value or len(value) > LONG else None
    if _LINE_ENDS.search(value):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def yaml_text(data: Any, *, comments: Sequence[str] = ()) -> str:
    """Write a document with comments at its top."""
    lines = [
        line
        for comment in comments
        for line in textwrap.wrap(
            _printable(comment), WIDTH - 2, subsequent_indent="  ", break_on_hyphens=False
        )
    ]
    head = "".join(f"# {line}\n" for line in lines)
    return head + yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)


def _printable(text: str) -> str:
    """A comment has no escapes, and YAML refuses control characters in one."""
    return "".join(character if character.isprintable() else "?" for character in text)


def write_all(texts: Mapping[Path, str], *, replace: bool) -> None:
    """Write files: all of them, or none.

    Raises:
        HydraError: one of them is there already and may not be replaced, or cannot be written.
    """
    there = [path for path in texts if path.exists() or path.is_symlink()]
    if there and not replace:
        raise HydraError(
            "a file is there already",
            about=", ".join(map(str, there)),
            remedy="Choose another name for the runtime, or have it replaced",
        )
    before = {path: path.read_bytes() for path in there}
    written: list[Path] = []
    try:
        for path, text in texts.items():
            _write(path, text, replace=replace)
            written.append(path)
    except OSError as error:
        for path in written:
            _restore(path, before.get(path))
        raise HydraError("a file cannot be written", about=str(path), why=str(error.strerror)) from error


def _write(path: Path, text: str, *, replace: bool) -> None:
    """Write one file so that nobody ever reads half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:64]}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        if replace:
            Path(name).replace(path)
        else:
            path.hardlink_to(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _restore(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)
