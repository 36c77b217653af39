"""LeaderWorkerSets: what is available, why a group never will be, and what a crash looks like through regrouping."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.cluster.objects import Object, workload_api
from slipway.cluster.shapes import pod_makers, pod_names, pod_templates
from slipway.cluster.verdict import Verdict
from slipway.cluster.workload import judge
from slipway.errors import UsageError

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
RELEASE, BEFORE = "0a1b2c3d4e5f", "ffffffffffff"


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def template(release: str = RELEASE) -> Object:
    return {"metadata": {"labels": {"slipway.io/release": release}}, "spec": {"containers": []}}


def groups(*, replicas: int = 1, size: int = 2, policy: str = "", **status: Any) -> Object:
    inner: Object = {"size": size, "leaderTemplate": template(), "workerTemplate": template()}
    if policy:
        inner["restartPolicy"] = policy
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": {
            "name": "qwen",
            "namespace": "models",
            "uid": "lws-uid",
            "generation": 2,
            "creationTimestamp": ago(3600),
            "managedFields": [{"manager": "slipway", "operation": "Apply", "time": ago(60)}],
        },
        "spec": {"replicas": replicas, "leaderWorkerTemplate": inner},
        "status": {
            "observedGeneration": 2,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": replicas,
            **status,
        },
    }


def pod(
    name: str,
    *,
    release: str = RELEASE,
    ready: bool = True,
    ended: Object | None = None,
    stopping: bool = False,
    **status: Any,
) -> Object:
    container = {
        "name": "server",
        "image": "i",
        "ready": ready,
        "restartCount": 1 if ended else 0,
        "state": {"running": {}},
        "lastState": {"terminated": ended} if ended else {},
        **status,
    }
    return {
        "metadata": {
            "name": name,
            "namespace": "models",
            "uid": f"{name}-uid",
            "labels": {
                "slipway.io/endpoint": "qwen",
                "slipway.io/release": release,
                "leaderworkerset.sigs.k8s.io/name": "qwen",
            },
            **({"deletionTimestamp": ago(1)} if stopping else {}),
        },
        "spec": {
            "nodeName": "node-1",
            "containers": [
                {"name": "server", "image": "i", "resources": {"limits": {"memory": "4Gi"}}},
            ],
        },
        "status": {
            "phase": "Running",
            "startTime": ago(30),
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": str(ready), "lastTransitionTime": ago(30)},
            ],
            "containerStatuses": [container],
        },
    }


def event(reason: str, message: str, *, about: str, seconds: float = 5, uid: str = "another") -> Object:
    return {
        "reason": reason,
        "message": message,
        "involvedObject": {"name": about, "uid": uid},
        "firstTimestamp": ago(seconds),
        "lastTimestamp": ago(seconds),
    }


def regrouped(*, seconds: float, failed: str = "qwen-0-1") -> Object:
    message = f"Worker pod {failed} failed, deleted leader pod qwen-0 to recreate group 0"
    return event("RecreateGroup", message, about="qwen", seconds=seconds, uid="lws-uid")


def crash(code: int = 1, *, seconds: float = 5, reason: str = "Error") -> Object:
    return {"exitCode": code, "reason": reason, "finishedAt": ago(seconds)}


def judged(pods: list[Object], events: list[Object] | None = None, *, of: Object | None = None) -> Verdict:
    return judge(of or groups(), pods, events or [], [], release=RELEASE, now=NOW)


BOTH = [pod("qwen-0"), pod("qwen-0-1")]


# -- available ------------------------------------------------------------------------------------------------


def test_available_once_leaders_and_workers_of_all_groups_are_ready() -> None:
    more = [pod(f"qwen-1{rest}") for rest in ("", "-1")]
    assert judged([*BOTH, *more], of=groups(replicas=2)).what == "4 of 4 pods ready"
    assert judged([*BOTH, *more], of=groups(replicas=2)).state == "available"
    assert judged([pod("qwen-0")], of=groups(size=1)).state == "available"


@pytest.mark.parametrize(
    ("pods", "status"),
    [
        ([pod("qwen-0")], {}),
        ([pod("qwen-0"), pod("qwen-0-1", ready=False)], {}),
        ([pod("qwen-0"), pod("qwen-0-1", release=BEFORE)], {}),
        ([*BOTH, pod("qwen-1", release=BEFORE, stopping=True)], {}),
        (BOTH, {"observedGeneration": 1}),
        (BOTH, {"updatedReplicas": 0}),
        (BOTH, {"readyReplicas": 0}),
    ],
    ids=[
        "no worker",
        "worker unready",
        "worker of before",
        "group of before",
        "unseen",
        "updating",
        "unready",
    ],
)
def test_not_available_before_the_whole_group_is(pods: list[Object], status: dict[str, Any]) -> None:
    assert judged(pods, of=groups(**status)).state == "progressing"


def test_a_controller_that_does_not_say_what_it_has_seen_is_believed() -> None:
    of = groups()
    del of["status"]["observedGeneration"]  # LeaderWorkerSet before 0.9
    assert judged(BOTH, of=of).state == "available"


def test_pods_of_the_endpoint_that_are_not_the_sets_do_not_count() -> None:
    step = pod("probe-1", ready=False)
    del step["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/name"]
    assert judged([*BOTH, step]).state == "available"


# -- doomed ---------------------------------------------------------------------------------------------------

QUOTA = 'create Pod qwen-0-1 in StatefulSet qwen-0 failed error: pods "qwen-0-1" is forbidden: exceeded quota: small'
NEVER = {"state": {"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}}}

DOOMED: dict[str, tuple[Verdict, str, list[str]]] = {
    "leader's image": (
        judged([pod("qwen-0", ready=False, **NEVER)]),
        "ErrImageNeverPull",
        ["Pod models/qwen-0, container server"],
    ),
    "worker's image": (
        judged([pod("qwen-0"), pod("qwen-0-1", ready=False, **NEVER)]),
        "ErrImageNeverPull",
        ["Pod models/qwen-0-1, container server"],
    ),
    "no worker can be made": (
        judged([pod("qwen-0")], [event("FailedCreate", QUOTA, about="qwen-0", seconds=30)]),
        "FailedCreate",
        ["LeaderWorkerSet models/qwen", "exceeded quota: small"],
    ),
    "no leader can be made": (
        judged([], [event("FailedCreate", QUOTA, about="qwen", seconds=30)]),
        "FailedCreate",
        ["exceeded quota: small"],
    ),
    "the worker crashes": (
        judged(
            [pod("qwen-0", stopping=True), pod("qwen-0-1", ended=crash(3), stopping=True)],
            [regrouped(seconds=20), regrouped(seconds=4)],
        ),
        "CrashLoopBackOff",
        ["Pod models/qwen-0-1", "exit code 3", "its group made anew 2 times"],
    ),
    "both crash, the worker first": (
        judged(
            [
                pod("qwen-0", ready=False, ended=crash(9, seconds=3)),
                pod("qwen-0-1", ready=False, ended=crash(3, seconds=5)),
            ],
            [regrouped(seconds=20)],
        ),
        "CrashLoopBackOff",
        ["Pod models/qwen-0-1", "exit code 3"],
    ),
    "the leader out of memory": (
        judged(
            [pod("qwen-0", ended=crash(137, reason="OOMKilled"), stopping=True)],
            [regrouped(seconds=4, failed="qwen-0")],
        ),
        "OOMKilled",
        ["Pod models/qwen-0", "memory limit of 4Gi"],
    ),
    "crashes between looks": (
        judged([pod("qwen-0", ready=False)], [regrouped(seconds=n) for n in (30, 20, 10)]),
        "GroupRecreated",
        ["made anew 3 times", "Worker pod qwen-0-1 failed", "logs -f qwen-0-1"],
    ),
    "evicted worker": (
        judged(
            [pod("qwen-0"), pod("qwen-0-1", ready=False)],
            [event("Evicted", "The node was low on resource: memory.", about="qwen-0-1")],
        ),
        "Evicted",
        ["Pod models/qwen-0-1", "low on resource"],
    ),
    "scaled to 0": (
        judged([], of=groups(replicas=0)),
        "ScaledToZero",
        ["kubectl -n models scale leaderworkerset qwen --replicas=1"],
    ),
}


@pytest.mark.parametrize("case", DOOMED)
def test_doomed_with_the_pod_that_it_is_about(case: str) -> None:
    verdict, reason, words = DOOMED[case]
    assert verdict.doom is not None
    assert verdict.doom.reason == reason
    for word in words:
        assert word in verdict.what


def test_a_release_of_only_one_template_is_not_this_one() -> None:
    of = groups()
    of["spec"]["leaderWorkerTemplate"]["workerTemplate"] = template(BEFORE)
    verdict = judged(BOTH, of=of)
    assert verdict.doom is not None
    assert verdict.doom.reason == "ReleaseReplaced"
    assert f"{RELEASE} and {BEFORE}" in verdict.what


PROGRESSING: dict[str, Verdict] = {
    "one crash": judged([pod("qwen-0-1", ended=crash(), stopping=True)], [regrouped(seconds=4)]),
    "crashes of the release before": judged(
        [pod("qwen-0", ready=False)], [regrouped(seconds=n) for n in (300, 200, 100)]
    ),
    "a pod restarts by itself, as its policy says": judged(
        [pod("qwen-0"), pod("qwen-0-1", ready=False, ended=crash())],
        [regrouped(seconds=n) for n in (30, 20)],
        of=groups(policy="None"),
    ),
    "a worker's StatefulSet was refused and is another now": judged(
        [pod("qwen-0")],
        [
            event("FailedCreate", QUOTA, about="qwen-0", seconds=30),
            event("SuccessfulCreate", "create Pod qwen-0-1", about="qwen-0", seconds=2),
        ],
    ),
}


@pytest.mark.parametrize("case", PROGRESSING)
def test_progressing_while_it_may_come_up(case: str) -> None:
    assert PROGRESSING[case].state == "progressing", PROGRESSING[case].what


def test_what_was_before_a_scale_up_does_not_count() -> None:
    """A failed first release is scaled to 0; the same release is scaled up again when it is tried once more."""
    of = groups()
    scaled = {"manager": "slipway-scale", "time": ago(3), "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    of["metadata"]["managedFields"].append(scaled)
    events = [regrouped(seconds=n) for n in (30, 20, 10)]
    assert judged([pod("qwen-0", ready=False)], events, of=of).state == "progressing"


# -- shapes ---------------------------------------------------------------------------------------------------


def test_names_of_pods_and_of_what_makes_them() -> None:
    assert pod_names(groups(replicas=2, size=3)) == [
        "qwen-0",
        "qwen-0-1",
        "qwen-0-2",
        "qwen-1",
        "qwen-1-1",
        "qwen-1-2",
    ]
    assert pod_makers(groups(replicas=2)) == ["qwen", "qwen-0", "qwen-1"]
    assert pod_makers(groups(size=1)) == ["qwen"]


def test_the_leader_has_the_workers_template_where_it_has_none() -> None:
    of = groups()
    worker = of["spec"]["leaderWorkerTemplate"]["workerTemplate"]
    del of["spec"]["leaderWorkerTemplate"]["leaderTemplate"]
    assert pod_templates(of) == {"leader pods": worker, "worker pods": worker}
    of["spec"]["leaderWorkerTemplate"]["size"] = 1
    assert list(pod_templates(of)) == ["leader pods"]


def test_the_api_of_a_kind_of_workload() -> None:
    assert workload_api("LeaderWorkerSet") == ("leaderworkerset.x-k8s.io/v1", "leaderworkersets")
    assert workload_api("Deployment") == ("apps/v1", "deployments")
    with pytest.raises(UsageError, match="StatefulSet, Deployment, LeaderWorkerSet"):
        workload_api("DaemonSet")
