"""Go modules that are built with less: what takes whose place, and what happens when a module changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox import gobuild, gopatch
from sandbox.errors import SandboxError

DEPENDENCY = "example.com/heavy"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A module directory with a patch: a package of ours, and an edit."""
    ours = tmp_path / "source" / gopatch.FOLDER / DEPENDENCY
    (ours / "clouds").mkdir(parents=True)
    (ours / "clouds" / "none.go").write_text("package clouds // none")
    (ours / gopatch.EDITS).write_text("- {file: main.go, find: old.Word, put: new.Word}\n")
    return tmp_path / "source"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The dependency, read-only as in Go's module cache."""
    heavy = tmp_path / "copy"
    (heavy / "clouds" / "deep").mkdir(parents=True)
    for name, text in {
        "go.mod": "module example.com/heavy\n\ngo 1.24\n\nrequire example.com/newest v9.9.9\n",
        "main.go": "use(old.Word, old.Word)",
        "clouds/aws.go": "package clouds",
        "clouds/azure.go": "package clouds",
        "clouds/deep/deep.go": "package deep",
    }.items():
        (heavy / name).write_text(text)
        (heavy / name).chmod(0o444)
    return heavy


def test_a_folder_of_ours_takes_the_place_of_all_go_files_of_that_folder(source: Path, copy: Path) -> None:
    gopatch.patch(copy, source=source, dependency=DEPENDENCY)
    assert [file.name for file in (copy / "clouds").glob("*.go")] == ["none.go"]
    assert (copy / "clouds" / "deep" / "deep.go").exists()
    assert (copy / "main.go").read_text() == "use(new.Word, new.Word)"
    assert (copy / "go.mod").read_text() == "module example.com/heavy\ngo 1.24\n"


def test_an_edit_that_finds_nothing_stops_the_build(source: Path, copy: Path) -> None:
    (copy / "main.go").chmod(0o644)
    (copy / "main.go").write_text("use(newer.Word)")
    with pytest.raises(SandboxError, match=r"example\.com/heavy has no old\.Word in main\.go any more"):
        gopatch.patch(copy, source=source, dependency=DEPENDENCY)


EDITS = [
    ("{file: main.go, from: '(', to: ', old'}", "main.go", "use, old.Word)"),
    ("{folder: clouds, keep: [aws.go]}", "clouds", ["aws.go"]),
    ("{folder: clouds, drop: [aws.go]}", "clouds", ["azure.go"]),
]


@pytest.mark.parametrize(("edit", "path", "left"), EDITS)
def test_what_an_edit_leaves_out_is_gone_and_the_rest_is_there(
    source: Path, copy: Path, edit: str, path: str, left: Any
) -> None:
    ours = source / gopatch.FOLDER / DEPENDENCY
    (ours / "clouds" / "none.go").unlink()
    (ours / gopatch.EDITS).write_text(f"- {edit}\n")
    gopatch.patch(copy, source=source, dependency=DEPENDENCY)
    found = copy / path
    assert left == (sorted(one.name for one in found.glob("*.go")) if found.is_dir() else found.read_text())


MISSING = [
    ("{file: main.go, from: use, to: newer}", r"use … newer in main\.go"),
    ("{folder: clouds, keep: [gcp.go]}", r"gcp\.go in clouds"),
    ("{folder: clouds, drop: [gcp.go]}", r"gcp\.go in clouds"),
]


@pytest.mark.parametrize(("edit", "what"), MISSING)
def test_an_edit_that_leaves_out_what_is_not_there_stops_the_build(
    source: Path, copy: Path, edit: str, what: str
) -> None:
    ours = source / gopatch.FOLDER / DEPENDENCY
    (ours / "clouds" / "none.go").unlink()
    (ours / gopatch.EDITS).write_text(f"- {edit}\n")
    with pytest.raises(SandboxError, match=f"has no {what} any more"):
        gopatch.patch(copy, source=source, dependency=DEPENDENCY)


def test_everything_that_is_patched_is_of_a_pinned_dependency() -> None:
    for tool in (tool for tool in gobuild.EXTENSIONS if tool.patched):
        pins = (tool.source / "go.mod").read_text()
        for dependency in tool.patched:
            assert f"\t{dependency} v" in pins
        patched = {file for one in tool.patched for file in gopatch.files(tool.source, one)}
        everything = {file for file in (tool.source / gopatch.FOLDER).rglob("*") if file.is_file()}
        assert patched == everything
