"""Which nodes may take a pod, what is free on them, which images they have."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.checks.findings import Finding
from slipway.checks.nodes import check_capacity, check_images, check_nodes, full_name, pod_requests
from slipway.checks.quantities import quantity, readable
from slipway.checks.subject import Subject, View
from slipway.cluster.objects import Object
from slipway.errors import UsageError

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
    (node(taints=[TAINT]), {"tolerations": [{"key": "gpu", "value": "true", "effect": "NoSchedule"}]}),
    (node(taints=[TAINT]), {"tolerations": [{"key": "gpu", "operator": "Exists"}]}),
    (node(taints=[TAINT]), {"tolerations": [{"operator": "Exists"}]}),
    (node(taints=[{**TAINT, "effect": "PreferNoSchedule"}]), {}),
]


@pytest.mark.parametrize(("included", "needs"), INCLUDED)
def test_nodes_that_count(included: Object, needs: dict[str, Any]) -> None:
    assert one(check_capacity(Seen([included]), subject(**needs))).severity == "ok"


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
