"""LeaderWorkerSets with the real controller: groups come up, are judged as one, and come back as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from slipway.cluster.apply import RejectedError, apply, dry_run, prune
from slipway.cluster.client import Cluster
from slipway.cluster.evidence import collect
from slipway.cluster.objects import Object, Ref, labels_of, ref_of, workload_api
from slipway.cluster.verdict import Limits, Verdict
from slipway.cluster.watch import wait_for_workload_sync

Maker = Callable[..., Object]

LEADER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == '/health' else 404)
        self.end_headers()
http.server.ThreadingHTTPServer(('', 8000), Handler).serve_forever()
"""
# Ready means that it has reached its leader by the name that the controller gives it.
WORKER = """
import os, pathlib, time, urllib.request
leader, me, size = (os.environ['LWS_' + name] for name in ('LEADER_ADDRESS', 'WORKER_INDEX', 'GROUP_SIZE'))
while True:
    try:
        urllib.request.urlopen(f'http://{leader}:8000/health', timeout=2)
        break
    except OSError:
        time.sleep(0.2)
print(f'worker {me} of {size} joined {leader}', flush=True)
pathlib.Path('/tmp/joined').touch()
time.sleep(600)
"""
SERVES: dict[str, Any] = {
    "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1, "timeoutSeconds": 5}
}
JOINED: dict[str, Any] = {
    "readinessProbe": {
        "exec": {"command": ["test", "-e", "/tmp/joined"]},
        "periodSeconds": 1,
        "timeoutSeconds": 5,
    }
}
NOT_READY: dict[str, Any] = {"readinessProbe": {"exec": {"command": ["false"]}}}
LIMITS = Limits(unschedulable=5, create=5)


@pytest.fixture(scope="module")
def groups(pod_template: Maker) -> Maker:
    """Make a LeaderWorkerSet whose groups are a leader and one worker that reports to it."""

    def make(
        name: str,
        *,
        namespace: str,
        release: str = "r1",
        leader: str = LEADER,
        worker: str = WORKER,
        leader_pod: dict[str, Any] = SERVES,
        worker_pod: dict[str, Any] = JOINED,
    ) -> Object:
        labels = {
            "app.kubernetes.io/managed-by": "slipway",
            "slipway.io/endpoint": name,
            "slipway.io/release": release,
        }
        roles = {"leader": "server", "worker": "worker"}
        mine = {role: {**labels, "app.kubernetes.io/component": value} for role, value in roles.items()}
        return {
            "apiVersion": workload_api("LeaderWorkerSet")[0],
            "kind": "LeaderWorkerSet",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                "replicas": 1,
                "leaderWorkerTemplate": {
                    "size": 2,
                    "leaderTemplate": pod_template(mine["leader"], leader, **leader_pod),
                    "workerTemplate": pod_template(mine["worker"], worker, **worker_pod),
                },
            },
        }

    return make


def wait(
    cluster: Cluster, namespace: str, name: str, *, release: str = "r1", limits: Limits = LIMITS
) -> Verdict:
    return wait_for_workload_sync(
        cluster,
        kind="LeaderWorkerSet",
        namespace=namespace,
        name=name,
        release=release,
        endpoint=name,
        deadline_seconds=120,
        limits=limits,
    )


def pods_of(cluster: Cluster, namespace: str, name: str) -> dict[str, Object]:
    found = cluster.list(
        api_version="v1", kind="Pod", namespace=namespace, labels={"slipway.io/endpoint": name}
    )
    return {pod["metadata"]["name"]: pod for pod in found}


def uids(cluster: Cluster, namespace: str, name: str) -> dict[str, str]:
    return {key: pod["metadata"]["uid"] for key, pod in pods_of(cluster, namespace, name).items()}


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


# -- a group that serves --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def space(make_namespace: Callable[..., str]) -> str:
    """The namespace of the tests below, which change one set after the other."""
    return make_namespace(level="restricted")


@pytest.fixture(scope="module")
def in_space(as_slipway: Callable[..., Cluster], space: str) -> Cluster:
    """Slipway itself there."""
    return as_slipway(space)


@pytest.fixture(scope="module")
def serving(in_space: Cluster, space: str, groups: Maker) -> Object:
    """A group that is available."""
    workload = groups("qwen", namespace=space)
    assert dry_run(in_space, [workload]) == []
    apply(in_space, [workload])
    verdict = wait(in_space, space, "qwen")
    assert (verdict.state, verdict.what) == ("available", "2 of 2 pods ready")
    return workload


def test_a_worker_finds_its_leader_by_the_address_that_it_is_given(
    in_space: Cluster, space: str, serving: Object
) -> None:
    assert sorted(pods_of(in_space, space, "qwen")) == ["qwen-0", "qwen-0-1"]
    log = in_space.logs(namespace=space, pod="qwen-0-1")
    assert log.strip() == f"worker 1 of 2 joined qwen-0.qwen.{space}"


def test_a_deleted_worker_takes_its_whole_group_with_it_and_it_comes_back(
    in_space: Cluster, space: str, serving: Object
) -> None:
    before = uids(in_space, space, "qwen")
    in_space.delete(Ref(apiVersion="v1", kind="Pod", namespace=space, name="qwen-0-1"))

    def is_another_group() -> bool:
        now = uids(in_space, space, "qwen")
        return set(now) == set(before) and not set(now.values()) & set(before.values())

    until(is_another_group)
    assert wait(in_space, space, "qwen").state == "available"


def test_scaling_to_0_and_back_is_no_apply_s_business(in_space: Cluster, space: str, serving: Object) -> None:
    in_space.scale(ref_of(serving), replicas=0)
    apply(in_space, [serving])
    stopped = wait(in_space, space, "qwen")
    assert stopped.doom is not None
    assert stopped.doom.reason == "ScaledToZero"
    until(lambda: not pods_of(in_space, space, "qwen"))
    in_space.scale(ref_of(serving), replicas=1)
    assert wait(in_space, space, "qwen").state == "available"


def test_another_release_replaces_leader_and_worker(
    in_space: Cluster, space: str, serving: Object, groups: Maker
) -> None:
    before = uids(in_space, space, "qwen")
    apply(in_space, [groups("qwen", namespace=space, release="r2")])
    assert wait(in_space, space, "qwen", release="r2").state == "available"
    pods = pods_of(in_space, space, "qwen")
    assert {labels_of(pod)["slipway.io/release"] for pod in pods.values()} == {"r2"}
    assert not {pod["metadata"]["uid"] for pod in pods.values()} & set(before.values())
    replaced = wait(in_space, space, "qwen", release="r1")
    assert replaced.doom is not None
    assert replaced.doom.reason == "ReleaseReplaced"


def test_a_group_is_told_of_and_pruned_as_one(
    slipway: Cluster, restricted_namespace: str, groups: Maker
) -> None:
    cluster, space = slipway, restricted_namespace
    workload = groups("qwen", namespace=space)
    assert dry_run(cluster, [workload]) == []
    inventory = apply(cluster, [workload])
    assert wait(cluster, space, "qwen").state == "available"
    kept = collect(cluster, namespace=space, endpoint="qwen", release="r1", kind="LeaderWorkerSet")
    assert kept["not_collected"] == []
    assert [one["metadata"]["name"] for one in kept["workloads"]] == ["qwen"]
    assert "joined" in kept["logs"]["qwen-0-1/server"]
    assert any("Created worker statefulset" in line for line in kept["events"])
    cluster.scale(ref_of(workload), replicas=0)
    assert prune(cluster, old=inventory, new=[]) == inventory


# -- a group that cannot come up ------------------------------------------------------------------------------

# What is wrong, with the reason, and with words of the verdict.
TROUBLES: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "image": (
        {"worker_pod": {"image": "localhost/slipway/nothing:here", "imagePullPolicy": "Never"}},
        "ErrImageNeverPull",
        ("/image-0-1, container server", "is not present"),
    ),
    "leader": (
        {"leader_pod": {"image": "localhost/slipway/nothing:here", "imagePullPolicy": "Never"}},
        "ErrImageNeverPull",
        ("/leader-0, container server", "is not present"),
    ),
    "room": (
        {"worker_pod": {"resources": {"requests": {"cpu": "512"}}}},
        "Unschedulable",
        ("/room-0-1", "Insufficient cpu"),
    ),
    "crash": (
        {"worker": "print('no such device'); raise SystemExit(3)", "worker_pod": NOT_READY},
        "CrashLoopBackOff|GroupRecreated",
        ("crash-0-1", "made anew"),
    ),
    "memory": (
        {"leader": "x = bytearray(300 * 2**20)", "leader_pod": NOT_READY},
        "OOMKilled",
        ("/memory-0, container server", "memory limit of 64Mi"),
    ),
}


@pytest.fixture(scope="module")
def troubled(
    as_slipway: Callable[..., Cluster], make_namespace: Callable[..., str], groups: Maker
) -> Iterator[dict[str, Future[Verdict]]]:
    """All troubled sets at once, each waited for by a thread of its own."""
    namespace = make_namespace(level="restricted")
    cluster = as_slipway(namespace)
    apply(cluster, [groups(name, namespace=namespace, **wrong) for name, (wrong, _, _) in TROUBLES.items()])
    with ThreadPoolExecutor(len(TROUBLES)) as threads:
        yield {name: threads.submit(wait, cluster, namespace, name) for name in TROUBLES}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_group_that_cannot_come_up_is_told_with_the_pod_to_blame(
    troubled: dict[str, Future[Verdict]], name: str
) -> None:
    _, reason, words = TROUBLES[name]
    verdict = troubled[name].result()
    assert verdict.doom is not None, verdict.what
    assert verdict.doom.reason in reason.split("|"), verdict.what
    for word in words:
        assert word in verdict.what


def test_a_quota_that_holds_a_worker_back_is_told(
    slipway: Cluster, administrator: Cluster, namespace: str, groups: Maker
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "one-pod", "namespace": namespace},
        "spec": {"hard": {"pods": "1"}},
    }
    administrator.create(quota)
    apply(slipway, [groups("qwen", namespace=namespace)])
    verdict = wait(slipway, namespace, "qwen")
    assert verdict.doom is not None
    assert verdict.doom.reason == "FailedCreate"
    assert "exceeded quota: one-pod" in verdict.what


def test_pods_of_both_roles_are_tried_before_anything_is_applied(
    slipway: Cluster, restricted_namespace: str, groups: Maker
) -> None:
    careless: dict[str, Any] = {"securityContext": {}}
    workload = groups("qwen", namespace=restricted_namespace, leader_pod=careless, worker_pod=careless)
    with pytest.raises(RejectedError) as refused:
        dry_run(slipway, [workload])
    leaders, workers = refused.value.problems
    assert leaders.startswith(f"leader pods of LeaderWorkerSet {restricted_namespace}/qwen: ")
    assert workers.startswith(f"worker pods of LeaderWorkerSet {restricted_namespace}/qwen: ")
    assert "violates PodSecurity" in workers


def test_a_group_of_no_pods_is_refused_by_the_controllers_webhook(
    slipway: Cluster, namespace: str, groups: Maker
) -> None:
    workload = groups("qwen", namespace=namespace)
    workload["spec"]["leaderWorkerTemplate"]["size"] = 0
    with pytest.raises(RejectedError, match="size"):
        dry_run(slipway, [workload])


# -- Deployments ----------------------------------------------------------------------------------------------


def test_a_deployment_is_waited_for_and_told_of_as_well(
    slipway: Cluster, restricted_namespace: str, deployment: Maker
) -> None:
    cluster, space = slipway, restricted_namespace
    sleep = "import time; time.sleep(600)"

    def judged(release: str, **pod: Any) -> Verdict:
        workload = deployment("qwen", sleep, namespace=space, release=release, **pod)
        assert dry_run(cluster, [workload]) == []
        apply(cluster, [workload])
        return wait_for_workload_sync(
            cluster,
            kind="Deployment",
            namespace=space,
            name="qwen",
            release=release,
            endpoint="qwen",
            deadline_seconds=60,
            limits=LIMITS,
        )

    assert judged("r1").state == "available"
    broken = judged("r2", image="localhost/slipway/nothing:here", imagePullPolicy="Never")
    assert broken.doom is not None
    assert broken.doom.reason == "ErrImageNeverPull"
    assert judged("r1").state == "available"
    ref = Ref(apiVersion=workload_api("Deployment")[0], kind="Deployment", namespace=space, name="qwen")
    cluster.scale(ref, replicas=0)
    assert judged("r1").state == "doomed"
