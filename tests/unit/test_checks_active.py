"""The active checks without a cluster: what their pods are, what comes of their answers, and that they go away."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from slipway.checks.findings import Finding, table
from slipway.checks.node_files import check_node_files
from slipway.checks.reach import check_reach
from slipway.checks.subject import Site, Subject
from slipway.checks.trial_pod import TRIAL_LABEL, clear_away, pod_of
from slipway.checks.view import View
from slipway.checks.volumes import check_volumes
from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError
from slipway.cluster.objects import Object, Ref
from tests.unit import checks_snapshot as snapshot

# -- the pod -------------------------------------------------------------------------------------------------


def test_the_pod_is_let_into_a_restricted_namespace_and_cleans_up_after_itself() -> None:
    wanted = snapshot.subject(
        node_selector={"gpu": "on"}, node_affinity={"zone": ["a"]}, pull_secrets=("pull",)
    )
    pod = pod_of(wanted, [{"do": "write"}], name="check-1", new_volume=wanted.storage, avoid_node="one")
    spec, [container] = pod["spec"], pod["spec"]["containers"]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert spec["activeDeadlineSeconds"] and spec["restartPolicy"] == "Never"
    assert pod["metadata"]["labels"][TRIAL_LABEL] == "check-1"
    # The claim belongs to the pod, so it goes with it; no right to delete claims is needed.
    [volume] = [one for one in spec["volumes"] if one["name"] == "volume"]
    assert volume["ephemeral"]["volumeClaimTemplate"]["spec"]["accessModes"] == ["ReadWriteMany"]
    assert spec["nodeSelector"] == {"gpu": "on"}
    assert spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert "nvidia.com/gpu" not in container["resources"]["requests"], "looking around takes no card"


# -- the checks ----------------------------------------------------------------------------------------------


class Inside:
    """A cluster whose pods end at once with given answers, and that remembers what was made and deleted."""

    server = "https://cluster.test"

    def __init__(self, answer: Callable[[dict[str, Any]], dict[str, Any]], *, refuses: bool = False) -> None:
        self.answer, self.refuses = answer, refuses
        self.made: list[Object] = []
        self.deleted: list[str] = []
        self.left: list[Object] = []

    def create(self, pod: Object) -> Object:
        self.made.append(pod)
        if self.refuses:
            raise ApiError("could not create", why="exceeded quota", remedy="Raise it", status=403)
        return pod

    def get(self, *, kind: str, name: str, **_: Any) -> Object | None:
        pod = next((one for one in self.made if one["metadata"]["name"] == name), None)
        if kind != "Pod" or pod is None:
            return None
        orders = json.loads(pod["spec"]["containers"][0]["env"][0]["value"])
        message = json.dumps([self.answer(order) for order in orders])
        state = {"terminated": {"exitCode": 0, "message": message}}
        node = f"node-{len(self.made)}"
        return {
            **pod,
            "spec": {**pod["spec"], "nodeName": node},
            "status": {"phase": "Succeeded", "containerStatuses": [{"state": state}]},
        }

    def delete(self, ref: Ref, **_: Any) -> bool:
        self.deleted.append(ref.name)
        return True

    def list(self, **_: Any) -> list[Object]:
        return self.left

    def path_of(self, ref: Ref, **_: Any) -> str:
        return ""


def fine(order: dict[str, Any]) -> dict[str, Any]:
    return {"ok": True, "told": "yes", "sha256": "0", "write": 2e8, "read": 4e8}


def look(inside: Inside, *subjects: Subject, reach: bool = False, whole: bool = False) -> list[Finding]:
    record = snapshot.record(gateway=None, setup={}) if whole else None
    site = Site(endpoints=subjects, record=record)
    view = View(cluster=cast(Cluster, inside))
    found = check_reach(view, site) if reach else check_volumes(view, site)
    names = [pod["metadata"]["name"] for pod in inside.made]
    assert sorted(inside.deleted) == sorted(names), "every pod that was made is deleted"
    return found


def plain(**more: Any) -> Subject:
    return snapshot.subject(**{"routes": [], **more})


def test_a_shared_volume_is_read_from_a_second_pod() -> None:
    inside = Inside(fine)
    found = look(inside, plain())
    assert [one.severity for one in found] == ["ok", "ok"]
    assert "write 200 MB/s, read 400 MB/s" in found[0].reason
    first, second = inside.made
    claim = second["spec"]["volumes"][1]["persistentVolumeClaim"]["claimName"]
    assert claim == f"{first['metadata']['name']}-volume", "the second pod mounts the first one's claim"


def test_a_volume_of_one_node_needs_no_second_pod() -> None:
    inside = Inside(fine)
    storage = {"claim": "w", "storage_class": "c", "access_mode": "ReadWriteOnce", "size": "10Gi"}
    [found] = look(inside, plain(storage=storage), plain(storage=storage, endpoint="other"))
    assert found.severity == "ok" and len(inside.made) == 1, "endpoints that want the same are tried once"


VOLUME_FAULTS = {
    "read-only": (
        Inside(lambda order: {"ok": False, "told": "Read-only file system"}),
        "Read-only file system",
    ),
    "another content": (
        Inside(
            lambda order: fine(order) if order["do"] == "write" else {"ok": False, "told": "not what was"}
        ),
        "not what was",
    ),
    "refused": (Inside(fine, refuses=True), "exceeded quota"),
}


@pytest.mark.parametrize("case", VOLUME_FAULTS)
def test_a_volume_that_does_not_work_is_blocking(case: str) -> None:
    inside, words = VOLUME_FAULTS[case]
    [found] = [one for one in look(inside, plain()) if one.severity == "blocking"]
    assert words in found.reason and found.remedy


def test_an_image_that_cannot_be_pulled_says_nothing_of_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = Inside(fine)
    waiting = {"waiting": {"reason": "ErrImageNeverPull", "message": "not present with pull policy of Never"}}

    def stuck(*, kind: str, name: str, **_: Any) -> Object | None:
        [pod] = [one for one in inside.made if one["metadata"]["name"] == name]
        statuses = [{"name": "check", "state": waiting}]
        metadata = {**pod["metadata"], "creationTimestamp": "2026-01-01T00:00:00Z"}
        return {**pod, "metadata": metadata, "status": {"phase": "Pending", "containerStatuses": statuses}}

    monkeypatch.setattr(inside, "get", stuck)
    [found] = look(inside, plain())
    assert found.severity == "not checked" and "ErrImageNeverPull" in found.reason


def fails(*what: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda order: (
        {"ok": False, "told": "no answer"} if any(word in json.dumps(order) for word in what) else fine(order)
    )


def sourced(name: str, *locations: str) -> Subject:
    return plain(endpoint=name, source={"locations": locations, "credentials": {"s3-credentials": {}}})


REACH = {
    "all is well": (fails(), [sourced("a", "s3://m/a")], {}),
    "DNS broken": (
        fails("kubernetes.default"),
        [sourced("a", "s3://m/a")],
        {"the cluster's DNS": "blocking"},
    ),
    "registry away": (
        fails("registry.example"),
        [sourced("a", "s3://m/a")],
        {"registry registry.example": "warning"},
    ),
    "a fallback is there": (
        fails("s3://m/a"),
        [sourced("a", "s3://m/a", "modelscope://o/a")],
        {"source s3://m/a of endpoint a": "warning"},
    ),
    "wrong S3 key": (
        fails("s3://"),
        [sourced("a", "s3://m/a"), sourced("b", "s3://m/b")],
        {
            "source s3://m/a of endpoint a": "warning",
            "source s3://m/b of endpoint b": "warning",
            "sources of endpoint a": "blocking",
            "sources of endpoint b": "blocking",
        },
    ),
    "one model's weights are not there": (
        fails("s3://m/b"),
        [sourced("a", "s3://m/a"), sourced("b", "s3://m/b")],
        {"source s3://m/b of endpoint b": "warning", "sources of endpoint b": "warning"},
    ),
}


@pytest.mark.parametrize("case", REACH)
def test_what_a_pod_cannot_reach(case: str) -> None:
    answer, subjects, wanted = REACH[case]
    inside = Inside(answer)
    found = look(inside, *subjects, reach=True, whole=True)
    assert {one.about: one.severity for one in found if one.severity != "ok"} == wanted, table(found)
    assert all(one.remedy for one in found if one.severity != "ok")
    [pod] = inside.made
    assert "envFrom" not in pod["spec"]["containers"][0], (
        "secrets are files, and none of them the environment"
    )
    assert {"name": "SLIPWAY_CREDENTIALS", "value": "/credentials"} in pod["spec"]["containers"][0]["env"]
    [mounted] = [
        one["projected"]["sources"] for one in pod["spec"]["volumes"] if one["name"] == "credentials"
    ]
    assert mounted == [{"secret": {"name": "s3-credentials", "optional": True}}]


def asked(inside: Inside) -> list[dict[str, Any]]:
    [pod] = inside.made
    return cast(list[dict[str, Any]], json.loads(pod["spec"]["containers"][0]["env"][0]["value"]))


def test_oss_is_asked_by_s3s_protocol_with_the_keys_that_fluid_uses() -> None:
    source = {
        "locations": ("oss://bucket/models/x",),
        "endpoint_url": "https://oss-cn-hangzhou.aliyuncs.com",
        "addressing": "virtual",
        "credentials": {"oss-secret": {"akId": "AWS_ACCESS_KEY_ID", "akSecret": "AWS_SECRET_ACCESS_KEY"}},
        "by": "operator",
    }
    inside = Inside(fails("bucket"))
    found = look(inside, plain(source=source), reach=True, whole=True)
    [told] = [one for one in found if "oss://" in one.about]
    assert told.severity == "warning", "what an operator reads is not for Slipway to block"
    [order] = [one["order"] for one in asked(inside) if one["do"] == "source"]
    assert order["source"] == "s3://bucket/models/x" and order["s3"]["addressing"] == "virtual"
    volumes = inside.made[0]["spec"]["volumes"]
    [mounted] = [one["projected"]["sources"] for one in volumes if one["name"] == "credentials"]
    assert {"key": "akId", "path": "AWS_ACCESS_KEY_ID"} in mounted[0]["secret"]["items"]


def test_what_only_an_operator_can_read_is_not_checked() -> None:
    source = {"locations": ("modelscope://o/x",), "by": "operator"}
    found = look(Inside(fine), plain(source=source), reach=True)
    [told] = [one for one in found if "modelscope" in one.about]
    assert told.severity == "not checked"


def test_an_nfs_server_that_is_away_is_blocking() -> None:
    inside = Inside(fails("export"))
    nfs = [{"storage_class": "nfs-csi", "server": "nfs.example", "share": "/export"}]
    site = Site(endpoints=(plain(),), record=snapshot.record(gateway=None, setup={"nfs": nfs}))
    found = check_reach(View(cluster=cast(Cluster, inside)), site)
    assert [one.about for one in found if one.severity == "blocking"] == ["NFS export nfs.example:/export"]


# -- what only a node's files tell ---------------------------------------------------------------------------

NODES = {
    "as HAMi asks": ({"glibc": "2.28", "runtime": "nvidia"}, {"ok"}),
    "a newer library": ({"glibc": "2.36", "runtime": "nvidia"}, {"ok", "warning"}),
    "runc": ({"glibc": "2.28", "runtime": "runc"}, {"ok", "blocking"}),
    "nothing found": ({"glibc": "", "runtime": ""}, {"not checked"}),
}


@pytest.mark.parametrize("case", NODES)
def test_a_nodes_library_and_runtime_are_held_against_hamis_table(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, severities = NODES[case]
    inside = Inside(lambda order: {"ok": True, "told": "read", **answer})
    view = View(cluster=cast(Cluster, inside))
    monkeypatch.setattr(view, "nodes", lambda: [snapshot.node("gpu-1")])
    site = snapshot.site(node_pods="kube-system")
    assert {one.severity for one in check_node_files(view, site)} == severities
    [pod] = inside.made
    assert pod["metadata"]["namespace"] == "kube-system" and inside.deleted == [pod["metadata"]["name"]]
    assert pod["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "gpu-1"}
    [mount] = [one for one in pod["spec"]["containers"][0]["volumeMounts"] if one["name"] == "host"]
    assert mount["readOnly"]


def test_nobodys_files_are_read_unless_a_person_named_a_namespace() -> None:
    inside = Inside(fine)
    [found] = check_node_files(View(cluster=cast(Cluster, inside)), snapshot.site())
    assert found.severity == "not checked" and "--node-pods" in found.remedy and inside.made == []


def test_without_endpoints_nothing_passes_by_default() -> None:
    for reach in (True, False):
        [found] = look(Inside(fine), reach=reach)
        assert found.severity == "not checked"


def test_what_an_earlier_run_left_is_cleared_away() -> None:
    inside = Inside(fine)

    def pod(name: str, created: str, **labels: str) -> Object:
        return {"metadata": {"name": name, "uid": "u", "creationTimestamp": created, "labels": labels}}

    inside.left = [
        pod("old", "2026-01-01T00:00:00Z", **{TRIAL_LABEL: "old"}),
        pod("running", "2999-01-01T00:00:00Z", **{TRIAL_LABEL: "running"}),
        pod("no-trial", "2026-01-01T00:00:00Z"),
    ]
    assert clear_away(cast(Cluster, inside), namespace="models") == 1
    assert inside.deleted == ["old"]
