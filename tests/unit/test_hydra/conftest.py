"""Go's own text/template, one process for all examples."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml

from sandbox import gobuild, settings
from tests.unit.test_hydra.hydra_known import DOCUMENTS, Go

ORACLE = gobuild.Tool(name="gotemplate", module="gotemplate", package=".", programs=("gotemplate",))


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Go]:
    config = replace(settings.load(), home=tmp_path_factory.mktemp("gotemplate"))
    config.logs.mkdir()
    gobuild.build(config, ORACLE)
    with subprocess.Popen(
        [gobuild.program(config, ORACLE, "gotemplate")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdin and process.stdout
        requests, results = process.stdin, process.stdout

        def execute(template: str, variables: dict[str, Any]) -> dict[str, str]:
            requests.write(json.dumps({"template": template, "variables": variables}) + "\n")
            requests.flush()
            made: dict[str, str] = json.loads(results.readline())
            return made

        yield execute
        requests.close()


@pytest.fixture(scope="session")
def example() -> str:
    """The template of the document's example."""
    data = yaml.safe_load((DOCUMENTS / "config.yaml").read_text(encoding="utf-8"))
    return str(data["templates"][0]["podTemplate"]["containerTemplate"]["argsTemplate"][0])
