"""What people rely on in the DAGs themselves; no Airflow runs here."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError

from slipway.operators.pods import StepPodOperator

DAGS = Path(__file__).resolve().parents[2] / "dags"
FILES = sorted(DAGS.glob("*.py"))
TAGS = {"slipway", "release", "benchmark"}
STEPS = [
    "resolve",
    "lock",
    "check",
    "download",
    "apply",
    "wait",
    "probe",
    "publish",
    "probe_published",
    "measure",
    "record",
]


def dag_of(path: Path) -> DAG:
    dag = runpy.run_path(str(path))["dag"]
    assert isinstance(dag, DAG)
    return dag


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_is_named_like_its_file_says_what_it_does_and_has_known_tags(path: Path) -> None:
    dag = dag_of(path)

    assert dag.dag_id == path.stem
    assert dag.doc_md and set(dag.tags) <= TAGS
    assert not dag.catchup


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_file_holds_no_logic(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip()]

    assert len(lines) < 25
    assert not any(line.lstrip().startswith(("if ", "for ", "def ", "class ", "while ")) for line in lines)


@pytest.mark.parametrize("name", ["deploy_endpoint", "redeploy_endpoint"])
def test_a_deployment_always_ends_in_its_teardown(name: str) -> None:
    dag = dag_of(DAGS / f"{name}.py")

    assert [task.task_id for task in dag.topological_sort()] == STEPS
    record, lock = dag.get_task("record"), dag.get_task("lock")
    assert record.is_teardown and record.on_failure_fail_dagrun and lock.is_setup
    assert dag.dagrun_timeout is None, (
        "a dagrun_timeout skips the teardown that returns to the last good release"
    )


def test_deploy_and_redeploy_are_the_same_steps() -> None:
    deploy, redeploy = (dag_of(DAGS / f"{name}_endpoint.py") for name in ("deploy", "redeploy"))

    assert [type(task) for task in deploy.tasks] == [type(task) for task in redeploy.tasks]
    assert not deploy.get_task("resolve").again and redeploy.get_task("resolve").again


FORM = [
    ({"endpoint": "qwen3-tiny"}, True),
    ({"endpoint": "qwen3-tiny", "overrides": {"replicas": 2}, "reason": "x"}, True),
    ({"endpoint": "qwen3-tiny", "overrides": None, "reason": None}, True),
    ({"endpoint": "no-such"}, False),
    ({"endpoint": "qwen3-tiny", "overrides": {"repicas": 2}}, False),
    ({"endpoint": "qwen3-tiny", "overrides": {"replicas": -1}}, False),
    ({"endpoint": "qwen3-tiny", "overrides": {"image": "bad image"}}, False),
    ({"endpoint": "qwen3-tiny", "reason": "x" * 501}, False),
]


@pytest.mark.parametrize(("conf", "accepted"), FORM)
def test_the_form_takes_what_a_run_can_use_and_refuses_the_rest(conf: dict[str, Any], accepted: bool) -> None:
    params = dag_of(DAGS / "deploy_endpoint.py").params

    def fill_in() -> None:
        for key, value in conf.items():
            params.get_param(key).resolve(value)

    if accepted:
        fill_in()
    else:
        with pytest.raises(ParamValidationError):
            fill_in()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_step_pods_keep_the_houses_defaults(path: Path) -> None:
    steps = [task for task in dag_of(path).tasks if isinstance(task, StepPodOperator)]

    assert steps
    for step in steps:
        assert step.log_pod_spec_on_failure is False, (
            "the pod's environment must not get into failure messages"
        )
        assert step.do_xcom_push is False, "the sidecar needs an image from a public registry"
        assert step.active_deadline_seconds and step.execution_timeout
        assert step.startup_timeout_seconds >= 600 and step.schedule_timeout_seconds >= 600
        assert step.on_finish_action.value == "delete_pod"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_airflow_finds_the_file(path: Path) -> None:
    text = path.read_text().lower()

    assert "dag" in text and "airflow" in text, "Airflow's safe mode passes over files that name neither"
