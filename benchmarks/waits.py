"""What a thousand waits cost one process: connections, memory, processor time, and how late each of them knows.

``python -m benchmarks.waits`` prints a JSON object for Slipway's shared watches, one for the peer, and their ratios.
Needs a sandbox with kwok (``make up``). The API server, its watches, the StatefulSets and their controller are real;
nodes and pods are kwok's. Nothing can start until the nodes come, so that all waits are there before anything happens.
An observer of its own notes when each StatefulSet really is available; how late a wait knows is counted from then.

The peer is what one writes who waits for one workload in one task: a client and a watch for each, by
kubernetes_asyncio, on that StatefulSet alone. It reads neither pods nor events and so couldn't say why nothing starts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from sandbox import gobuild, kwok, settings, supervisor
from sandbox.cluster import Cluster as Sandbox
from slipway.cluster.client import Cluster
from slipway.cluster.objects import ENDPOINT_LABEL, RELEASE_LABEL, Object, Ref
from slipway.cluster.transport import Request

NAMESPACE = "slipway-bench-waits"
WAITS, NODES = 1000, 10
SELECTOR = {"slipway.io/bench": "waits"}
RELEASE = "r1"
LONGEST = 420.0
Wait = Callable[[str, str], Awaitable[None]]


def main() -> int:
    """Print the figures of both, and how many times less Slipway takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waits", type=int, default=WAITS)
    waits = parser.parse_args().waits
    config = settings.load(recorded=True)
    if not any(part.name == kwok.NAME and part.state == "RUNNING" for part in supervisor.parts(config)):
        print(json.dumps({"benchmark": "waits", "not_measured": "kwok does not run; make up starts it"}))
        return 0
    names = [f"wait-{number:04}" for number in range(waits)]
    figures = {
        case: _measure(config.admin_kubeconfig, config, names, case=case) for case in ("shared", "watch_each")
    }
    own, peer = figures["shared"], figures["watch_each"]
    ratios = {
        f"peer_{name}_ratio": round(peer[name] / own[name], 2)
        for name in ("connections", "grown_mib", "peak_mib", "cpu_s", "late_p50_s", "late_max_s")
        if own[name] > 0
    }
    print(json.dumps({"benchmark": "waits", "case": "ratios", "waits": waits, **ratios}))
    return 0


def _measure(kubeconfig: Path, config: settings.Settings, names: list[str], *, case: str) -> dict[str, float]:
    cluster = Cluster.from_kubeconfig(kubeconfig)
    kubectl = Sandbox(
        kubectl_path=gobuild.program(config, gobuild.KUBERNETES, "kubectl"), kubeconfig=kubeconfig
    )
    context = multiprocessing.get_context("spawn")
    ready, results = context.Event(), context.Queue()
    with _workloads(cluster, names), _observed(kubeconfig) as available:
        process = context.Process(
            target=_in_child, args=(case, str(kubeconfig), names, ready, results), daemon=True
        )
        process.start()
        if not ready.wait(LONGEST):
            raise SystemExit(f"{case}: the waits do not begin")
        with kwok.fake_nodes(kubectl, NODES, labels=SELECTOR, resources={"pods": str(len(names))}):
            began = time.monotonic()
            known, figures = _result(process, results, case=case)
            late = sorted(known[name] - available[name] for name in names if name in available)
            figures |= {
                "until_all_known_s": round(max(known.values()) - began, 2),
                "observed": len(late),
                "late_p50_s": round(late[len(late) // 2], 2),
                "late_p99_s": round(late[len(late) * 99 // 100], 2),
                "late_max_s": round(late[-1], 2),
            }
            load = round(os.getloadavg()[0], 1)
            line = {"benchmark": "waits", "case": case, "waits": len(names), **figures}
            print(json.dumps({**line, "load_of_machine": load}), flush=True)
            _empty(cluster)  # as long as there are nodes, whose pods then go at once
    return dict(figures)


def _result(process: Any, results: Any, *, case: str) -> tuple[dict[str, float], dict[str, float]]:
    """What the child found; it may also have died."""
    deadline = time.monotonic() + LONGEST
    while process.is_alive() and results.empty() and time.monotonic() < deadline:
        time.sleep(0.5)
    try:
        found: tuple[dict[str, float], dict[str, float]] = results.get(timeout=5)
    except queue.Empty:
        raise SystemExit(f"{case}: the waits did not end; their process's last lines say why") from None
    process.join()
    return found


@contextmanager
def _workloads(cluster: Cluster, names: list[str]) -> Iterator[None]:
    """StatefulSets whose pods are there and find no node."""
    space = Ref(apiVersion="v1", kind="Namespace", name=NAMESPACE)
    _gone(cluster, space)
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: cluster.create(_stateful_set(name)), names))
        _until(
            lambda: len(cluster.list(api_version="v1", kind="Pod", namespace=NAMESPACE)) == len(names), "pods"
        )
        yield
    finally:
        _gone(cluster, space)


def _empty(cluster: Cluster) -> None:
    collection = "/apis/apps/v1/namespaces/{}/statefulsets"
    cluster.send(Request(method="DELETE", path=collection.format(NAMESPACE), what="delete the workloads"))
    _until(lambda: not cluster.list(api_version="v1", kind="Pod", namespace=NAMESPACE), "the end of the pods")


def _gone(cluster: Cluster, ref: Ref) -> None:
    cluster.delete(ref)
    _until(
        lambda: cluster.get(api_version=ref.apiVersion, kind=ref.kind, name=ref.name) is None,
        "the namespace's end",
    )


def _until(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LONGEST
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come")
        time.sleep(1)


def _stateful_set(name: str) -> Object:
    labels = {ENDPOINT_LABEL: name, RELEASE_LABEL: RELEASE}
    container = {"name": "server", "image": "simulated", "resources": {"requests": {"cpu": "10m"}}}
    spec = {
        "containers": [container],
        "nodeSelector": SELECTOR,
        "tolerations": [{"key": kwok.ANNOTATION, "operator": "Exists"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": 1,
            "serviceName": name,
            "selector": {"matchLabels": {ENDPOINT_LABEL: name}},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


@contextmanager
def _observed(kubeconfig: Path) -> Iterator[dict[str, float]]:
    """When each StatefulSet became available, by one plain watch that belongs to neither side."""
    from kubernetes import client, config, watch
    from urllib3.exceptions import HTTPError

    api = client.AppsV1Api(config.new_client_from_config(config_file=str(kubeconfig)))
    seen, watching, over = dict[str, float](), watch.Watch(), threading.Event()

    def follow() -> None:
        while not over.is_set():
            with suppress(HTTPError):  # the connection ended: the next begins with all that there is
                for event in watching.stream(api.list_namespaced_stateful_set, NAMESPACE):
                    if _is_available(event["object"]):
                        seen.setdefault(event["object"].metadata.name, time.monotonic())
            watching.resource_version = None

    threading.Thread(target=follow, daemon=True).start()
    yield seen
    over.set()
    watching.stop()


def _is_available(found: Any) -> bool:
    status = found.status
    done = status.observed_generation == found.metadata.generation and status.updated_replicas == 1
    return bool(done and status.ready_replicas == 1 and status.current_revision == status.update_revision)


# -- in a process of its own
# ---------------------------------------------------------------------------------------------


def _in_child(case: str, kubeconfig: str, names: list[str], ready: Any, results: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    results.put(asyncio.run(_all(case, kubeconfig, names, ready)))


async def _all(
    case: str, kubeconfig: str, names: list[str], ready: Any
) -> tuple[dict[str, float], dict[str, float]]:
    import psutil
    from kubernetes_asyncio import client, config, watch  # noqa: F401 - the memory of imports is nobody's

    process, known = psutil.Process(), dict[str, float]()
    wait: Wait = _shared if case == "shared" else _watch_each

    async def one(name: str) -> None:
        await wait(kubeconfig, name)
        known[name] = time.monotonic()

    began, before, most = time.process_time(), process.memory_info().rss, 0
    tasks = [asyncio.create_task(one(name)) for name in names]
    while not all(task.done() for task in tasks):
        await asyncio.wait(tasks, timeout=2)
        connections = sum(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp"))
        settled = 0 < connections == most  # no further one came in the last two seconds
        most = max(most, connections)
        if settled and not ready.is_set() and not known:
            ready.set()
    await asyncio.gather(*tasks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = {
        "connections": most,
        "grown_mib": round((peak - before) / 2**20, 1),
        "peak_mib": round(peak / 2**20, 1),
        "cpu_s": round(time.process_time() - began, 2),
    }
    return known, figures


async def _shared(kubeconfig: str, name: str) -> None:
    from slipway.cluster.shared import seat
    from slipway.cluster.verdict import Limits
    from slipway.cluster.waiting import Target
    from slipway.cluster.watch import wait_for_workload

    async with seat(kubeconfig, NAMESPACE, opener=lambda: _client(kubeconfig)) as taken:
        verdict = await wait_for_workload(
            taken,
            Target(
                kind="StatefulSet",
                namespace=NAMESPACE,
                name=name,
                release=RELEASE,
                endpoint=name,
                limits=Limits(unschedulable=LONGEST),
            ),
            deadline_seconds=LONGEST,
        )
    assert verdict.state == "available", verdict.what


async def _watch_each(kubeconfig: str, name: str) -> None:
    from kubernetes_asyncio import client, watch

    async with _client(kubeconfig) as api_client, watch.Watch() as watching:
        api = client.AppsV1Api(api_client)
        while True:
            stream = watching.stream(
                api.list_namespaced_stateful_set,
                NAMESPACE,
                field_selector=f"metadata.name={name}",
                timeout_seconds=int(LONGEST),
            )
            async for event in stream:
                if not isinstance(event, dict):  # "Too many requests", in plain text
                    break
                if _is_available(event["object"]):
                    return
            await asyncio.sleep(1)


@asynccontextmanager
async def _client(kubeconfig: str) -> AsyncIterator[Any]:
    from kubernetes_asyncio import client, config

    configuration = client.Configuration()
    await config.load_kube_config(config_file=kubeconfig, client_configuration=configuration)
    async with client.ApiClient(configuration) as api_client:
        yield api_client


if __name__ == "__main__":
    sys.exit(main())
