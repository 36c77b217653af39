"""What `slipway render` prints, byte for byte, for every endpoint, cluster and chart of the catalog.

A difference is either a mistake or meant; who means it runs `make golden` and reads the diff. The tags of images that
are built here are hashes of files that have nothing to do with a template (the package that runs in pods), so they are
one and the same tag in these files; everything that is derived from them (labels, names) is as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.catalog.read import read_catalog
from slipway.cli import main
from slipway.manifests import records

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WRITE = os.environ.get("GOLDEN") == "write"
CATALOG = read_catalog()
FILES = {
    **{f"{name}.yaml": [name] for name in CATALOG.endpoints},
    **{f"clusters/{name}.yaml": ["--cluster", name] for name in CATALOG.clusters},
    **{
        f"charts/{name}-{chart.name}.yaml": ["--cluster", name, "--values", chart.name]
        for name, record in CATALOG.clusters.items()
        for chart in record.setup.charts
    },
}


@pytest.fixture
def one_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """All images that are built here have the same tag."""
    monkeypatch.setattr(records, "known_image_tag", lambda name, **_: "0" * 12)
    monkeypatch.setattr(records, "known_code_digest", lambda package: "0" * 64)


@pytest.mark.parametrize("file", sorted(FILES))
@pytest.mark.usefixtures("one_tag")
def test_what_is_rendered_is_what_was_read_and_found_right(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", *FILES[file]]) == 0

    printed, path = capsys.readouterr().out, GOLDEN / file
    if WRITE:
        path.parent.mkdir(exist_ok=True)
        path.write_text(printed, encoding="utf-8")
    assert path.is_file(), "no golden file yet: make golden"
    assert printed == path.read_text(encoding="utf-8"), "if the change is meant: make golden"


def test_no_golden_file_is_left_of_what_is_gone() -> None:
    kept = {path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*.yaml")}
    if WRITE:
        for gone in kept - set(FILES):
            (GOLDEN / gone).unlink()
        kept &= set(FILES)

    assert kept <= set(FILES)
