"""Which nodes may take a pod, what is free on them, which images they have."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.catalog.quantities import quantity, readable
from slipway.catalog.read import read_catalog
from slipway.checks.capacity import check_capacity, check_sizing, check_surge, pod_requests
from slipway.checks.findings import Finding
from slipway.checks.nodes import check_images, check_nodes, full_name, why_not
from slipway.checks.plan import subject_of
from slipway.checks.subject import Subject
from slipway.checks.view import View
from slipway.cluster.objects import Object
from slipway.errors import UsageError
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render

TOOLS = "localhost/slipway/tools:1"


class Seen(View):
    """A cluster of given nodes and pods."""

    def __init__(
        self, nodes: list[Object], pods: list[Object] | None = None, later: list[Object] | None = None
    ) -> None:
        self._nodes, self._pods, self._later = nodes, pods or [], later or nodes

    def nodes(self) -> list[Object]:
        return self._nodes

    def nodes_now(self) -> list[Object]:
        return self._later

    def running_pods(self) -> list[Object]:
        return self._pods


def node(
    name: str = "one", *, ready: str = "True", taints: Any = (), images: Any = (), **more: Any
) -> Object:
    allocatable = {"cpu": "4", "memory": "16Gi", "pods": "110", **more.pop("allocatable", {})}
    conditions = [{"type": "Ready", "status": ready}]
    conditions += [{"type": kind, "status": "True"} for kind in more.pop("pressures", ())]
    return {
        "metadata": {"name": name, "labels": more.pop("labels", {})},
        "spec": {"taints": list(taints), **more},
        "status": {
            "allocatable": allocatable,
            "conditions": conditions,
            "images": [{"names": [image]} for image in images],
        },
    }


def pod(*, on: str = "one", namespace: str = "other", labels: Any = None, **requests: str) -> Object:
    return {
        "metadata": {"name": "p", "namespace": namespace, "labels": labels or {}},
        "spec": {"nodeName": on, "containers": [{"resources": {"requests": requests}}]},
        "status": {"phase": "Running"},
    }


def subject(**more: Any) -> Subject:
    return Subject.model_validate(
        {"namespace": "models", "requests": {"cpu": "2", "memory": "4Gi"}, "images": (TOOLS,), **more}
    )


def one(findings: list[Finding]) -> Finding:
    [finding] = findings
    return finding


# -- capacity ------------------------------------------------------------------------------------------------


def test_room_is_told_with_numbers() -> None:
    found = one(check_capacity(Seen([node()], [pod(cpu="500m", memory="1Gi")]), subject()))
    assert found.severity == "ok"
    assert found.reason == "room for 1. one: cpu 3500m free, memory 15Gi free"


def test_each_node_counts_for_itself() -> None:
    """Two nodes with half of a pod's CPU each are no room."""
    nodes = [node("one"), node("two")]
    pods = [pod(on="one", cpu="3"), pod(on="two", cpu="3")]
    found = one(check_capacity(Seen(nodes, pods), subject()))
    assert found.severity == "blocking"
    assert "room for 0 of 1" in found.reason
    assert "one: cpu 1 free, memory 16Gi free (too little)" in found.reason


def test_all_replicas_need_room() -> None:
    assert one(check_capacity(Seen([node()]), subject(replicas=2))).severity == "ok"
    assert one(check_capacity(Seen([node()]), subject(replicas=3))).severity == "blocking"
    assert one(check_capacity(Seen([node(), node("two")]), subject(replicas=3))).severity == "ok"


def test_what_is_replaced_makes_room() -> None:
    labels = {"slipway.io/endpoint": "qwen", "app.kubernetes.io/component": "server"}
    serving = pod(namespace="models", labels=labels, cpu="3")
    assert one(check_capacity(Seen([node()], [serving]), subject())).severity == "blocking"
    assert one(check_capacity(Seen([node()], [serving]), subject(replaced=labels))).severity == "ok"
    elsewhere = pod(namespace="other", labels=labels, cpu="3")
    assert one(check_capacity(Seen([node()], [elsewhere]), subject(replaced=labels))).severity == "blocking"


def test_a_card_that_no_node_offers() -> None:
    wanted = subject(requests={"nvidia.com/gpu": "1"})
    found = one(check_capacity(Seen([node()]), wanted))
    assert found.severity == "blocking"
    assert "nvidia.com/gpu not offered, so none free" in found.reason
    offered = node(allocatable={"nvidia.com/gpu": "8"})
    assert one(check_capacity(Seen([offered], [pod(**{"nvidia.com/gpu": "7"})]), wanted)).severity == "ok"
    assert (
        one(check_capacity(Seen([offered], [pod(**{"nvidia.com/gpu": "8"})]), wanted)).severity == "blocking"
    )


def test_a_node_full_of_pods() -> None:
    full = node(allocatable={"pods": "1"})
    assert one(check_capacity(Seen([full], [pod()]), subject())).severity == "blocking"


TAINT = {"key": "gpu", "value": "true", "effect": "NoSchedule"}
EXCLUDED = [
    (node(ready="False"), {}, "not ready"),
    (node(unschedulable=True), {}, "closed for new pods"),
    (node(), {"node_selector": {"gpu": "on"}}, "label gpu is missing, not on"),
    (node(taints=[TAINT]), {}, "taint gpu=true:NoSchedule is not tolerated"),
    (
        node(),
        {"node_affinity": {"zone": ["a", "b"]}},
        "label zone is missing, none of a, b",
    ),
    (
        node(labels={"zone": "c"}),
        {"node_affinity": {"zone": ["a", "b"]}},
        "label zone is c, none of a, b",
    ),
    (node(), {"node_name": "other"}, "the pods are bound to node other"),
    (
        node(taints=[TAINT]),
        {"tolerations": [{"key": "gpu", "value": "false"}]},
        "taint gpu=true:NoSchedule is not tolerated",
    ),
    (
        node(taints=[TAINT]),
        {"tolerations": [{"operator": "Exists", "effect": "NoExecute"}]},
        "taint gpu=true:NoSchedule is not tolerated",
    ),
]


@pytest.mark.parametrize(("excluded", "needs", "why"), EXCLUDED)
def test_nodes_that_do_not_count(excluded: Object, needs: dict[str, Any], why: str) -> None:
    found = one(check_capacity(Seen([excluded]), subject(**needs)))
    assert found.severity == "blocking"
    assert f"one: {why}" in found.reason


INCLUDED = [
    (node(labels={"gpu": "on"}), {"node_selector": {"gpu": "on"}}),
    (node(labels={"zone": "b", "disk": "x"}), {"node_affinity": {"zone": ["a", "b"], "disk": ["x"]}}),
    (node(), {"node_name": "one"}),
    (node(taints=[TAINT]), {"tolerations": [{"key": "gpu", "value": "true", "effect": "NoSchedule"}]}),
    (node(taints=[TAINT]), {"tolerations": [{"key": "gpu", "operator": "Exists"}]}),
    (node(taints=[TAINT]), {"tolerations": [{"operator": "Exists"}]}),
    (node(taints=[{**TAINT, "effect": "PreferNoSchedule"}]), {}),
]


@pytest.mark.parametrize(("included", "needs"), INCLUDED)
def test_nodes_that_count(included: Object, needs: dict[str, Any]) -> None:
    assert one(check_capacity(Seen([included]), subject(**needs))).severity == "ok"


def test_a_group_of_pods_counts_as_all_of_them() -> None:
    """Two replicas of a leader and a worker are four pods."""
    wanted = subject(replicas=2, pods_per_replica=2)
    found = one(check_capacity(Seen([node()]), wanted))
    assert (found.severity, found.about[:6]) == ("blocking", "4 pods")
    assert one(check_capacity(Seen([node(), node("two")]), wanted)).severity == "ok"


SERVING = {"slipway.io/endpoint": "qwen", "app.kubernetes.io/component": "server"}
SURGES = {
    "room beside the old": ([pod(namespace="models", labels=SERVING, cpu="2")], 1, "ok", "room beside the 1"),
    "no room beside the old": (
        [pod(namespace="models", labels=SERVING, cpu="3")],
        1,
        "info",
        "room for 0 of 1 beside the 1 that serve now",
    ),
    "no room for a whole group": (
        [pod(namespace="models", labels=SERVING, cpu="2")],
        2,
        "info",
        "room for 1 of 2 beside the 1 that serve now",
    ),
}


@pytest.mark.parametrize("case", SURGES)
def test_whether_a_rollout_must_end_old_pods_first(case: str) -> None:
    pods, group, severity, told = SURGES[case]
    wanted = subject(replaced=SERVING, pods_per_replica=group)
    found = one(check_surge(Seen([node()], pods), wanted))
    assert (found.check, found.severity) == ("surge", severity)
    assert told in found.reason
    assert "cpu" in found.reason, "the numbers of the node are told"


def test_a_first_release_has_nothing_to_surge_beside() -> None:
    elsewhere = pod(namespace="other", labels=SERVING, cpu="3")
    assert check_surge(Seen([node()], [elsewhere]), subject(replaced=SERVING)) == []


def test_the_sizing_is_told() -> None:
    found = one(check_sizing(Seen([]), subject(sizing="weights 54.8 GiB of 71.2 GiB")))
    assert (found.severity, found.reason) == ("info", "weights 54.8 GiB of 71.2 GiB")
    assert check_sizing(Seen([]), subject()) == []


def test_where_a_plans_pods_may_run_is_what_is_checked(include: Path, change: Callable[..., None]) -> None:
    tolerated = {"key": "gpu", "operator": "Exists"}
    change(
        "endpoints/qwen3-tiny",
        placement={"node_affinity": {"zone": ["a", "b"]}, "tolerations": [tolerated]},
    )
    plan = make_plan(read_catalog(include), "qwen3-tiny", include=include)
    wanted = subject_of(plan, render(plan, include=include))
    assert why_not(node(labels={"zone": "b"}, taints=[TAINT]), wanted) == ""
    assert "none of a, b" in why_not(node(labels={"zone": "c"}, taints=[TAINT]), wanted)
    assert "of the pod's 3.0 GiB" in wanted.sizing


def test_nothing_asked_for_nothing_checked() -> None:
    assert check_capacity(Seen([node()]), subject(requests={})) == []
    assert check_capacity(Seen([node()]), subject(replicas=0)) == []


def test_a_pod_asks_for_what_the_scheduler_counts() -> None:
    def container(cpu: str, **more: str) -> Object:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "initContainers": [container("1", restartPolicy="Always"), container("5"), container("2")],
        "containers": [container("2"), container("500m")],
        "overhead": {"cpu": "250m"},
    }
    # The largest init container runs beside the sidecar: 6 is more than 1 + 2.5.
    assert pod_requests({"spec": spec}) == {"cpu": Fraction("6.25")}
    del spec["initContainers"]
    assert pod_requests({"spec": spec}) == {"cpu": Fraction("2.75")}


# -- nodes ---------------------------------------------------------------------------------------------------


def test_states_of_nodes() -> None:
    nodes = [
        node("good"),
        node(
            "away", ready="Unknown", taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]
        ),
        node("tight", pressures=["DiskPressure"]),
        node("shut", unschedulable=True),
    ]
    found = {finding.about: finding.severity for finding in check_nodes(Seen(nodes), subject())}
    assert found == {
        "Node good": "ok",
        "Node away": "warning",
        "Node tight": "warning",
        "Node shut": "info",
    }


def test_many_good_nodes_are_one_line() -> None:
    nodes = [node(str(number)) for number in range(500)]
    assert one(check_nodes(Seen(nodes), subject())).about == "500 nodes"


def test_no_node_may_take_the_pods() -> None:
    found = one(check_nodes(Seen([node()]), subject(node_selector={"gpu": "on"})))
    assert found.severity == "blocking"
    assert "label gpu is missing, not on" in found.reason


# -- images --------------------------------------------------------------------------------------------------


def image(nodes: list[Object], **needs: Any) -> str:
    return one(check_images(Seen(nodes), subject(**needs))).severity


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's status is as late as it will ever be."""
    monkeypatch.setattr("slipway.checks.nodes.NODE_STATUS_SECONDS", -1.0)


def test_an_image_that_the_node_lists_a_moment_later_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    seen = Seen([node()], later=[node(images=[TOOLS])])

    assert one(check_images(seen, subject())).severity == "ok"


@pytest.mark.usefixtures("no_patience")
def test_where_an_image_is() -> None:
    having, lacking = node("one", images=[TOOLS]), node("two")
    assert image([having]) == "ok"
    assert image([lacking]) == "blocking"
    assert image([having, lacking]) == "warning"
    assert image([]) == "not checked"
    assert image([lacking], images=("vllm/vllm-openai:v0.11",)) == "not checked"
    assert image([lacking], images=("vllm/vllm-openai:v0.11",), pull_policy="Never") == "blocking"
    assert image([having], pull_policy="Always") == "not checked"


def test_a_long_list_of_images_proves_nothing() -> None:
    full = node(images=[f"registry.example/i:{number}" for number in range(50)])
    assert image([full]) == "not checked"


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("redis", "docker.io/library/redis:latest"),
        ("vllm/vllm-openai:v1", "docker.io/vllm/vllm-openai:v1"),
        ("localhost/a:1", "localhost/a:1"),
        ("registry:5000/a", "registry:5000/a:latest"),
        ("quay.io/a/b:1@sha256:ff", "quay.io/a/b@sha256:ff"),
    ],
)
def test_full_names_of_images(short: str, full: str) -> None:
    assert full_name(short) == full


# -- quantities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("250m", Fraction(1, 4)),
        ("2", Fraction(2)),
        ("0.5", Fraction(1, 2)),
        ("1Ki", Fraction(1024)),
        ("1.5Gi", Fraction(3 * 2**29)),
        ("3k", Fraction(3000)),
        ("1e3", Fraction(1000)),
        ("2E", Fraction(2 * 10**18)),
        ("100n", Fraction(1, 10**7)),
    ],
)
def test_quantities(text: str, number: Fraction) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1GiB", "ten", "1/2", "-"])
def test_not_quantities(text: str) -> None:
    with pytest.raises(UsageError, match="not a quantity"):
        quantity(text)


@given(st.integers(0, 2**50))
def test_bytes_read_back(amount: int) -> None:
    told = quantity(readable("memory", Fraction(amount)))
    assert abs(told - amount) <= max(Fraction(amount, 10), Fraction(1))
