"""A pod that tries something out inside the cluster: made, waited for with a deadline, always deleted."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from slipway.catalog.names import COMPONENT_LABEL, MANAGED_BY_LABEL
from slipway.checks import pod_script
from slipway.checks.subject import Storage, Subject
from slipway.cluster.client import Cluster
from slipway.cluster.objects import MANAGER, Object, Ref
from slipway.cluster.pods import pod_doom
from slipway.cluster.verdict import Limits, moment
from slipway.errors import ClusterError, SlipwayError
from slipway.weights.sources.credentials import DIRECTORY

TRIAL_LABEL = "slipway.io/check"
MOUNT = "/volume"
POD_SECONDS = 180
_CREDENTIALS = "/credentials"
_LEFT_BEHIND = timedelta(minutes=15)
_LABELS = {MANAGED_BY_LABEL: MANAGER, COMPONENT_LABEL: "check"}
logger = logging.getLogger(__name__)


def pod_of(
    subject: Subject,
    orders: Sequence[dict[str, Any]],
    *,
    name: str,
    new_volume: Storage | None = None,
    claim: str | None = None,
    avoid_node: str | None = None,
    credentials: Mapping[str, Mapping[str, str]] | None = None,
    host: bool = False,
) -> Object:
    """Return a pod of the endpoint's namespace, on nodes where the endpoint's pods may run, that carries out orders.

    Args:
        subject: the endpoint: namespace, tools image, nodes.
        orders: see ``pod_script``.
        name: of the pod.
        new_volume: makes a claim that belongs to the pod and goes with it; so the right to delete claims, which would
            be one to delete weights, is not needed for cleaning up.
        claim: a claim that is there, of another such pod.
        avoid_node: a node to stay away from if another will do.
        credentials: Secrets by name whose keys become files, as for downloads; where a key has to have another name
            as a file, key → file.
        host: let it read the file system of its node; only a namespace of level privileged takes such a pod.
    """
    volumes: list[Object] = [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}]
    if new_volume is not None:
        spec = {
            "accessModes": [new_volume.access_mode],
            "storageClassName": new_volume.storage_class,
            "resources": {"requests": {"storage": new_volume.size}},
        }
        volumes.append(
            {
                "name": "volume",
                "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": _LABELS}, "spec": spec}},
            }
        )
    elif claim is not None:
        volumes.append({"name": "volume", "persistentVolumeClaim": {"claimName": claim}})
    container: Object = {
        "name": "check",
        "image": subject.tools_image,
        "imagePullPolicy": subject.pull_policy,
        "command": ["python3", "-c", Path(pod_script.__file__).read_text(encoding="utf-8")],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "env": [
            {"name": pod_script.ORDERS, "value": json.dumps(list(orders))},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - in the pod
        ],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - in the pod
    }
    if any(one["name"] == "volume" for one in volumes):
        container["volumeMounts"].append({"name": "volume", "mountPath": MOUNT})
    if credentials:
        container["env"].append({"name": DIRECTORY, "value": _CREDENTIALS})
        container["volumeMounts"].append(_read_only("credentials", _CREDENTIALS))
        volumes.append({"name": "credentials", "projected": {"sources": _projected(credentials)}})
    if host:
        container["volumeMounts"].append(_read_only("host", pod_script.HOST))
        volumes.append({"name": "host", "hostPath": {"path": "/", "type": "Directory"}})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": subject.namespace,
            "labels": {**_LABELS, TRIAL_LABEL: name[:63]},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": POD_SECONDS,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": [{"name": one} for one in subject.pull_secrets],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "runAsGroup": 10001,
                "fsGroup": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "tolerations": list(subject.tolerations),
            **({"nodeSelector": subject.node_selector} if subject.node_selector else {}),
            **_affinity(subject, avoid_node),
            "volumes": volumes,
            "containers": [container],
        },
    }


def _read_only(name: str, path: str) -> Object:
    return {"name": name, "mountPath": path, "readOnly": True}


def _projected(credentials: Mapping[str, Mapping[str, str]]) -> list[Object]:
    """Secrets as files; one that is not there is left out, and what needs it says so."""
    return [
        {
            "secret": {
                "name": name,
                "optional": True,
                **({"items": [{"key": key, "path": path} for key, path in files.items()]} if files else {}),
            }
        }
        for name, files in credentials.items()
    ]


def _affinity(subject: Subject, avoid_node: str | None) -> Object:
    affinity: Object = {}
    if subject.node_affinity:
        terms = [
            {"key": key, "operator": "In", "values": values} for key, values in subject.node_affinity.items()
        ]
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {
            "nodeSelectorTerms": [{"matchExpressions": terms}]
        }
    if avoid_node:
        away = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": [avoid_node]}
        affinity["preferredDuringSchedulingIgnoredDuringExecution"] = [
            {"weight": 100, "preference": {"matchExpressions": [away]}}
        ]
    return {"affinity": {"nodeAffinity": affinity}} if affinity else {}


def trial_name(what: str) -> str:
    """Return a name for a pod that meets no other run's."""
    return f"slipway-check-{what}-{secrets.token_hex(4)}"


@contextmanager
def running(
    cluster: Cluster, pod: Object, *, seconds: float = POD_SECONDS
) -> Iterator[tuple[Object, list[Any]]]:
    """Run a pod to its end and give the finished pod with its answers; it is deleted when the block is left.

    Raises:
        ClusterError: it did not come to an end, with the reason that the cluster knows.
    """
    ref = Ref(
        apiVersion="v1", kind="Pod", namespace=pod["metadata"]["namespace"], name=pod["metadata"]["name"]
    )
    try:
        cluster.create(pod)
        ended = _wait(cluster, ref, seconds=seconds)
        yield ended, _answers(ended)
    finally:
        try:
            cluster.delete(ref, grace_seconds=0)
        except SlipwayError as error:
            # The next run clears away what this one had to leave.
            logger.warning("%s is left behind: %s", ref, error)


def _wait(cluster: Cluster, ref: Ref, *, seconds: float) -> Object:
    given_up = time.monotonic() + seconds
    while True:
        pod = cluster.get(api_version="v1", kind="Pod", namespace=ref.namespace, name=ref.name)
        if pod is None:
            raise ClusterError("the pod of the check is gone", about=str(ref), why="somebody deleted it")
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return pod
        doom = _doom(cluster, pod, over=time.monotonic() > given_up)
        if doom is not None:
            raise doom
        time.sleep(1)


def _doom(cluster: Cluster, pod: Object, *, over: bool) -> ClusterError | None:
    """Why the pod will not come to its end; at its deadline also what else could mend itself."""
    namespace = pod["metadata"]["namespace"]
    events = cluster.list(api_version="v1", kind="Event", namespace=namespace)
    claims = [
        claim
        for claim in cluster.list(api_version="v1", kind="PersistentVolumeClaim", namespace=namespace)
        if claim["metadata"]["name"] in _claims(pod)
    ]
    # Why a claim is not bound says more than that the pod finds no node for it, so it comes first.
    patience = Limits(**dict.fromkeys(Limits.model_fields, 0.0)) if over else Limits(provision=20)
    # A claim that was made for the pod is judged as one that it names.
    mounts = [{"persistentVolumeClaim": {"claimName": name}} for name in sorted(_claims(pod))]
    named = {**pod, "spec": {**pod["spec"], "volumes": mounts}}
    found = pod_doom(named, events, claims, limits=patience, now=datetime.now(UTC))
    about = f"Pod {namespace}/{pod['metadata']['name']}"
    if found is not None:
        return ClusterError(found.reason, about=found.about, why=found.why, remedy=found.remedy)
    if over:
        phase = pod.get("status", {}).get("phase", "unknown")
        remedy = f"kubectl -n {namespace} describe pod; what the pod waited for is in its events"
        return ClusterError(
            "Deadline", about=about, why=f"it was still {phase} at its deadline", remedy=remedy
        )
    return None


def _claims(pod: Object) -> set[str]:
    """The claims of a pod, those that were made for it too, which are named after it."""
    volumes = pod["spec"].get("volumes") or []
    named = {one["persistentVolumeClaim"]["claimName"] for one in volumes if one.get("persistentVolumeClaim")}
    return named | {f"{pod['metadata']['name']}-{one['name']}" for one in volumes if one.get("ephemeral")}


def _answers(pod: Object) -> list[Any]:
    statuses = pod.get("status", {}).get("containerStatuses") or [{}]
    ended = (statuses[0].get("state") or {}).get("terminated") or {}
    message = str(ended.get("message") or pod["status"].get("message") or "")
    if ended.get("exitCode") == 0:
        try:
            answers = json.loads(message)
        except ValueError:
            answers = None
        if isinstance(answers, list):
            return answers
    last = " | ".join(line.strip() for line in message.strip().splitlines()[-3:])
    about = f"Pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
    why = f"{ended.get('reason') or pod['status'].get('reason') or 'Failed'}: {last or 'it said nothing'}"
    raise ClusterError(
        "the pod of the check failed", about=about, why=why, remedy="Look at its image and limits"
    )


def clear_away(cluster: Cluster, *, namespace: str) -> int:
    """Delete pods that an earlier run had to leave behind; their claims go with them. Returns how many."""
    left = cluster.list(api_version="v1", kind="Pod", namespace=namespace, labels=_LABELS)
    old = [pod for pod in left if _age(pod) > _LEFT_BEHIND and TRIAL_LABEL in pod["metadata"]["labels"]]
    for pod in old:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        cluster.delete(
            Ref(apiVersion="v1", kind="Pod", namespace=namespace, name=name), uid=uid, grace_seconds=0
        )
    return len(old)


def _age(pod: Object) -> timedelta:
    created = moment(pod["metadata"]["creationTimestamp"])
    return datetime.now(UTC) - created if created else timedelta()
