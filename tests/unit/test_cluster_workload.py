"""The judgement of workloads: each state that Kubernetes shows, with objects as a 1.34 cluster writes them."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.cluster.objects import Object
from slipway.cluster.verdict import Verdict
from slipway.cluster.workload import judge

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
RELEASE = "0a1b2c3d4e5f"
IMAGE = "registry.example/vllm-cpu:c8f2"


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def workload(*, replicas: int = 1, ready: int = 0, **status: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": "qwen",
            "namespace": "models",
            "uid": "sts-uid",
            "generation": 2,
            "creationTimestamp": ago(3600),
            "managedFields": [{"manager": "slipway", "operation": "Apply", "time": ago(40)}],
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"slipway.io/endpoint": "qwen"}},
            "template": {"metadata": {"labels": {"slipway.io/release": RELEASE}}, "spec": {}},
        },
        "status": {
            "observedGeneration": 2,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": ready,
            "currentRevision": "qwen-1",
            "updateRevision": "qwen-1",
            **status,
        },
    }


def pod(
    *,
    name: str = "qwen-0",
    release: str = RELEASE,
    state: Object | None = None,
    last: Object | None = None,
    restarts: int = 0,
    ready: bool = False,
    phase: str = "Pending",
    **status: Any,
) -> Object:
    return {
        "metadata": {
            "name": name,
            "namespace": "models",
            "uid": f"{name}-uid",
            "labels": {"slipway.io/endpoint": "qwen", "slipway.io/release": release},
        },
        "spec": {
            "nodeName": "node-1",
            "restartPolicy": "Always",
            "containers": [
                {
                    "name": "server",
                    "image": IMAGE,
                    "resources": {"requests": {"cpu": "8", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
                    "startupProbe": {"periodSeconds": 1, "failureThreshold": 300},
                }
            ],
            "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": "qwen-weights"}}],
        },
        "status": {
            "phase": phase,
            "startTime": ago(30),
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": ago(30)},
                {"type": "Ready", "status": str(ready), "lastTransitionTime": ago(30)},
            ],
            "containerStatuses": [
                {
                    "name": "server",
                    "image": IMAGE,
                    "ready": ready,
                    "started": ready,
                    "restartCount": restarts,
                    "state": state or {"running": {"startedAt": ago(20)}},
                    "lastState": last or {},
                }
            ],
            **status,
        },
    }


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error", **more: Any) -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


def unscheduled(message: str, *, seconds: float = 60) -> Object:
    conditions = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": ago(seconds),
        }
    ]
    found = pod(conditions=conditions)
    del found["spec"]["nodeName"]
    found["status"]["containerStatuses"] = []
    return found


def event(
    reason: str, message: str, *, about: str = "qwen-0", seconds: float = 5, first: float = 5
) -> Object:
    uid = "sts-uid" if about == "qwen" else f"{about}-uid"
    return {
        "reason": reason,
        "message": message,
        "involvedObject": {"name": about, "uid": uid},
        "firstTimestamp": ago(first),
        "lastTimestamp": ago(seconds),
    }


def claim(phase: str = "Pending", **spec: Any) -> Object:
    return {
        "metadata": {"name": "qwen-weights", "namespace": "models", "uid": "qwen-weights-uid"},
        "spec": {"storageClassName": "fast", **spec},
        "status": {"phase": phase},
    }


def judged(
    pods: list[Object],
    events: list[Object] | None = None,
    claims: list[Object] | None = None,
    *,
    of: Object | None = None,
) -> Verdict:
    return judge(of or workload(), pods, events or [], claims or [], release=RELEASE, now=NOW)


# -- available ------------------------------------------------------------------------------------------------


def test_available_once_all_pods_of_the_release_are_ready() -> None:
    verdict = judged([pod(ready=True)])
    assert (verdict.state, verdict.what) == ("available", "1 of 1 pod ready")


@pytest.mark.parametrize(
    "changes",
    [
        {"observedGeneration": 1},
        {"updatedReplicas": 0},
        {"updateRevision": "qwen-2"},
        {"replicas": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_not_available_before_the_controller_is_done(changes: dict[str, Any]) -> None:
    assert judged([pod(ready=True)], of=workload(**changes)).state == "progressing"


def test_a_ready_pod_of_the_release_before_counts_nothing() -> None:
    assert judged([pod(ready=True, release="ffffffffffff")]).state == "progressing"


def test_not_available_while_a_pod_of_the_release_before_is_left() -> None:
    old = pod(name="qwen-1", ready=True, release="ffffffffffff")
    verdict = judged([pod(ready=True), old])
    assert verdict.state == "progressing"
    assert "qwen-1 of before still there" in verdict.what


def test_a_stopping_pod_is_not_ready() -> None:
    stopping = pod(ready=True)
    stopping["metadata"]["deletionTimestamp"] = ago(1)
    assert judged([stopping]).state == "progressing"


def test_step_pods_of_the_endpoint_are_not_the_workloads() -> None:
    step = pod(name="download-1", phase="Failed", state=ended(1))
    step["spec"]["restartPolicy"] = "Never"
    of = workload()
    of["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] = "server"
    serving = pod(ready=True)
    serving["metadata"]["labels"]["app.kubernetes.io/component"] = "server"
    assert judged([step, serving], of=of).state == "available"


# -- Deployments ----------------------------------------------------------------------------------------------


def deployment(**status: Any) -> Object:
    return {**workload(**status), "kind": "Deployment"}


def test_a_deployment_is_available_once_all_pods_of_the_release_are_ready() -> None:
    assert judged([pod(name="qwen-7d9f-x2k", ready=True)], of=deployment()).state == "available"
    assert judged([pod(name="qwen-7d9f-x2k", ready=True)], of=deployment(replicas=2)).state == "progressing"


def test_an_evicted_pod_of_before_is_only_a_record() -> None:
    evicted = pod(name="qwen-5b6c-abc", release="ffffffffffff", phase="Failed", reason="Evicted")
    new = pod(name="qwen-7d9f-x2k", ready=True)
    assert judged([evicted, new], of=deployment()).state == "available"


def test_a_deployment_says_in_a_condition_why_it_cannot_make_pods() -> None:
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "message": SECURITY,
        "lastTransitionTime": ago(3),
    }
    verdict = judged([], of=deployment(conditions=[failure]))
    assert verdict.doom is not None
    assert verdict.doom.reason == "FailedCreate"
    assert "violates PodSecurity" in verdict.what


# -- doomed, one reason each -----------------------------------------------------------------------------------

NOT_FOUND = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference: {IMAGE}: not found'
QUOTA = (
    'create Pod qwen-0 in StatefulSet qwen failed error: pods "qwen-0" is forbidden: exceeded quota: small, '
    "requested: requests.cpu=8, used: requests.cpu=0, limited: requests.cpu=1"
)
SECURITY = (
    'create Pod qwen-0 in StatefulSet qwen failed error: pods "qwen-0" is forbidden: violates PodSecurity '
    '"restricted:latest": allowPrivilegeEscalation != false'
)


def unseen(scheduler: str, *, seconds: float) -> Object:
    made = pod(conditions=[])
    made["spec"]["schedulerName"] = scheduler
    made["spec"].pop("nodeName", None)
    made["metadata"]["creationTimestamp"] = ago(seconds)
    return made


CPU = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No preemption victims"
UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
TAINT = "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: true}. preemption: not helpful"

DOOMED: dict[str, tuple[Verdict, str, list[str]]] = {
    "image not found": (
        judged([pod(state=waiting("ErrImagePull", NOT_FOUND))]),
        "ImagePullBackOff",
        [IMAGE, "not found", "import"],
    ),
    "image not found, told by an event": (
        judged(
            [pod(state=waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"'))],
            [event("Failed", f'Failed to pull image "{IMAGE}": {NOT_FOUND}')],
        ),
        "ImagePullBackOff",
        ["not found"],
    ),
    "image may not be read": (
        judged([pod(state=waiting("ErrImagePull", "failed to authorize: 401 Unauthorized"))]),
        "ImagePullBackOff",
        ["pull secret"],
    ),
    "image refused, in all that is said around it": (
        judged(
            [
                pod(
                    state=waiting(
                        "ImagePullBackOff",
                        f'Back-off pulling image "{IMAGE}": ErrImagePull: rpc error: code = Unknown desc = '
                        f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '
                        "401 Unauthorized",
                    )
                )
            ]
        ),
        "ImagePullBackOff",
        [f"image {IMAGE} cannot be pulled: 401 Unauthorized"],
    ),
    "registry away for long": (
        judged([pod(state=waiting("ImagePullBackOff", "rpc error: i/o timeout"), startTime=ago(90))]),
        "ImagePullBackOff",
        ["timeout", "cannot reach the registry"],
    ),
    "image not on the node and never pulled": (
        judged([pod(state=waiting("ErrImageNeverPull", f'Container image "{IMAGE}" is not present'))]),
        "ErrImageNeverPull",
        ["is not present", "Import"],
    ),
    "image name": (
        judged([pod(state=waiting("InvalidImageName", 'couldn\'t parse image name "A:B:C"'))]),
        "InvalidImageName",
        ["A:B:C", "Correct"],
    ),
    "secret missing": (
        judged([pod(state=waiting("CreateContainerConfigError", 'secret "api-key" not found'))]),
        "CreateContainerConfigError",
        ['secret "api-key" not found', "kubectl -n models create secret"],
    ),
    "key of a secret missing": (
        judged(
            [pod(state=waiting("CreateContainerConfigError", "couldn't find key k in Secret models/api-key"))]
        ),
        "CreateContainerConfigError",
        ["key k in Secret models/api-key"],
    ),
    "root image in a pod that must not be root": (
        judged(
            [
                pod(
                    state=waiting(
                        "CreateContainerConfigError",
                        "container has runAsNonRoot and image will run as root",
                    )
                )
            ]
        ),
        "CreateContainerConfigError",
        ["runAsUser"],
    ),
    "no such program": (
        judged(
            [
                pod(
                    state=waiting("RunContainerError", 'exec: "vllm": executable file not found in $PATH'),
                    restarts=1,
                )
            ]
        ),
        "RunContainerError",
        ["vllm", "no such program"],
    ),
    "crash loop": (
        judged([pod(state=waiting("CrashLoopBackOff", "back-off 10s"), last=ended(2), restarts=1)]),
        "CrashLoopBackOff",
        ["exit code 2", "restarted once"],
    ),
    "second restart, not backing off now": (
        judged([pod(last=ended(139), restarts=2)]),
        "CrashLoopBackOff",
        ["exit code 139 (signal 11)", "restarted 2 times"],
    ),
    "out of memory": (
        judged([pod(last=ended(137, "OOMKilled"), restarts=1)]),
        "OOMKilled",
        ["memory limit of 4Gi", "exit code 137", "Raise the endpoint's memory"],
    ),
    "a child out of memory": (
        judged([pod(state=waiting("CrashLoopBackOff"), last=ended(3, "OOMKilled"), restarts=1)]),
        "OOMKilled",
        ["exit code 3"],
    ),
    "startup probe": (
        judged(
            [pod(last=ended(137), restarts=1)],
            [
                event("Killing", "Container server failed startup probe, will be restarted", seconds=3),
                event("Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 503", seconds=4),
            ],
        ),
        "StartupProbeFailed",
        ["within 300 s", "503", "startup_seconds"],
    ),
    "no room on any node": (
        judged([unscheduled(CPU)]),
        "Unschedulable",
        ["1 Insufficient cpu", "asks for cpu: 8", "kubectl describe nodes"],
    ),
    "taint": (judged([unscheduled(TAINT)]), "Unschedulable", ["untolerated taint {gpu: true}", "toleration"]),
    "a scheduler that nobody runs": (
        judged([unseen("volcano", seconds=40)]),
        "Unscheduled",
        ["no scheduler named volcano", "placement.scheduler"],
    ),
    "claim missing": (
        judged([unscheduled('persistentvolumeclaim "qwen-weights" not found')]),
        "ClaimMissing",
        ["qwen-weights", "download step"],
    ),
    "no such storage class": (
        judged(
            [unscheduled(UNBOUND, seconds=3)],
            [
                event(
                    "ProvisioningFailed",
                    'storageclass.storage.k8s.io "fast" not found',
                    about="qwen-weights",
                )
            ],
            [claim()],
        ),
        "ClaimNotBound",
        ['"fast" not found', "kubectl get storageclass"],
    ),
    "a claim of a volume that nobody makes, and nobody says why": (
        judged([unscheduled(UNBOUND, seconds=70)], [], [claim(volumeName="shared")]),
        "Unschedulable",
        ["unbound immediate", "kubectl describe pvc"],
    ),
    "provisioner silent": (
        judged(
            [unscheduled(UNBOUND, seconds=3)],
            [
                event(
                    "ExternalProvisioning",
                    "Waiting for a volume to be created either by the external provisioner 'nfs'",
                    about="qwen-weights",
                    first=90,
                )
            ],
            [claim()],
        ),
        "ClaimNotBound",
        ["external provisioner 'nfs'"],
    ),
    "volume lost": (
        judged([unscheduled("unbound", seconds=1)], claims=[claim("Lost", volumeName="pv-1")]),
        "ClaimLost",
        ["pv-1"],
    ),
    "config map of a volume missing": (
        judged(
            [pod(state=waiting("ContainerCreating"))],
            [
                event(
                    "FailedMount",
                    'MountVolume.SetUp failed for volume "c" : configmap "settings" not found',
                    first=20,
                )
            ],
        ),
        "FailedMount",
        ['configmap "settings" not found', "Create the configmap settings"],
    ),
    "volume on another node": (
        judged(
            [pod(state=waiting("ContainerCreating"))],
            [event("FailedAttachVolume", 'Multi-Attach error for volume "pv-1"', first=150)],
        ),
        "FailedAttachVolume",
        ["Multi-Attach", "ReadWriteMany"],
    ),
    "quota": (
        judged([], [event("FailedCreate", QUOTA, about="qwen", seconds=2)]),
        "FailedCreate",
        ["exceeded quota: small", "limited: requests.cpu=1", "Raise the namespace's quota"],
    ),
    "pod security": (
        judged([], [event("FailedCreate", SECURITY, about="qwen", seconds=2)]),
        "FailedCreate",
        ["violates PodSecurity", "Pod Security level"],
    ),
    "evicted": (
        judged(
            [
                pod(
                    phase="Failed",
                    reason="Evicted",
                    message="Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
                )
            ]
        ),
        "Evicted",
        ["exceeds the total limit", "scratch"],
    ),
    "evicted, and made anew already": (
        judged(
            [pod(state=waiting("ContainerCreating"))],
            [
                {
                    **event("Evicted", "The node was low on resource: ephemeral-storage."),
                    "involvedObject": {"name": "qwen-0", "uid": "gone"},
                }
            ],
        ),
        "Evicted",
        ["low on resource", "Free disk space"],
    ),
    "node lost": (
        judged(
            [
                pod(
                    conditions=[
                        {"type": "PodScheduled", "status": "True"},
                        {"type": "Ready", "status": "False", "lastTransitionTime": ago(70)},
                    ]
                )
            ],
            [event("NodeNotReady", "Node is not ready", seconds=70)],
        ),
        "NodeLost",
        ["node node-1 stopped answering", "kubectl describe node node-1"],
    ),
    "scaled to 0": (judged([], of=workload(replicas=0)), "ScaledToZero", ["0 replicas", "--replicas=1"]),
}


@pytest.mark.parametrize("case", DOOMED)
def test_doomed_with_one_reason(case: str) -> None:
    verdict, reason, words = DOOMED[case]
    assert verdict.state == "doomed"
    assert verdict.doom is not None
    assert verdict.doom.reason == reason
    for word in words:
        assert word in verdict.what
    assert "\n" not in verdict.what


def test_another_release_applied_in_between_ends_the_wait() -> None:
    of = workload()
    of["spec"]["template"]["metadata"]["labels"]["slipway.io/release"] = "ffffffffffff"
    verdict = judged([pod(ready=True)], of=of)
    assert verdict.doom is not None
    assert verdict.doom.reason == "ReleaseReplaced"


# -- what still may become well -------------------------------------------------------------------------------


def making_room() -> list[Object]:
    old = pod(name="qwen-1", ready=True, release="ffffffffffff")
    old["metadata"]["deletionTimestamp"] = ago(5)
    return [unscheduled(CPU), old]


PROGRESSING: dict[str, tuple[Verdict, str]] = {
    "nothing yet": (judged([]), "0 of 1 pod ready; no pod made yet"),
    "running": (judged([pod(phase="Running")]), "runs and isn't started yet"),
    "pulling": (
        judged([pod(state=waiting("ContainerCreating"))], [event("Pulling", f'Pulling image "{IMAGE}"')]),
        f"pulls {IMAGE}",
    ),
    "no room for a moment": (judged([unscheduled(CPU, seconds=5)]), "Insufficient cpu"),
    "no room while the pod before stops": (judged(making_room()), "qwen-1 of before still there"),
    "no room but the autoscaler adds a node": (
        judged([unscheduled(CPU)], [event("TriggeredScaleUp", "pod triggered scale-up")]),
        "has no node yet",
    ),
    "first pull failed by the network": (
        judged([pod(state=waiting("ErrImagePull", "rpc error: i/o timeout"))]),
        "waits: ErrImagePull",
    ),
    "a scheduler that looks in a moment": (judged([unseen("volcano", seconds=5)]), "has no node yet"),
    "Kubernetes' own scheduler has a new leader": (
        judged([unseen("default-scheduler", seconds=90)]),
        "has no node yet",
    ),
    "one restart": (judged([pod(last=ended(1), restarts=1)]), "restarted 1 times"),
    "waits for its first pod": (
        judged(
            [unscheduled("waiting for volume", seconds=2)],
            [event("WaitForFirstConsumer", "waiting for first consumer", about="qwen-weights", first=90)],
            [claim()],
        ),
        "has no node yet",
    ),
    "a volume that is there and soon bound": (
        judged([unscheduled(UNBOUND, seconds=45)], [], [claim(volumeName="shared")]),
        "unbound immediate",
    ),
    "kubelet still reads secrets": (
        judged([pod(state=waiting("CreateContainerConfigError", "failed to sync secret cache"))]),
        "waits",
    ),
    "refused before the last apply": (
        judged([], [event("FailedCreate", SECURITY, about="qwen", seconds=120)]),
        "no pod made yet",
    ),
    "refused, then made": (
        judged(
            [],
            [
                event("FailedCreate", SECURITY, about="qwen", seconds=20),
                event("SuccessfulCreate", "create Pod qwen-0", about="qwen", seconds=2),
            ],
        ),
        "no pod made yet",
    ),
}


@pytest.mark.parametrize("case", PROGRESSING)
def test_progressing_says_what_happens(case: str) -> None:
    verdict, words = PROGRESSING[case]
    assert verdict.state == "progressing", verdict.what
    assert words in verdict.what


def test_an_earlier_pods_probe_failure_is_not_this_ones() -> None:
    killed = event("Killing", "Container server failed startup probe, will be restarted")
    killed["involvedObject"]["uid"] = "an-earlier-pod"
    assert judged([pod(last=ended(1), restarts=1)], [killed]).state == "progressing"


def test_the_input_is_not_changed() -> None:
    pods, of = [pod(state=waiting("ErrImagePull", NOT_FOUND))], workload()
    before = deepcopy((pods, of))
    judged(pods, of=of)
    assert (pods, of) == before
