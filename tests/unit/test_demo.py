"""What a person who types `make demo` relies on before anything is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.demo import put_model, wait_for_dag
from sandbox.errors import USER_MISTAKE, SandboxError


@pytest.mark.parametrize("named", ["/no/such/directory", "Qwen/Qwen3-0.6B", "."])
def test_a_model_that_is_no_model_is_a_mistake_that_names_what_may_be_given(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SandboxError, match=r"MODEL=.*: no directory with a config\.json; name a") as told:
        put_model(named, endpoint="qwen3-0.6b-sandbox", access={})

    assert told.value.status == USER_MISTAKE


@pytest.mark.parametrize("named", ["s3://models/Qwen3-0.6B", "modelscope://Qwen/Qwen3-0.6B"])
def test_a_model_that_lies_elsewhere_is_fetched_from_there(named: str) -> None:
    assert put_model(named, endpoint="qwen3-0.6b-sandbox", access={}) == {"source": named}


def test_an_endpoint_that_is_not_the_tiny_one_keeps_its_own_source() -> None:
    assert put_model("", endpoint="qwen3-0.6b-sandbox", access={}) == {}


class Airflow:
    """An Airflow whose DAG processor could not read a file."""

    def get(self, path: str, params: Any = None) -> Any:
        if path.endswith("importErrors"):
            return {"import_errors": [{"stack_trace": "Traceback …\nImportError: no module named x"}]}
        return {"dags": []}


def test_a_dag_that_airflow_cannot_read_is_named_with_its_error() -> None:
    with pytest.raises(SandboxError, match="does not know the DAG deploy_endpoint: ImportError: no module"):
        wait_for_dag(Airflow(), "deploy_endpoint", seconds=0.1)
