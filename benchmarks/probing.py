"""How long one run of ``probe_endpoints`` takes over a thousand endpoints, and how much memory and connections.

``python -m benchmarks.probing`` prints a JSON object for a run in which all serve, and one for a run in which three of
ten hang. Needs a sandbox (``make up``) and root.

What is real: the tasks' own code (choose the clusters; compare, ask, keep) in a process of its own, the API server with
every object of each endpoint, asked as Slipway's own user, the prober pods, cluster DNS, a Service for each endpoint,
and the history, a database of its own. What is simulated: the endpoints' pods, which no scheduler ever looks at; all
Services lead to one small server (``tests/unit/small_runtime.py``) in a pod, which answers at once. Airflow's own time
to start a task is in none of the figures. Comparing goes on while the pods start, so phases overlap.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

from sqlalchemy import URL

from benchmarks.many import namespace
from benchmarks.probing_objects import LONGEST, NAMESPACE, make_objects, released_ones
from sandbox import catalog, settings, supervisor
from sandbox.airflow import airflow_environment
from slipway.cluster.client import Cluster
from slipway.cluster.connection import Connection
from slipway.releases.database import Database
from slipway.releases.store import History

ENDPOINTS, HANGING = 1000, 0.3
CGROUPS = Path("/sys/fs/cgroup")


def main() -> int:
    """Print the figures of both runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=ENDPOINTS)
    count = parser.parse_args().endpoints
    signal.signal(signal.SIGTERM, _interrupt)
    config = settings.load(recorded=True)
    running = {part.name for part in supervisor.parts(config) if part.state == "RUNNING"}
    if "kube-apiserver" not in running:
        reason = "the sandbox is not up; make up starts it"
        print(json.dumps({"benchmark": "probing", "not_measured": reason}))
        return 0
    scratch = Path(tempfile.mkdtemp(prefix="slipway-bench-probing-"))
    environment = {
        **airflow_environment(config),
        "SLIPWAY_DATABASE_URL": f"sqlite:///{scratch}/history.db",
        "SLIPWAY_ARTIFACTS": str(scratch / "artifacts"),
        "SLIPWAY_INCLUDE": str(scratch / "include"),
    }
    os.environ["SLIPWAY_INCLUDE"] = environment["SLIPWAY_INCLUDE"]
    try:
        shutil.copytree(catalog.include_directory(config), scratch / "include")
        names = [f"simulated-{number:04}" for number in range(count)]
        history = History(Database(URL.create("sqlite", database=str(scratch / "history.db"))))
        released, image = released_ones(history, scratch / "include", names)
        cluster = Cluster.from_kubeconfig(config.admin_kubeconfig)
        with namespace(cluster, NAMESPACE):
            hang = make_objects(cluster, released, image=image)
            _measure(environment, history, cluster, "all_serve", names)
            hang(round(count * HANGING))
            _measure(environment, history, cluster, "three_of_ten_hang", names)
    finally:
        shutil.rmtree(scratch)
    return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _measure(
    environment: Mapping[str, str], history: History, cluster: Cluster, case: str, names: list[str]
) -> None:
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    process = context.Process(target=_in_child, args=(dict(environment), case, results), daemon=True)
    with _watched_pods(cluster) as pods:
        process.start()
        figures = results.get(timeout=LONGEST)
        process.join()
    states = [history.states(name, limit=1) for name in names]
    known = [one[0] for one in states if one and one[0].seen.timestamp() > figures["began"]]
    serving = [one for one in known if one.state == "serving" and one.seconds and one.ttft_seconds]
    figures |= {
        "known": len(known),
        "serving": len(serving),
        "failing": sum(one.state == "failing" for one in known),
        "differing": len(history.drifted()),
        "probe_p50_s": round(statistics.median(one.seconds or 0 for one in serving), 3),
        "ttft_p50_s": round(statistics.median(one.ttft_seconds or 0 for one in serving), 3),
        **{name: max(found, default=None) for name, found in pods.items()},
        "pods": len(pods["pod_peak_mib"]),
        "load_of_machine": round(os.getloadavg()[0], 1),
    }
    del figures["began"]
    print(json.dumps({"benchmark": "probing", "case": case, "endpoints": len(names), **figures}), flush=True)


@contextmanager
def _watched_pods(cluster: Cluster) -> Iterator[dict[str, list[float]]]:
    """The largest memory, connections and threads of each prober pod, as the node's kernel counts them."""
    most: dict[str, dict[str, float]] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.4):
            for pod in cluster.list(
                api_version="v1",
                kind="Pod",
                namespace=NAMESPACE,
                labels={"app.kubernetes.io/component": "watch"},
            ):
                seen = most.setdefault(pod["metadata"]["uid"], {})
                for name, value in _usage(pod["metadata"]["uid"]).items():
                    seen[name] = max(seen.get(name, 0.0), value)

    found: dict[str, list[float]] = {"pod_peak_mib": [], "pod_connections": [], "pod_threads": []}
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()
        for name, values in found.items():
            values += [seen[name] for seen in most.values() if name in seen]


def _usage(uid: str) -> dict[str, float]:
    import psutil

    found: dict[str, float] = {}
    for groups in (CGROUPS / "memory", CGROUPS):
        for group in (groups / settings.CGROUP / "kubepods").glob(f"**/pod{uid}"):
            for name in ("memory.max_usage_in_bytes", "memory.peak"):
                with suppress(OSError):
                    found["pod_peak_mib"] = round(int((group / name).read_text("utf-8")) / 2**20, 1)
            for member in group.glob("*/cgroup.procs"):
                with suppress(OSError, psutil.Error):
                    for one in map(psutil.Process, map(int, member.read_text("utf-8").split())):
                        if "slipway.probes.watch" in one.cmdline():
                            found["pod_threads"] = one.num_threads()
                            found["pod_connections"] = _connections_of(one.pid)
    return found


def _connections_of(pid: int) -> int:
    """The established connections of a process's network namespace: a pod's own."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text("utf-8").splitlines()[1:]
    return sum(line.split()[3] == "01" for line in lines)


# -- in a process of its own
# ---------------------------------------------------------------------------------------------


def _in_child(environment: dict[str, str], case: str, results: Any) -> None:
    os.environ.update(environment)
    os.dup2(2, 1)  # the tasks' logs; standard output is for figures
    from slipway.operators import watch_pods
    from slipway.operators.watching import ChooseClustersOperator, ProbeClusterOperator

    clock, connections, over = _Clock(), [0], threading.Event()
    clock.time(ProbeClusterOperator, "_compare", "compare")
    clock.time(ProbeClusterOperator, "_keep", "store")
    clock.time(watch_pods._Batch, "start", "pods")
    clock.time(watch_pods._Batch, "_take", "pods")
    clock.time(Connection, "send", "api")
    threading.Thread(target=_count_connections, args=(connections, over), daemon=True).start()
    context: Any = _context(case)
    wall, began, cpu, imported = time.time(), time.monotonic(), time.process_time(), _resident_mib()
    clusters: Any = ChooseClustersOperator(task_id="clusters").execute(context)
    chosen = time.monotonic()
    for cluster in clusters:
        ProbeClusterOperator(task_id="probe", cluster=cluster, alerts=()).execute(context)
    ended = time.monotonic()
    over.set()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.put(
        {
            "began": wall,
            "wall_s": round(ended - began, 1),
            "choose_s": round(chosen - began, 2),
            "compare_s": round(clock.total["compare"], 1),
            "pods_s": round(clock.last["pods"] - clock.first["pods"], 1),
            "store_s": round(clock.total["store"], 1),
            "cpu_s": round(time.process_time() - cpu, 1),
            "requests": clock.calls["api"],
            "requests_s": round(clock.total["api"], 1),
            "connections": connections[0],
            "imports_mib": round(imported),
            "peak_mib": round(peak),
        }
    )


class _Clock:
    """How often functions are called, when first and last, and how long they take together."""

    def __init__(self) -> None:
        self.calls, self.total = Counter[str](), Counter[str]()
        self.first, self.last = dict[str, float](), dict[str, float]()

    def time(self, owner: Any, name: str, label: str) -> None:
        """Look at the clock at each call of a method."""
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            self.first.setdefault(label, began)
            try:
                return method(*args, **kwargs)
            finally:
                self.last[label] = time.monotonic()
                self.total[label] += self.last[label] - began  # type: ignore[assignment]
                self.calls[label] += 1

        setattr(owner, name, timed)


def _count_connections(most: list[int], over: threading.Event) -> None:
    import psutil

    process = psutil.Process()
    while not over.wait(0.25):
        found = sum(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp"))
        most[0] = max(most[0], found)


def _resident_mib() -> float:
    import psutil

    return float(psutil.Process().memory_info().rss) / 2**20


def _context(case: str) -> dict[str, Any]:
    """What the tasks use of Airflow's context."""
    run_id = f"benchmark-{case}-{time.time_ns()}"
    return {
        "run_id": run_id,
        "dag_run": SimpleNamespace(dag_id="probe_endpoints", run_id=run_id),
        "ti": SimpleNamespace(task_id="probe", xcom_push=lambda key, value: print(key, value)),
    }


if __name__ == "__main__":
    sys.exit(main())
