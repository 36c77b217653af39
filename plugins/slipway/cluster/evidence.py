"""What a failed release looked like, kept before anything is changed: bounded, and without secrets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from slipway.cluster.client import Cluster
from slipway.cluster.events import event_time
from slipway.cluster.objects import ENDPOINT_LABEL, RELEASE_LABEL, Object, labels_of, workload_api
from slipway.cluster.pods import claim_names
from slipway.cluster.redact import redact, without_values
from slipway.cluster.shapes import pod_makers
from slipway.errors import ClusterError

_MOST_PODS = 5
_MOST_EVENTS = 100
_LOG_LINES = 200
_LOG_BYTES = 32 * 1024


def collect(
    cluster: Cluster, *, namespace: str, endpoint: str, release: str, kind: str = "StatefulSet"
) -> dict[str, Any]:
    """Gather what tells why a release failed: objects, events, and the logs of now and of the run before.

    A part that cannot be read is replaced by the reason, so that one missing permission doesn't cost the
    rest. At most 5 pods, 100 events and 32 KiB of each log: about 1 MiB in the worst case.

    Args:
        cluster: where.
        namespace: the endpoint's namespace.
        endpoint: the value of its endpoint label.
        release: the value of the release label; other releases' pods are listed by name only.
        kind: of the workload.
    """
    labels = {ENDPOINT_LABEL: endpoint}
    gone_wrong: list[str] = []

    def read(what: str, function: Callable[[], list[Object]]) -> list[Object]:
        try:
            return function()
        except ClusterError as error:
            gone_wrong.append(f"{what}: {error}")
            return []

    def listed(api_version: str, name: str) -> list[Object]:
        return cluster.list(api_version=api_version, kind=name, namespace=namespace, labels=labels)

    workloads = read("workloads", lambda: listed(workload_api(kind)[0], kind))
    pods = read("pods", lambda: listed("v1", "Pod"))
    mine = [pod for pod in pods if labels_of(pod).get(RELEASE_LABEL) == release][:_MOST_PODS]
    events = read("events", lambda: cluster.list(api_version="v1", kind="Event", namespace=namespace))
    names = {obj["metadata"]["name"] for obj in mine}
    names |= {maker for workload in workloads for maker in pod_makers(workload)}
    names |= {claim for pod in mine for claim in claim_names(pod)}
    return {
        "collected": datetime.now(UTC).isoformat(timespec="seconds"),
        "namespace": namespace,
        "endpoint": endpoint,
        "release": release,
        "workloads": [without_values(workload) for workload in workloads],
        "pods": [without_values(pod) for pod in mine],
        "other_pods": [pod["metadata"]["name"] for pod in pods if pod not in mine][:20],
        "events": _event_lines(events, names),
        "logs": {
            f"{name}{suffix}": text for name, suffix, text in _logs(cluster, namespace, mine, gone_wrong)
        },
        "not_collected": gone_wrong,
    }


def as_text(evidence: dict[str, Any]) -> str:
    """Return evidence as text for a task's log: events and logs, without the objects."""
    lines = [f"evidence of {evidence['endpoint']} release {evidence['release']}, {evidence['collected']}"]
    lines += ["", "events (newest last):", *evidence["events"]]
    for name, text in evidence["logs"].items():
        lines += ["", f"log of {name}:", text.rstrip()]
    if evidence["not_collected"]:
        lines += ["", "not collected:", *evidence["not_collected"]]
    return "\n".join(lines)


def _event_lines(events: list[Object], names: set[str]) -> list[str]:
    mine = [event for event in events if (event.get("involvedObject") or {}).get("name") in names]
    newest = sorted(mine, key=event_time)[-_MOST_EVENTS:]
    return [_event_line(event) for event in newest]


def _event_line(event: Object) -> str:
    times = f" x{event['count']}" if (event.get("count") or 1) > 1 else ""
    about = f"{event['involvedObject'].get('kind', '')}/{event['involvedObject']['name']}"
    what = f"{event.get('type', '')} {event.get('reason', '')} {about}{times}"
    return redact(f"{event_time(event):%Y-%m-%dT%H:%M:%SZ} {what}: {event.get('message', '')}")


def _logs(
    cluster: Cluster, namespace: str, pods: list[Object], gone_wrong: list[str]
) -> list[tuple[str, str, str]]:
    logs = []
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        for container in [
            *(status.get("initContainerStatuses") or []),
            *(status.get("containerStatuses") or []),
        ]:
            runs = (False, True) if container.get("restartCount") else (False,)
            for previous in runs:
                try:
                    text = cluster.logs(
                        namespace=namespace,
                        pod=name,
                        container=container["name"],
                        previous=previous,
                        tail=_LOG_LINES,
                    )
                except ClusterError as error:
                    gone_wrong.append(f"log of {name}/{container['name']}: {error}")
                    continue
                if text:
                    suffix = " (previous run)" if previous else ""
                    logs.append((f"{name}/{container['name']}", suffix, redact(text)[-_LOG_BYTES:]))
    return logs
