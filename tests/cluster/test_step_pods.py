"""Pods of the steps, as the operators make them, on a real cluster: what a run relies on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from sandbox import images
from slipway.catalog.read import read_catalog
from slipway.cluster.client import Cluster
from slipway.errors import SlipwayError
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render_one
from slipway.operators.pods import StepPod
from slipway.pods import parse_result

pytestmark = pytest.mark.cluster

PLAN = make_plan(read_catalog(), "qwen3-tiny")


@pytest.fixture
def cluster(slipway: Cluster) -> Cluster:
    """What is tried here acts with Slipway's own rights."""
    return slipway


@pytest.fixture
def run_step(cluster: Cluster, restricted_namespace: str) -> Callable[..., dict[str, Any]]:
    """Run a step pod in a namespace of its own that enforces Pod Security restricted; its container's end."""

    def run(*, code: str) -> dict[str, Any]:
        plan = PLAN.model_copy(
            update={
                "namespace": restricted_namespace,
                "tools_image": images.reference("tools"),
                "code_digest": code,
                "api_key": None,
            }
        )
        order = json.dumps({"source": "ftp://server/export", "destination": "/weights/model/key"})
        step = StepPod(name="download", module="slipway.weights", order=order, image=plan.tools_image)
        pod = render_one("step-pod.yaml.j2", plan=plan, step=step)
        pod["metadata"]["name"] = "step"
        cluster.create(pod)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            live = cluster.get(api_version="v1", kind="Pod", name="step", namespace=restricted_namespace)
            statuses = (live or {}).get("status", {}).get("containerStatuses") or [{}]
            ended = statuses[0].get("state", {}).get("terminated")
            if ended:
                return dict(ended)
            time.sleep(0.3)
        raise AssertionError(f"the step pod does not end: {live}")

    return run


def test_a_pod_refuses_to_run_for_code_that_it_does_not_carry(
    run_step: Callable[..., dict[str, Any]],
) -> None:
    ended = run_step(code="0" * 64)

    assert ended["exitCode"] != 0
    with pytest.raises(SlipwayError, match="code"):
        parse_result(ended["message"], BaseModel)


def test_a_pod_runs_the_code_that_its_image_was_named_for_and_its_error_arrives_typed(
    run_step: Callable[..., dict[str, Any]],
) -> None:
    ended = run_step(code=PLAN.code_digest)

    assert ended["exitCode"] == 2, "a source that is not to be had is a user's mistake"
    with pytest.raises(SlipwayError, match="ftp"):
        parse_result(ended["message"], BaseModel)
