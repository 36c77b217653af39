"""Fixtures of the unit tests: a catalog of one's own to break."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """A copy of the project's include directory."""
    return Path(shutil.copytree(PROJECT / "include", tmp_path / "include"))


@pytest.fixture
def change(include: Path) -> Callable[..., None]:
    """Change keys of one record: ``change("endpoints/qwen3-tiny", replicas=2)``; None removes a key."""

    def apply(record: str, **values: object) -> None:
        path = include / "catalog" / f"{record}.yaml"
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        data.update(values)
        kept = {key: value for key, value in data.items() if value is not None}
        path.write_text(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True), encoding="utf-8")

    return apply
