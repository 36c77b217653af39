"""The same release as the blue or the green workload, and how its controller replaces pods."""

from __future__ import annotations

import json
from typing import Any

import pytest

from slipway.catalog.read import read_catalog
from slipway.checks.plan import subject_of
from slipway.checks.rollouts import choose
from slipway.checks.view import View
from slipway.cluster.controllers import KINDS, Workload
from slipway.cluster.shapes import owns
from slipway.manifests.colours import in_colour
from slipway.manifests.plan import Plan
from slipway.manifests.planning import make_plan
from slipway.manifests.render import Rendered, render
from slipway.manifests.rollout import Rollout
from slipway.operators.rollout import in_both_colours

STATEFUL, DEPLOYMENT, GROUP = "qwen3-tiny", "qwen3-0.6b-company", "qwen3-tiny-pair"
ENDPOINTS = [STATEFUL, DEPLOYMENT, GROUP]


def planned(endpoint: str) -> tuple[Plan, Rendered]:
    plan = make_plan(read_catalog(), endpoint)
    return plan, render(plan)


def controller(rendered: Rendered) -> dict[str, Any]:
    [found] = [one for one in rendered.objects() if one["kind"] in KINDS]
    return found


def templates(controller: dict[str, Any]) -> list[dict[str, Any]]:
    group = controller["spec"].get("leaderWorkerTemplate")
    return [group["leaderTemplate"], group["workerTemplate"]] if group else [controller["spec"]["template"]]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_blue_is_what_is_rendered(endpoint: str) -> None:
    plan, rendered = planned(endpoint)
    placed = in_colour(rendered, plan, "blue")

    changed = [one for one, other in zip(placed.objects(), rendered.objects(), strict=True) if one != other]
    assert changed == []


def test_all_groups_of_a_set_go_at_once_unless_they_roll_and_one_that_is_stopped_is_accepted() -> None:
    plan, rendered = planned(GROUP)
    numbers = [
        controller(in_colour(rendered, plan, "blue", replicas=replicas))["spec"]["rolloutStrategy"]
        for replicas in (0, 1, 3)
    ]

    assert [one["rollingUpdateConfiguration"]["maxUnavailable"] for one in numbers] == [1, 1, 3]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_green_differs_in_name_and_one_label_alone(endpoint: str) -> None:
    plan, rendered = planned(endpoint)
    blue, green = (controller(in_colour(rendered, plan, colour)) for colour in ("blue", "green"))

    assert green["metadata"]["name"] == f"{plan.object_name}-green"
    assert all(one["metadata"]["labels"]["slipway.io/colour"] == "green" for one in templates(green))
    text = json.dumps(green).replace(', "slipway.io/colour": "green"', "")
    assert json.loads(text)["spec"] == blue["spec"]
    assert green["metadata"]["labels"]["slipway.io/release"] == rendered.release


@pytest.mark.parametrize("endpoint", [STATEFUL, DEPLOYMENT])
def test_each_workload_owns_its_own_pods(endpoint: str) -> None:
    plan, rendered = planned(endpoint)
    both = [controller(in_colour(rendered, plan, colour)) for colour in ("blue", "green")]
    pods = [{"metadata": templates(one)[0]["metadata"]} for one in both]

    assert [[owns(workload, pod) for pod in pods] for workload in both] == [[True, False], [False, True]]


def test_an_autoscaler_follows_the_workload() -> None:
    plan, rendered = planned(DEPLOYMENT)
    objects = in_colour(rendered, plan, "green").objects()

    [scaler] = [one for one in objects if one["kind"] == "HorizontalPodAutoscaler"]
    assert (
        scaler["spec"]["scaleTargetRef"]["name"]
        == controller(in_colour(rendered, plan, "green"))["metadata"]["name"]
    )
    [budget] = [one for one in objects if one["kind"] == "PodDisruptionBudget"]
    selected = budget["spec"]["selector"]["matchLabels"].items()
    for colour in ("blue", "green"):
        pods = templates(controller(in_colour(rendered, plan, colour)))[0]["metadata"]["labels"]
        assert selected <= pods.items(), "one budget for both"


ROLLING = Rollout(strategy="rolling", surge=2, unavailable=0)
NUMBERS = {
    DEPLOYMENT: ("strategy", "rollingUpdate", {"maxSurge": 2, "maxUnavailable": 0}),
    GROUP: ("rolloutStrategy", "rollingUpdateConfiguration", {"maxSurge": 2, "maxUnavailable": 0}),
}


@pytest.mark.parametrize("endpoint", NUMBERS)
def test_a_rolling_change_goes_by_the_room_that_there_was(endpoint: str) -> None:
    field, numbers, wanted = NUMBERS[endpoint]
    plan, rendered = planned(endpoint)
    spec = controller(in_colour(rendered, plan, "blue", rollout=ROLLING))["spec"]

    assert (spec[field]["type"], spec[field][numbers]) == ("RollingUpdate", wanted)
    again = controller(in_colour(rendered, plan, "blue", rollout=Rollout(strategy="recreate")))["spec"]
    assert again[field] != spec[field]
    assert (
        again["selector" if "selector" in again else "replicas"]
        == spec["selector" if "selector" in spec else "replicas"]
    )


def test_a_deployment_that_has_rolled_once_ends_all_its_pods_without_changing_its_type() -> None:
    plan, rendered = planned(DEPLOYMENT)
    rolled = controller(in_colour(rendered, plan, "blue", rollout=ROLLING))
    again = controller(in_colour(rendered, plan, "blue", live=rolled))["spec"]["strategy"]

    numbers = {"maxSurge": 0, "maxUnavailable": "100%"}
    assert again == {"type": "RollingUpdate", "rollingUpdate": numbers}


def test_the_release_is_the_same_in_either_colour_and_by_any_strategy() -> None:
    plan, rendered = planned(DEPLOYMENT)

    assert {
        in_colour(rendered, plan, colour, rollout=rollout).release
        for colour in ("blue", "green")
        for rollout in (None, ROLLING)
    } == {rendered.release}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_inventory_of_both_has_both_names(endpoint: str) -> None:
    plan, rendered = planned(endpoint)
    found = in_both_colours(rendered.objects(), endpoint=plan.object_name)

    names = {
        controller(in_colour(rendered, plan, colour))["metadata"]["name"] for colour in ("blue", "green")
    }
    assert {ref.name for ref in found if ref.kind == plan.controller} == names


# -- volumes
# ----------------------------------------------------------------------------------------------------


class Seen(View):
    """A cluster of two nodes with room, the endpoint on the first of them."""

    def __init__(self, *, bound_to_node: bool = True, quota: dict[str, str] | None = None) -> None:
        self.bound_to_node, self.quota = bound_to_node, quota

    def all_of(self, api_version: str, kind: str, *, namespace: str | None = None) -> list[dict[str, Any]]:
        hard = {"requests.memory": "7Gi", "pods": "10"}
        status = {"hard": hard, "used": self.quota}
        return [{"metadata": {"name": "ours"}, "spec": {}, "status": status}] if self.quota else []

    def nodes(self) -> list[dict[str, Any]]:
        allocatable = {"cpu": "8", "memory": "64Gi", "pods": "110"}
        ready = [{"type": "Ready", "status": "True"}]
        return [
            {
                "metadata": {"name": name},
                "spec": {},
                "status": {"allocatable": allocatable, "conditions": ready},
            }
            for name in ("one", "two")
        ]

    def running_pods(self) -> list[dict[str, Any]]:
        labels = {"slipway.io/endpoint": STATEFUL, "slipway.io/release": "old"}
        requests = {"requests": {"cpu": "250m", "memory": "3Gi"}}
        return [
            {
                "metadata": {"name": "p", "namespace": "models", "labels": labels},
                "spec": {"nodeName": "one", "containers": [{"resources": requests}]},
            }
        ]

    def one(self, api_version: str, kind: str, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        if kind == "PersistentVolumeClaim":
            return {"spec": {"volumeName": "volume"}}
        return {
            "spec": {"nodeAffinity": {}} if not self.bound_to_node else {"nodeAffinity": {"required": {}}}
        }


VOLUMES = [
    ("ReadWriteMany", False, "blue-green", "room"),
    ("ReadWriteOnce", True, "blue-green", "room"),
    ("ReadWriteOnce", False, "recreate", "on one node only"),
    ("ReadWriteOncePod", True, "recreate", "one pod only"),
]


@pytest.mark.parametrize(("mode", "bound", "strategy", "why"), VOLUMES)
def test_a_volume_that_one_node_or_pod_may_mount_has_no_place_beside_it(
    mode: str, bound: bool, strategy: str, why: str
) -> None:
    chosen = chosen_in(Seen(bound_to_node=bound), access_mode=mode)

    assert (chosen.strategy, why in chosen.reason) == (strategy, True), chosen.reason


QUOTAS = [
    ({"requests.memory": "3Gi", "pods": "1"}, "blue-green", "room for"),
    ({"requests.memory": "5Gi", "pods": "1"}, "recreate", "ResourceQuota ours grants no more"),
    ({"requests.memory": "3Gi", "pods": "10"}, "recreate", "room for 0 of 1 pod"),
]


@pytest.mark.parametrize(("used", "strategy", "why"), QUOTAS)
def test_what_a_quota_does_not_grant_is_no_room(used: dict[str, str], strategy: str, why: str) -> None:
    chosen = chosen_in(Seen(quota=used), access_mode="ReadWriteMany")

    assert (chosen.strategy, why in chosen.reason) == (strategy, True), chosen.reason


def chosen_in(seen: Seen, *, access_mode: str) -> Rollout:
    plan, rendered = planned(STATEFUL)
    plan = plan.model_copy(update={"volume": plan.volume.model_copy(update={"access_mode": access_mode})})
    placed = controller(in_colour(rendered, plan, "blue"))
    placed["metadata"]["labels"]["slipway.io/release"] = "old"
    return choose(
        seen,
        subject_of(plan, rendered),
        plan=plan,
        serving=Workload(placed),
        asked=None,
        by="",
    )
