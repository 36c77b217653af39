"""What orchestration costs: trigger → endpoint proven, against the same manifests applied by hand.

``python -m benchmarks.orchestration`` deploys an endpoint through Airflow, then applies the very same objects by hand,
waits for them and asks for the same completion, and prints one JSON object per line. Needs a sandbox that is up.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from slipway.airflow_rest import AirflowRest
    from slipway.manifests.plan import Plan
    from slipway.manifests.render import Rendered

PROVEN_BY = "probe"
POD_STEPS = ("download", "probe")


def breakdown(rest: AirflowRest, run_id: str, *, dag_id: str = "deploy_endpoint") -> dict[str, float]:
    """Split a run's time from its trigger to the end of its probe.

    The server's own time is from the creation of its pod to Ready; a pod's start is from its creation to the start of
    its container; a hop is the time between the end of one task and the start of the next; own work is the rest, the
    start of the task's process included.

    Returns:
        Seconds by name.
    """
    run = rest.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
    steps = [step for step in rest.steps(dag_id, run_id) if step["start_date"] and step["end_date"]]
    names = [step["task_id"] for step in steps]
    steps = steps[: names.index(PROVEN_BY) + 1]
    triggered = _time(run["queued_at"] or run["start_date"])
    total = _time(steps[-1]["end_date"]) - triggered
    pod_starts = pod_work = 0.0
    for name in POD_STEPS:
        times = _xcom(rest, dag_id, run_id, name, "pod_times")
        if times:
            pod_starts += times["started"] - times["created"]
            pod_work += times["finished"] - times["started"]
    server = _xcom(rest, dag_id, run_id, "wait", "server_times")
    applied = _time(next(step for step in steps if step["task_id"] == "apply")["start_date"])
    serving = max(0.0, server["ready"] - max(server["created"], applied)) if server else 0.0
    hops, ended = 0.0, triggered
    for step in steps:
        hops += max(0.0, _time(step["start_date"]) - ended)
        ended = _time(step["end_date"])
    own = total - hops - pod_starts - pod_work - serving
    return {
        "trigger to proven": total,
        "  the server's start": serving,
        "  work in step pods": pod_work,
        "  starts of step pods": pod_starts,
        "  hops between tasks": hops,
        "  own work": own,
    }


def _xcom(rest: AirflowRest, dag_id: str, run_id: str, step: str, key: str) -> dict[str, float] | None:
    from slipway.errors import SlipwayError

    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{step}/xcomEntries/{key}"
    try:
        value = rest.get(path)["value"]
    except SlipwayError:
        return None
    return value if isinstance(value, dict) else None


def _time(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def by_hand(plan: Plan, rendered: Rendered, *, kubeconfig: Path, api_key: str) -> float:
    """Apply a release's objects to a cluster where its workload is not, wait, ask for one completion.

    Returns:
        Seconds from the first apply to the completion's answer.
    """
    from slipway.cluster.apply import apply
    from slipway.cluster.client import Cluster
    from slipway.cluster.watch import wait_for_workload_sync
    from slipway.manifests.render import service_name

    cluster = Cluster.from_kubeconfig(kubeconfig, context=plan.context)
    started = time.monotonic()
    apply(cluster, rendered.objects())
    verdict = wait_for_workload_sync(
        cluster,
        kind="StatefulSet",
        namespace=plan.namespace,
        name=plan.object_name,
        endpoint=plan.object_name,
        release=rendered.release,
        deadline_seconds=900,
        on_progress=lambda line: None,
    )
    if verdict.doom is not None:
        raise verdict.doom.error()
    service = cluster.get(
        api_version="v1", kind="Service", namespace=plan.namespace, name=service_name(plan, release=None)
    )
    assert service is not None  # it was applied above
    complete(
        f"http://{service['spec']['clusterIP']}:{plan.server.port}", name=plan.served_name, api_key=api_key
    )
    return time.monotonic() - started


def complete(url: str, *, name: str, api_key: str) -> None:
    """Ask for one completion, again while the Service does not lead to the pod yet: nodes follow Ready with delay.

    Raises:
        httpx.HTTPError: it is refused, or cannot be asked for half a minute.
    """
    deadline = time.monotonic() + 30
    while True:
        try:
            response = httpx.post(
                f"{url}/v1/completions",
                json={"model": name, "prompt": "Hello", "max_tokens": 32},
                headers={"Authorization": f"Bearer {api_key}"},
                timeout=120,
                trust_env=False,
            )
        except httpx.ConnectError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            response.raise_for_status()
            return


def remove_workload(plan: Plan, *, kubeconfig: Path) -> None:
    """Delete the endpoint's workload and wait until its pods are gone, so that the next start is a cold one."""
    from slipway.cluster.client import Cluster
    from slipway.cluster.controllers import look, retire

    cluster = Cluster.from_kubeconfig(kubeconfig, context=plan.context)
    standing = look(cluster, namespace=plan.namespace, endpoint=plan.object_name)
    retire(cluster, standing.workloads, keep=())
    labels = {"slipway.io/endpoint": plan.object_name, "app.kubernetes.io/component": "server"}
    deadline = time.monotonic() + 180
    while cluster.list(api_version="v1", kind="Pod", namespace=plan.namespace, labels=labels):
        if time.monotonic() > deadline:
            raise TimeoutError(f"pods of {plan.object_name} do not end")
        time.sleep(0.2)


def main() -> int:
    """Measure ``--rounds`` pairs and print every figure."""
    from slipway.airflow_rest import AirflowRest
    from slipway.manifests.plan import Plan
    from slipway.manifests.render import Rendered
    from slipway.releases.store import History

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", default="qwen3-tiny")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    kubeconfig, api_key = Path(os.environ["KUBECONFIG"]), os.environ["SLIPWAY_API_KEY"]
    rest, history = AirflowRest.from_environment(), History.open()
    release = history.last_good(options.endpoint)
    if release is None:
        print(f"{options.endpoint} has no good release: run `make demo` first", file=sys.stderr)
        return 2
    plan, rendered = Plan.model_validate(release.plan), Rendered.from_bytes(release.objects)
    pairs: list[tuple[dict[str, float], float]] = []
    for number in range(options.rounds):
        remove_workload(plan, kubeconfig=kubeconfig)
        hand = by_hand(plan, rendered, kubeconfig=kubeconfig, api_key=api_key)
        remove_workload(plan, kubeconfig=kubeconfig)
        conf = {"endpoint": options.endpoint, "reason": "benchmarks/orchestration"}
        run_id = rest.trigger("redeploy_endpoint", conf)
        outcome = rest.follow("redeploy_endpoint", run_id, say=lambda line: None)
        if outcome.state != "success":
            print(f"round {number}: {outcome.failures}", file=sys.stderr)
            return 1
        times = breakdown(rest, run_id, dag_id="redeploy_endpoint")
        pairs.append((times, hand))
        figures: dict[str, Any] = {name.strip().replace(" ", "_"): round(s, 2) for name, s in times.items()}
        print(
            json.dumps({"benchmark": "orchestration", "round": number, "by_hand": round(hand, 2), **figures})
        )
    total = statistics.median(times["trigger to proven"] for times, _ in pairs)
    hand = statistics.median(hand for _, hand in pairs)
    parts = {
        part: round(statistics.median(times[f"  {part}"] for times, _ in pairs), 2)
        for part in ("starts of step pods", "hops between tasks", "own work", "work in step pods")
    }
    summary: dict[str, Any] = {
        "benchmark": "orchestration",
        "case": "median",
        "rounds": options.rounds,
        "trigger_to_proven": round(total, 2),
        "by_hand": round(hand, 2),
        "overhead": round(total - hand, 2),
        "ratio": round(total / hand, 3),
        **{name.replace(" ", "_"): value for name, value in parts.items()},
        "load_of_machine": round(os.getloadavg()[0], 1),
        "hops_and_own_work": round(parts["hops between tasks"] + parts["own work"], 2),
    }
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
