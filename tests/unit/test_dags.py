"""What people rely on in the DAGs themselves; no Airflow runs here."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.exceptions import ParamValidationError

from slipway.operators.assets import BENCHMARKS, ENDPOINTS, MODELS
from slipway.operators.pods import StepPodOperator

DAGS = Path(__file__).resolve().parents[2] / "dags"
FILES = sorted(DAGS.glob("*.py"))
TAGS = {"slipway", "release", "benchmark", "weights", "cluster"}
WITHOUT_STEP_PODS = {"check_infrastructure", "prepare_cluster", "probe_endpoints", "remove_endpoint"}
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
def test_a_form_asks_only_for_what_a_run_cannot_do_without(path: Path) -> None:
    # Airflow's form is not sent while a text that may not be null is empty.
    asked = {
        name
        for name, param in dag_of(path).params.items()
        if dag_of(path).params.get_param(name).schema.get("type") == "string" and not param
    }
    assert asked <= {"endpoint", "model", "cluster", "confirm"}


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


ENDINGS = [
    ("rollback_endpoint", "record", ["apply", "wait", "probe", "publish", "probe_published"]),
    ("adopt_endpoint", "record", ["take_over", "wait", "probe", "probe_published"]),
    ("scale_endpoint", "finish", ["scale", "wait", "probe_published"]),
    ("remove_endpoint", "finish", ["remove"]),
]


@pytest.mark.parametrize(("name", "ending", "steps"), ENDINGS)
def test_every_job_that_changes_an_endpoint_locks_it_and_gives_it_back(
    name: str, ending: str, steps: list[str]
) -> None:
    dag = dag_of(DAGS / f"{name}.py")
    order = [task.task_id for task in dag.topological_sort()]

    assert order[1] == "lock" and order[-1] == ending and [step for step in order if step in steps] == steps
    last = dag.get_task(ending)
    assert last.is_teardown and last.on_failure_fail_dagrun and dag.get_task("lock").is_setup
    assert last.retries >= 3, "an API server that is away for a minute costs no return"
    assert dag.dagrun_timeout is None


def test_a_rollback_needs_no_source_of_weights() -> None:
    steps = [type(task).__name__ for task in dag_of(DAGS / "rollback_endpoint.py").tasks]

    assert "DownloadOperator" not in steps


LIFE_FORMS = [
    ("rollback_endpoint", {"endpoint": "not-in-the-catalog-any-more", "to": None}, True),
    ("rollback_endpoint", {"endpoint": "x", "to": 3}, True),
    ("rollback_endpoint", {"endpoint": "x", "to": 0}, False),
    ("rollback_endpoint", {"endpoint": "x", "to": "3"}, False),
    ("rollback_endpoint", {"endpoint": "Not/a Name"}, False),
    ("scale_endpoint", {"endpoint": "x", "replicas": 0}, True),
    ("scale_endpoint", {"endpoint": "x", "autoscaling": "on", "minimum": 1, "maximum": 3}, True),
    ("scale_endpoint", {"endpoint": "x", "autoscaling": "maybe"}, False),
    ("scale_endpoint", {"endpoint": "x", "autoscaling": "on", "minimum": 0}, False),
    ("scale_endpoint", {"endpoint": "x", "replicas": -1}, False),
    ("scale_endpoint", {"endpoint": "x", "replicas": 65}, False),
    ("remove_endpoint", {"endpoint": "x", "confirm": "x", "weights": True}, True),
    ("remove_endpoint", {"endpoint": "x", "confirm": None}, False),
    ("deploy_endpoint", {"endpoint": "qwen3-tiny", "restart": True}, True),
    ("deploy_endpoint", {"endpoint": "qwen3-tiny", "restart": "yes"}, False),
]


@pytest.mark.parametrize(("name", "conf", "accepted"), LIFE_FORMS)
def test_the_forms_of_an_endpoints_life_take_what_a_run_can_use(
    name: str, conf: dict[str, Any], accepted: bool
) -> None:
    params = dag_of(DAGS / f"{name}.py").params
    if accepted:
        for key, value in conf.items():
            params.get_param(key).resolve(value)
    else:
        with pytest.raises(ParamValidationError):
            for key, value in conf.items():
                params.get_param(key).resolve(value)


def test_dead_runs_are_looked_for_and_endpoints_probed_side_by_side_every_five_minutes() -> None:
    dag = dag_of(DAGS / "probe_endpoints.py")

    assert dag.timetable.expression == "*/5 * * * *"  # type: ignore[attr-defined]
    assert dag.get_task("reconcile").upstream_task_ids == {"find_gone"}
    assert dag.get_task("probe").upstream_task_ids == {"clusters"}
    assert dag.max_active_runs > 1, "a return that takes long must not keep the others from being probed"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_airflow_stores_of_a_dag_is_the_same_at_every_parse(path: Path) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    once, again = (json.dumps(DagSerialization.to_dict(dag_of(path)), default=str) for _ in range(2))

    assert once == again


MAPPED = [
    (path.stem, task.task_id)
    for path in FILES
    for task in dag_of(path).tasks
    if isinstance(task, MappedOperator)
]


@pytest.mark.parametrize(("name", "task_id"), MAPPED)
def test_airflow_can_make_every_mapped_step(name: str, task_id: str) -> None:
    task = dag_of(DAGS / f"{name}.py").get_task(task_id)
    assert isinstance(task, MappedOperator)

    made = task.unmap({key: None for key in task._get_specified_expand_input().value})

    assert made.task_id == task_id and made.execute


@pytest.mark.parametrize(
    "name", ["deploy_endpoint", "redeploy_endpoint", "rollback_endpoint", "scale_endpoint"]
)
def test_every_step_that_knows_its_endpoint_links_to_its_page(name: str) -> None:
    for task in dag_of(DAGS / f"{name}.py").tasks:
        assert "Endpoint" in {link.name for link in task.operator_extra_links}, task.task_id


def test_airflows_graph_shows_model_endpoint_and_benchmark_in_a_row() -> None:
    dag = dag_of(DAGS / "deploy_endpoint.py")
    made = {task.task_id: (task.inlets, task.outlets) for task in dag.tasks if task.outlets}

    assert made == {
        "download": ([], [MODELS]),
        "record": ([MODELS], [ENDPOINTS]),
        "measure": ([ENDPOINTS], [BENCHMARKS]),
    }


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

    assert bool(steps) != (path.stem in WITHOUT_STEP_PODS)
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
