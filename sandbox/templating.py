"""Configuration files as Jinja templates in `sandbox/templates` and `sandbox/manifests`."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sandbox.settings import FILES

_environment = Environment(
    loader=FileSystemLoader(FILES),
    undefined=StrictUndefined,
    keep_trailing_newline=True,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,  # noqa: S701 - these are configuration files, not HTML
)
_environment.filters["quote"] = shlex.quote


def render(template: str, **values: object) -> str:
    """The text of a template, named by its path below `sandbox/`; an unknown variable is an error."""
    return _environment.get_template(template).render(values)


def write(path: Path, text: str, *, mode: int = 0o644) -> bool:
    """Write a file whole or not at all; say whether its content is another one than before."""
    if path.is_file() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.new")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    scratch.rename(path)
    return True
