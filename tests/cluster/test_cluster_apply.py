"""Applying to a real API server: dry run, order, replicas, conflicts, prune, and Slipway's own rights."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from slipway.cluster import lease
from slipway.cluster.apply import RejectedError, apply, dry_run, prune
from slipway.cluster.client import Cluster
from slipway.cluster.evidence import as_text, collect
from slipway.cluster.faults import ApiError
from slipway.cluster.objects import Object, Ref
from slipway.cluster.watch import wait_for_workload_sync
from slipway.errors import ClusterError

SLEEP = "import time; time.sleep(600)"
Maker = Callable[..., Object]


@pytest.fixture
def cluster(slipway: Cluster) -> Cluster:
    """What is tried here acts with Slipway's own rights."""
    return slipway


def config_map(namespace: str, name: str = "settings", *, ours: bool = True, **data: str) -> Object:
    labels = {"app.kubernetes.io/managed-by": "slipway", "slipway.io/endpoint": "qwen"} if ours else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "data": data,
    }


def ref(obj: Object) -> Ref:
    return Ref(
        apiVersion=obj["apiVersion"],
        kind=obj["kind"],
        namespace=obj["metadata"].get("namespace"),
        name=obj["metadata"]["name"],
    )


def live(cluster: Cluster, obj: Object) -> Object:
    found = cluster.get(
        api_version=obj["apiVersion"],
        kind=obj["kind"],
        namespace=obj["metadata"].get("namespace"),
        name=obj["metadata"]["name"],
    )
    assert found is not None
    return found


def test_dry_run_keeps_nothing_and_tells_every_problem(
    cluster: Cluster, restricted_namespace: str, stateful_set: Maker
) -> None:
    good = config_map(restricted_namespace, a="1")
    mistyped = config_map(restricted_namespace, "mistyped")
    mistyped["dataa"] = {"a": "1"}
    rooted = stateful_set("rooted", SLEEP, namespace=restricted_namespace)
    rooted["spec"]["template"]["spec"]["securityContext"] = {}
    with pytest.raises(RejectedError) as refused:
        dry_run(cluster, [rooted, mistyped, good])
    [first, second] = refused.value.problems
    assert first.startswith(f"ConfigMap {restricted_namespace}/mistyped: ")
    assert 'unknown field "dataa"' in first or ".dataa: field not declared in schema" in first
    assert second.startswith(f"pods of StatefulSet {restricted_namespace}/rooted: ")
    assert "violates PodSecurity" in second
    assert (
        cluster.get(api_version="v1", kind="ConfigMap", namespace=restricted_namespace, name="settings")
        is None
    )


def test_dry_run_leaves_what_waits_for_its_namespace(administrator: Cluster) -> None:
    # Namespaces are made by somebody who may: Slipway's own role does not let it.
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "slipway-test-never-made"}}
    inside = config_map("slipway-test-never-made", a="1")
    assert dry_run(administrator, [inside, space]) == [ref(inside)]


def test_a_pod_of_the_release_before_holds_the_quota_that_the_next_gets(
    cluster: Cluster, administrator: Cluster, namespace: str, stateful_set: Maker
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"hard": {"pods": "1"}},
    }
    administrator.create(quota)
    serving = stateful_set("qwen", SLEEP, namespace=namespace)
    apply(cluster, [serving])
    verdict = wait_for_workload_sync(
        cluster,
        kind="StatefulSet",
        namespace=namespace,
        name="qwen",
        release="r1",
        endpoint="qwen",
        deadline_seconds=60,
    )
    assert verdict.state == "available", verdict.what
    assert dry_run(cluster, [stateful_set("qwen", SLEEP, namespace=namespace, release="r2")]) == []


def test_applying_again_changes_nothing(cluster: Cluster, namespace: str, stateful_set: Maker) -> None:
    objects = [stateful_set("qwen", SLEEP, namespace=namespace, replicas=0), config_map(namespace, a="1")]
    first = apply(cluster, objects)
    assert [one.kind for one in first] == ["ConfigMap", "StatefulSet"]
    apply(cluster, objects)
    before = [live(cluster, obj)["metadata"]["resourceVersion"] for obj in objects]
    assert apply(cluster, objects) == first
    assert [live(cluster, obj)["metadata"]["resourceVersion"] for obj in objects] == before


def test_replicas_are_set_at_creation_and_never_applied_again(
    cluster: Cluster, namespace: str, stateful_set: Maker
) -> None:
    workload = stateful_set("qwen", SLEEP, namespace=namespace, replicas=0)
    apply(cluster, [workload])
    assert live(cluster, workload)["spec"]["replicas"] == 0
    workload["spec"]["replicas"] = 3
    apply(cluster, [workload])
    assert live(cluster, workload)["spec"]["replicas"] == 0, "the default of 1 would have come back"
    cluster.scale(ref(workload), replicas=2)
    workload["spec"]["template"]["metadata"]["labels"]["slipway.io/release"] = "r2"
    for _ in range(2):
        apply(cluster, [workload])
        assert live(cluster, workload)["spec"]["replicas"] == 2
    cluster.scale(ref(workload), replicas=0)


def test_replicas_of_somebody_elses_scaling_stay(
    cluster: Cluster, namespace: str, stateful_set: Maker
) -> None:
    workload = stateful_set("qwen", SLEEP, namespace=namespace, replicas=0)
    apply(cluster, [workload])
    cluster.patch(ref(workload), {"spec": {"replicas": 1}}, subresource="scale", manager="an-autoscaler")
    apply(cluster, [workload])
    assert live(cluster, workload)["spec"]["replicas"] == 1


def test_a_conflict_names_the_field_and_its_manager(cluster: Cluster, namespace: str) -> None:
    cluster.apply(config_map(namespace, a="1"), manager="kubectl-client-side-apply")
    with pytest.raises(ClusterError) as refused:
        apply(cluster, [config_map(namespace, a="2")])
    assert f"ConfigMap {namespace}/settings" in str(refused.value)
    assert 'data.a is held by "kubectl-client-side-apply"' in str(refused.value)
    apply(cluster, [config_map(namespace, a="2")], force=True)
    assert live(cluster, config_map(namespace))["data"] == {"a": "2"}


def test_an_immutable_field_says_so(cluster: Cluster, namespace: str, stateful_set: Maker) -> None:
    workload = stateful_set("qwen", SLEEP, namespace=namespace, replicas=0)
    apply(cluster, [workload])
    workload["spec"]["serviceName"] = "another"
    with pytest.raises(ApiError, match="cannot be changed: delete it"):
        apply(cluster, [workload])


def test_prune_takes_what_is_ours_and_nothing_else(cluster: Cluster, namespace: str) -> None:
    old = config_map(namespace, "old")
    kept = config_map(namespace, "kept")
    taken_over = config_map(namespace, "taken-over", ours=False)
    other = config_map(namespace, "other-endpoint")
    other["metadata"]["labels"]["slipway.io/endpoint"] = "llama"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "weights", "namespace": namespace, "labels": old["metadata"]["labels"]},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    inventory = apply(cluster, [old, kept, taken_over, other, claim])
    gone = Ref(apiVersion="v1", kind="ConfigMap", namespace=namespace, name="gone-already")
    deleted = prune(cluster, old=[*inventory, gone], new=[ref(kept)], endpoint="qwen")
    assert deleted == [ref(old)]
    left = {
        one["metadata"]["name"]
        for one in cluster.list(api_version="v1", kind="ConfigMap", namespace=namespace)
    }
    assert {"kept", "taken-over", "other-endpoint"} <= left
    assert "old" not in left
    live(cluster, claim)


def test_what_was_in_a_namespace_that_is_gone_is_gone_and_no_right_is_missed(
    administrator: Cluster, cluster: Cluster, namespace: str
) -> None:
    left = config_map(namespace)
    apply(cluster, [left])
    administrator.delete(Ref(apiVersion="v1", kind="Namespace", name=namespace))
    deadline = time.monotonic() + 120
    while administrator.get(api_version="v1", kind="Namespace", name=namespace) is not None:
        assert time.monotonic() < deadline, "the namespace is not gone"
        time.sleep(0.5)

    assert cluster.get(api_version="v1", kind="ConfigMap", namespace=namespace, name="settings") is None
    assert cluster.list(api_version="v1", kind="ConfigMap", namespace=namespace) == []
    assert prune(cluster, old=[ref(left)], new=[], endpoint="qwen") == []
    with pytest.raises(ClusterError, match=f'namespaces "{namespace}" not found.*kubectl create namespace'):
        lease.acquire(cluster, namespace=namespace, endpoint_object="qwen", holder="run", seconds=60)


def test_a_kind_that_only_the_server_knows(cluster: Cluster, namespace: str) -> None:
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "qwen", "namespace": namespace},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}},
    }
    apply(cluster, [budget])
    assert live(cluster, budget)["spec"]["maxUnavailable"] == 1
    with pytest.raises(ClusterError, match=r"no such kind .LeaderWorkerSet in nowhere.example/v1"):
        cluster.list(api_version="nowhere.example/v1", kind="LeaderWorkerSet")


def test_lists_are_read_page_by_page(
    cluster: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.cluster.client._PAGE", 2)
    for number in range(5):
        cluster.create(config_map(namespace, f"c{number}"))
    found = cluster.list(
        api_version="v1", kind="ConfigMap", namespace=namespace, labels={"slipway.io/endpoint": "qwen"}
    )
    assert [one["metadata"]["name"] for one in found] == [f"c{number}" for number in range(5)]
    assert all(one["kind"] == "ConfigMap" for one in found)


def test_a_whole_deployment_with_slipways_own_rights(
    as_slipway: Callable[..., Cluster], restricted_namespace: str, stateful_set: Maker
) -> None:
    """Lock, dry run, apply, wait, logs, evidence, prune and release, with no right more than the list has."""
    cluster, space = as_slipway(restricted_namespace), restricted_namespace
    where = {"namespace": space, "endpoint_object": "qwen"}
    assert lease.acquire(cluster, **where, holder="run-a", seconds=60) == 1
    server = "import time; print('API_KEY=hunter2-secret ready', flush=True); time.sleep(600)"
    workload = stateful_set(
        "qwen", server, namespace=space, env=[{"name": "TOKEN", "value": "do-not-tell"}, {"name": "EMPTY"}]
    )
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "qwen", "namespace": space, "labels": workload["metadata"]["labels"]},
        "spec": {"clusterIP": "None", "selector": {"slipway.io/endpoint": "qwen"}, "ports": [{"port": 80}]},
    }
    assert dry_run(cluster, [workload, service]) == []
    inventory = apply(cluster, [workload, service])
    told: list[str] = []
    verdict = wait_for_workload_sync(
        cluster,
        kind="StatefulSet",
        namespace=space,
        name="qwen",
        release="r1",
        endpoint="qwen",
        deadline_seconds=60,
        on_progress=told.append,
    )
    assert verdict.state == "available", verdict.what
    assert told[-1] == "1 of 1 pod ready"
    kept = collect(cluster, namespace=space, endpoint="qwen", release="r1")
    text = as_text(kept)
    assert kept["not_collected"] == []
    assert "ready" in kept["logs"]["qwen-0/server"]
    assert "Successfully assigned" in text
    assert "hunter2-secret" not in repr(kept)
    assert "do-not-tell" not in repr(kept)
    assert lease.still_held(cluster, **where, holder="run-a", fencing=1)
    assert len(prune(cluster, old=inventory, new=[])) == 2
    assert lease.release(cluster, **where, holder="run-a", fencing=1)


def test_many_who_want_the_lock_at_once(cluster: Cluster, namespace: str) -> None:
    where = {"namespace": namespace, "endpoint_object": "qwen"}

    def ask(run: int) -> int | None:
        return lease.acquire(cluster, **where, holder=f"run-{run}", seconds=60)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))
    assert sorted(answer or 0 for answer in answers) == [0] * 7 + [1]
    waiting = [waiter.holder for waiter in lease.waiters_of(cluster, **where)]
    assert len(waiting) == 7
    served = [f"run-{answers.index(1)}"]
    for _ in range(7):
        lease.release(cluster, **where, holder=served[-1])
        with ThreadPoolExecutor(8) as threads:
            got = {
                run: number
                for run, number in zip(
                    waiting,
                    threads.map(lambda run: lease.acquire(cluster, **where, holder=run, seconds=60), waiting),
                    strict=True,
                )
                if number
            }
        [(winner, number)] = got.items()
        assert number == len(served) + 1
        assert winner == waiting.pop(0)
        served.append(winner)


def test_an_expired_lock_by_the_servers_clock(cluster: Cluster, namespace: str) -> None:
    where = {"namespace": namespace, "endpoint_object": "qwen"}
    assert lease.acquire(cluster, **where, holder="run-a", seconds=1) == 1
    with ThreadPoolExecutor(1):
        import time

        time.sleep(2.5)
    assert lease.acquire(cluster, **where, holder="run-b", seconds=30) == 2
    assert not lease.still_held(cluster, **where, holder="run-a", fencing=1)
