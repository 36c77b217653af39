"""Go modules that are built with less than they have: our files in the place of theirs.

Below `patched` of a module directory lies a folder for each dependency. A folder of Go files there takes the place of
all Go files of the same folder in the dependency. `edits.yaml` says what else is otherwise, each edit one of these:

- `file`, `find`, `put`: a text in the place of another one.
- `file`, `from`, `to`: what stands from the one text up to the other is left out.
- `folder`, `keep` or `drop`: of a folder's Go files only some stay, or some go.

Of its go.mod the name and the language's version stay: which versions it is built with, the module directory's own
go.mod says.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from sandbox.errors import SandboxError

FOLDER = "patched"
EDITS = "edits.yaml"


def files(source: Path, dependency: str) -> list[Path]:
    """All that changes a dependency of a module directory."""
    ours = source / FOLDER / dependency
    return sorted((*ours.rglob("*.go"), *ours.glob(EDITS)))


def patch(copy: Path, *, source: Path, dependency: str) -> None:
    """Change a copy of a dependency, whose files are read-only as in Go's module cache.

    Raises:
        SandboxError: the dependency is another one than the edits were made for.
    """
    ours = source / FOLDER / dependency
    ours_go = [file.relative_to(ours) for file in files(source, dependency) if file.suffix == ".go"]
    for folder in {file.parent for file in ours_go}:
        for theirs in (copy / folder).glob("*.go"):
            theirs.unlink()
    for file in ours_go:
        shutil.copyfile(ours / file, copy / file)
    edits = ours / EDITS
    for edit in yaml.safe_load(edits.read_text()) if edits.exists() else []:
        try:
            _edit(copy, edit)
        except ValueError as error:
            raise SandboxError(f"{dependency} has no {error} any more; see {edits}") from None
    lines = (copy / "go.mod").read_text().splitlines()
    kept = [line for line in lines if line.split(" ")[0] in ("module", "go")]
    _write_anew(copy / "go.mod", "\n".join(kept) + "\n")


def _edit(copy: Path, edit: dict[str, Any]) -> None:
    """Make one edit; ValueError names what is not there."""
    if "folder" in edit:
        names = {file.name for file in (copy / edit["folder"]).glob("*.go")}
        if missing := {*edit.get("keep", []), *edit.get("drop", [])} - names:
            raise ValueError(f"{missing.pop()} in {edit['folder']}")
        for name in edit["drop"] if "drop" in edit else names - set(edit["keep"]):
            (copy / edit["folder"] / name).unlink()
        return
    text = (copy / edit["file"]).read_text()
    if "find" in edit:
        if edit["find"] not in text:
            raise ValueError(f"{edit['find']} in {edit['file']}")
        _write_anew(copy / edit["file"], text.replace(edit["find"], edit["put"]))
        return
    before, _, rest = text.partition(edit["from"])
    _, found, after = rest.partition(edit["to"])
    if not found:
        raise ValueError(f"{edit['from'].strip()} … {edit['to'].strip()} in {edit['file']}")
    _write_anew(copy / edit["file"], before + edit["to"] + after)


def _write_anew(file: Path, text: str) -> None:
    file.unlink()
    file.write_text(text)
