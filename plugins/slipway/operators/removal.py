"""Listing and removing old versions of weights: what is still needed is decided here, the pod only carries it out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from slipway.catalog.names import COMPONENT_LABEL, MANAGED_BY_LABEL, object_name
from slipway.catalog.read import read_catalog
from slipway.cluster.objects import Object, labels_of
from slipway.cluster.shapes import pod_templates
from slipway.errors import LockError, UsageError
from slipway.manifests.plan import WEIGHTS_MOUNT
from slipway.operators.download import DownloadModelOperator
from slipway.operators.pods import StepPod
from slipway.operators.steps import Work, lock_holder, one_line_failures
from slipway.pods import parse_result

if TYPE_CHECKING:
    from airflow.sdk import Context

    from slipway.cluster.client import Cluster
    from slipway.releases.records import Release

KEPT_RELEASES = 3
LOCK_WAIT_SECONDS = 600.0
_LOCK_SECONDS = 1800
_LOOK_SECONDS = 2.0
_MOST_RELEASES = 10_000
_WORKLOADS = (
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "Deployment"),
    ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
)


class RemoveWeightsOperator(DownloadModelOperator):
    """List the versions of a model's weights in a volume, and remove those that are asked for.

    Never removed is what a pod or a workload mounts (scaled to 0 too), what a pending release or one of the last good
    ones of an endpoint needs, and what the catalog names now. The locks of all endpoints that use the volume are held
    meanwhile, so none can begin to need a version between the question and the removal.

    Args:
        plan: as ``PlanDownloadOperator`` leaves it.
        versions: keys to remove; with none, and without ``unused``, versions are only listed.
        unused: remove all that nothing needs.
        kept_releases: how many proven releases of each endpoint, good or superseded, count as kept.
    """

    template_fields: Sequence[str] = ("plan", "versions", "unused", "kept_releases")

    def __init__(
        self, *, versions: Any, unused: Any, kept_releases: Any = KEPT_RELEASES, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.outlets = []
        self.versions, self.unused, self.kept_releases = versions, unused, kept_releases
        self.needed: dict[str, str] = {}

    def execute(self, context: Context) -> None:
        """Hold the endpoints' locks, find out what is needed, and run the pod."""
        with ExitStack() as held:
            with one_line_failures(context):
                work = self._open(context)
                plan, cluster = work.plan, work.cluster()
                endpoints = {release.endpoint for release in _releases(work)} | {
                    name
                    for name, one in read_catalog().endpoints.items()
                    if (one.cluster, one.namespace, one.model) == (plan.cluster, plan.namespace, plan.model)
                }
                held.enter_context(_locked(cluster, plan.namespace, endpoints, holder=lock_holder(context)))
                self.needed = needed_versions(
                    plan.weights.path,
                    mounted=mounted_paths(cluster, namespace=plan.namespace, claim=plan.volume.claim),
                    # Read again under the locks: a release that was made meanwhile is pending now.
                    releases=_releases(work),
                    kept=int(self.kept_releases),
                    model=plan.model_object_name,
                )
            super().execute(context)

    def before(self, work: Work) -> None:
        """A volume that is not there has nothing in it; none is made for that."""
        place = {"namespace": work.plan.namespace, "name": work.plan.volume.claim}
        if work.cluster().get(api_version="v1", kind="PersistentVolumeClaim", **place) is None:
            raise UsageError(
                "there is no such volume",
                about=f"claim {work.plan.namespace}/{work.plan.volume.claim}",
                remedy="nothing was downloaded there yet",
            )

    def pod_of(self, work: Work) -> StepPod:
        """The pod that lists and removes."""
        for key, why in sorted(self.needed.items()):
            self.log.info("%s stays: %s", key, why)
        model = PurePosixPath(work.plan.weights.path).parts[0]
        order = {
            "directory": f"{WEIGHTS_MOUNT}/{model}",
            "needed": self.needed,
            "remove": json.loads(self.versions)
            if isinstance(self.versions, str)
            else list(self.versions or []),
            "unused": str(self.unused).lower() == "true",
        }
        return StepPod(
            name="remove",
            module="slipway.weights.remove",
            order=json.dumps(order),
            image=work.plan.tools_image,
            memory="128Mi",
            weights_mount=WEIGHTS_MOUNT,
            weights_read_only=False,
        )

    def done(self, work: Work, message: str, context: Context) -> None:
        """Tell what is there and what was removed."""
        from slipway.weights.retention import RetentionResult

        result = parse_result(message, RetentionResult)
        for one in result.versions:
            state = "removed" if one.removed else one.needed or "unused"
            self.log.info("%s %d bytes %s %s: %s", one.key, one.bytes, one.written, one.source, state)
        self.log.info(
            "%d of %d versions removed, %d bytes free again", result.removed, result.count, result.bytes_freed
        )
        context["ti"].xcom_push(key="versions", value=result.model_dump(mode="json"))


def _releases(work: Work) -> list[Release]:
    """The releases whose weights are in the volume, the newest first."""
    from slipway.releases.store import History

    plan = work.plan
    return [
        release
        for release in History.open().list(limit=_MOST_RELEASES)
        if (release.cluster, release.namespace) == (plan.cluster, plan.namespace)
        and release.plan["volume"]["claim"] == plan.volume.claim
    ]


def needed_versions(
    current: str, *, mounted: Mapping[str, str], releases: Iterable[Release], kept: int, model: str
) -> dict[str, str]:
    """Say which versions of a model must stay, by key, and why.

    Args:
        current: the path in the volume that the catalog means now.
        mounted: paths in the volume that are mounted, and by what.
        releases: of all endpoints that use the volume, the newest first.
        kept: how many proven releases of each endpoint, good or superseded, count: one can go back to them.
        model: the directory of the model's versions.
    """
    found = {current: "the catalog names it now"}
    good: dict[str, int] = {}
    for release in releases:
        if release.status in ("good", "superseded"):
            good[release.endpoint] = good.get(release.endpoint, 0) + 1
            if good[release.endpoint] > kept:
                continue
        elif release.status != "pending":
            continue
        why = f"{release.endpoint} needs it for release {release.number} ({release.status})"
        found[str(release.plan["weights"]["path"])] = why
    found |= mounted
    return {key: why for path, why in found.items() if (key := _key(path, model))}


def mounted_paths(cluster: Cluster, *, namespace: str, claim: str) -> dict[str, str]:
    """What of a claim is mounted, by path, and by what: pods, and workloads that would make some.

    Raises:
        UsageError: something that is no step of ours mounts the whole volume, so any of it may be in use.
    """
    found: dict[str, str] = {}
    for name, spec in _pod_specs(cluster, namespace):
        volumes = {
            volume["name"]
            for volume in spec.get("volumes") or []
            if (volume.get("persistentVolumeClaim") or {}).get("claimName") == claim
        }
        containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
        for mount in (mount for container in containers for mount in container.get("volumeMounts") or []):
            if mount["name"] not in volumes:
                continue
            path = mount.get("subPath")
            if not path:
                raise UsageError(
                    "something mounts the whole volume and may use any of it",
                    about=f"{name} in namespace {namespace}, claim {claim}",
                    remedy="Remove it first, or let it mount one version by subPath",
                )
            found[str(path).strip("/")] = f"{name} mounts it"
    return found


def _pod_specs(cluster: Cluster, namespace: str) -> Iterator[tuple[str, Object]]:
    for api_version, kind in _WORKLOADS:
        for workload in _listed(cluster, api_version, kind, namespace):
            for template in pod_templates({"kind": kind, **workload}).values():
                yield f"{kind} {workload['metadata']['name']}", template["spec"]
    for pod in _listed(cluster, "v1", "Pod", namespace):
        ended = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
        labels = labels_of(pod)
        step = labels.get(MANAGED_BY_LABEL) == "slipway" and labels.get(COMPONENT_LABEL) != "server"
        # A step works for a release that is pending, or for a download that the volume's own claim guards.
        if not ended and not step:
            yield f"Pod {pod['metadata']['name']}", pod["spec"]


def _listed(cluster: Cluster, api_version: str, kind: str, namespace: str) -> list[Object]:
    from slipway.cluster.faults import ApiError

    try:
        return cluster.list(api_version=api_version, kind=kind, namespace=namespace)
    except ApiError as error:
        if error.status != 404:  # a cluster without LeaderWorkerSets
            raise
        return []


def _key(path: str, model: str) -> str | None:
    parts = PurePosixPath(path).parts
    return parts[1] if len(parts) == 2 and parts[0] == model else None


@contextmanager
def _locked(cluster: Cluster, namespace: str, endpoints: Iterable[str], *, holder: str) -> Iterator[None]:
    """Hold the locks of endpoints, taken in order of their names, so that two removals never wait for each other.

    A probe or a benchmark is waited for; a deployment that takes longer is not, for it occupies a worker.

    Raises:
        LockError: names the endpoint and who has its lock.
    """
    from slipway.cluster import lease

    taken: list[str] = []
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    try:
        for endpoint in sorted(endpoints):
            place = {"namespace": namespace, "endpoint_object": object_name(endpoint)}
            taken.append(place["endpoint_object"])
            while lease.acquire(cluster, **place, holder=holder, seconds=_LOCK_SECONDS) is None:
                if time.monotonic() > deadline:
                    found = lease.holder_of(cluster, **place)
                    raise LockError(
                        "an endpoint of this volume is being worked on",
                        about=endpoint,
                        why=f"{found.holder if found else 'another run'} holds its lock",
                        remedy="Remove weights when that run has ended",
                    )
                time.sleep(_LOOK_SECONDS)
        yield
    finally:
        for name in taken:
            lease.release(cluster, namespace=namespace, endpoint_object=name, holder=holder)
