"""Where in the catalog's files something is wrong, in the form that editors and terminals make clickable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from slipway.catalog.documents import line_of
from slipway.catalog.faults import Fault


@dataclass(frozen=True)
class Problem:
    """One fault of the catalog: where it is and what to do about it."""

    file: str
    line: int
    field: str
    message: str

    def render(self) -> str:
        """One line, in the form that editors make clickable."""
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"


def shown(path: Path, include: Path) -> str:
    """A file as people call it: from the include directory on."""
    return str(Path(include.name) / path.relative_to(include))


def problems_at(path: Path, faults: Iterable[Fault], *, include: Path) -> list[Problem]:
    """Give faults of a record the lines of its file."""
    faults = list(faults)
    text = path.read_text(encoding="utf-8") if faults else ""
    where = shown(path, include)
    return [Problem(where, line_of(text, one.field), one.field, one.message) for one in faults]
