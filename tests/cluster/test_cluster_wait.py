"""Waiting for real workloads: each fault is told by its reason, soon, and a restart of the API doesn't matter."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.cluster.apply import apply
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from slipway.cluster.shared import AT_ONCE, seat
from slipway.cluster.verdict import Limits, Verdict
from slipway.cluster.waiting import Target
from slipway.cluster.watch import wait_for_workload, wait_for_workload_sync
from slipway.errors import ClusterError

SLEEP = "import time; time.sleep(600)"
LIMITS = Limits(unschedulable=5, missing=5, provision=5, create=5, mount=20)
Maker = Callable[..., Object]


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A workload that cannot come up, and what the verdict must say."""

    code: str = SLEEP
    container: dict[str, Any] = field(default_factory=dict)
    reason: str
    words: tuple[str, ...]


def secret_env(name: str, key: str) -> dict[str, Any]:
    return {"env": [{"name": "K", "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}]}


TROUBLES: dict[str, Trouble] = {
    "image": Trouble(
        container={"image": "localhost/slipway/nothing:here"},
        reason="ImagePullBackOff",
        words=("localhost/slipway/nothing:here", "import it into the node"),
    ),
    "never": Trouble(
        container={"image": "localhost/slipway/nothing:here", "imagePullPolicy": "Never"},
        reason="ErrImageNeverPull",
        words=("is not present",),
    ),
    "name": Trouble(
        container={"image": "Not A Name"}, reason="InvalidImageName", words=("Correct the image",)
    ),
    "secret": Trouble(
        container=secret_env("nowhere", "k"),
        reason="CreateContainerConfigError",
        words=('secret "nowhere" not found', "create secret generic"),
    ),
    "key": Trouble(
        container=secret_env("here", "other"),
        reason="CreateContainerConfigError",
        words=("couldn't find key other in Secret", "/here"),
    ),
    "arguments": Trouble(
        code="import sys; print('api_server.py: error: unrecognized arguments: --wrong'); sys.exit(2)",
        reason="CrashLoopBackOff",
        words=("exit code 2", "doesn't know an argument", "--wrong"),
    ),
    "port": Trouble(
        code="import socket as s; a = s.create_server(('', 8000)); s.create_server(('', 8000))",
        reason="CrashLoopBackOff",
        words=("exit code 1", "the port is in use", "Address already in use"),
    ),
    "file": Trouble(
        code="open('/data/serving-model/config.json')",
        reason="CrashLoopBackOff",
        words=("a file is missing", "/data/serving-model/config.json"),
    ),
    "program": Trouble(
        container={"command": ["vllm", "serve"]},
        reason="RunContainerError|CrashLoopBackOff",
        words=("vllm",),
    ),
    "memory": Trouble(
        code="print('loading', flush=True); x = bytearray(300 * 2**20)",
        reason="OOMKilled",
        words=("memory limit of 64Mi", "exit code 137"),
    ),
    "startup": Trouble(
        container={
            "startupProbe": {
                "httpGet": {"path": "/health", "port": 8000},
                "periodSeconds": 1,
                "failureThreshold": 3,
            }
        },
        reason="StartupProbeFailed",
        words=("within 3 s", "connection refused", "startup_seconds"),
    ),
    "room": Trouble(
        container={"resources": {"requests": {"cpu": "512"}}},
        reason="Unschedulable",
        words=("Insufficient cpu", "asks for cpu: 512"),
    ),
    "cards": Trouble(
        container={"resources": {"limits": {"nvidia.com/gpu": "1"}}},
        reason="Unschedulable",
        words=("Insufficient nvidia.com/gpu", "asks for nvidia.com/gpu: 1"),
    ),
    "label": Trouble(
        container={"nodeSelector": {"gpu": "on"}},
        reason="Unschedulable",
        words=("node affinity/selector", "node_selector"),
    ),
    "claim": Trouble(
        container={"volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "nowhere"}}]},
        reason="ClaimMissing",
        words=('persistentvolumeclaim "nowhere" not found',),
    ),
    "class": Trouble(
        container={"volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "classless"}}]},
        reason="ClaimNotBound",
        words=('"no-such-class" not found', "kubectl get storageclass"),
    ),
    "settings": Trouble(
        container={
            "volumes": [{"name": "c", "configMap": {"name": "nowhere"}}],
            "volumeMounts": [{"name": "c", "mountPath": "/c"}],
        },
        reason="FailedMount",
        words=('configmap "nowhere" not found',),
    ),
    "disk": Trouble(
        code="f = open('/scratch/f', 'wb'); f.write(bytes(40 * 2**20)); f.close(); import time; time.sleep(600)",
        container={
            "resources": {"limits": {"ephemeral-storage": "10Mi"}},
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
        },
        reason="Evicted",
        words=("limit", "10Mi"),
    ),
}


@pytest.fixture
def cluster(slipway: Cluster) -> Cluster:
    """What is tried here acts with Slipway's own rights."""
    return slipway


def wait(cluster: Cluster, namespace: str, name: str, **more: Any) -> Verdict:
    return wait_for_workload_sync(
        cluster,
        kind="StatefulSet",
        namespace=namespace,
        name=name,
        release=more.pop("release", "r1"),
        endpoint=name,
        deadline_seconds=more.pop("deadline_seconds", 90),
        limits=LIMITS,
        **more,
    )


@pytest.fixture(scope="module")
def troubled(
    administrator: Cluster,
    as_slipway: Callable[..., Cluster],
    make_namespace: Callable[..., str],
    stateful_set: Maker,
) -> Iterator[dict[str, Future[Verdict]]]:
    """All troubled workloads at once, each waited for by a thread of its own."""
    namespace = make_namespace(level="restricted")
    cluster = as_slipway(namespace)
    metadata = {"namespace": namespace}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "here", **metadata},
        "stringData": {"k": "v"},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "classless", **metadata},
        "spec": {
            "storageClassName": "no-such-class",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    # A server that isn't Ready before it serves; a pod without any probe is, for a moment, until it crashes.
    not_ready = {"readinessProbe": {"exec": {"command": ["false"]}}}
    sets = [
        stateful_set(name, trouble.code, namespace=namespace, **not_ready, **trouble.container)
        for name, trouble in TROUBLES.items()
    ]
    administrator.create(secret)
    apply(cluster, [claim, *sets])
    with ThreadPoolExecutor(len(TROUBLES)) as threads:
        yield {name: threads.submit(wait, cluster, namespace, name) for name in TROUBLES}


@pytest.mark.parametrize("name", TROUBLES)
def test_the_reason_is_told(name: str, troubled: dict[str, Future[Verdict]]) -> None:
    verdict, trouble = troubled[name].result(), TROUBLES[name]
    assert verdict.state == "doomed"
    assert verdict.doom is not None
    assert verdict.doom.reason in trouble.reason.split("|"), verdict.what
    for word in trouble.words:
        assert word in verdict.what, verdict.what
    assert "\n" not in verdict.what
    assert verdict.doom.remedy


def test_the_log_of_a_crash_is_brought_along(troubled: dict[str, Future[Verdict]]) -> None:
    assert "--wrong" in troubled["arguments"].result().log
    assert troubled["memory"].result().log == "loading"


def test_a_pod_that_may_not_be_made(cluster: Cluster, restricted_namespace: str, stateful_set: Maker) -> None:
    workload = stateful_set("rooted", SLEEP, namespace=restricted_namespace)
    workload["spec"]["template"]["spec"]["securityContext"] = {}
    apply(cluster, [workload])
    started = time.monotonic()
    verdict = wait(cluster, restricted_namespace, "rooted")
    assert verdict.doom is not None
    assert verdict.doom.reason == "FailedCreate"
    assert "violates PodSecurity" in verdict.doom.why
    assert time.monotonic() - started < 10


def test_a_quota(cluster: Cluster, administrator: Cluster, namespace: str, stateful_set: Maker) -> None:
    administrator.create(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "none", "namespace": namespace},
            "spec": {"hard": {"pods": "0"}},
        }
    )
    apply(cluster, [stateful_set("qwen", SLEEP, namespace=namespace)])
    verdict = wait(cluster, namespace, "qwen")
    assert verdict.doom is not None
    assert verdict.doom.reason == "FailedCreate"
    assert "exceeded quota: none" in verdict.doom.why


def test_the_next_release_is_waited_for_and_not_the_one_before(
    cluster: Cluster, namespace: str, stateful_set: Maker
) -> None:
    apply(cluster, [stateful_set("qwen", SLEEP, namespace=namespace)])
    assert wait(cluster, namespace, "qwen").state == "available"
    late = "import time; time.sleep(3); open('/tmp/ready', 'w'); time.sleep(600)"
    probe = {"exec": {"command": ["test", "-f", "/tmp/ready"]}, "periodSeconds": 1}
    apply(cluster, [stateful_set("qwen", late, namespace=namespace, release="r2", readinessProbe=probe)])
    told: list[str] = []
    verdict = wait(cluster, namespace, "qwen", release="r2", on_progress=told.append)
    assert verdict.state == "available", verdict.what
    assert len(told) > 1
    [pod] = cluster.list(api_version="v1", kind="Pod", namespace=namespace)
    assert pod["metadata"]["labels"]["slipway.io/release"] == "r2"
    replaced = wait(cluster, namespace, "qwen", release="r1")
    assert replaced.doom is not None
    assert replaced.doom.reason == "ReleaseReplaced"


def test_what_is_not_there(cluster: Cluster, namespace: str) -> None:
    verdict = wait(cluster, namespace, "nothing")
    assert verdict.doom is not None
    assert verdict.doom.reason == "NotFound"


def test_the_deadline(cluster: Cluster, namespace: str, stateful_set: Maker) -> None:
    never = {"readinessProbe": {"exec": {"command": ["false"]}}}
    apply(cluster, [stateful_set("qwen", SLEEP, namespace=namespace, **never)])
    verdict = wait(cluster, namespace, "qwen", deadline_seconds=4)
    assert verdict.doom is not None
    assert verdict.doom.reason == "DeadlineExceeded"
    assert "last seen: 0 of 1 pod ready" in verdict.doom.why


class Proxy:
    """A door to the API server that can be shut: open connections break, new ones are refused."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.open: set[socket.socket] = set()
        self.port = 0
        self.listener: socket.socket | None = None
        self.unshut()

    def unshut(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, args=(self.listener,), daemon=True).start()

    def shut(self) -> None:
        assert self.listener is not None
        # A thread that waits in accept() keeps a merely closed listener alive.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for one in list(self.open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                listener.close()
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, suppress(OSError), socket.create_connection(self.target) as far:
            self.open |= {near, far}
            back = threading.Thread(target=self._copy, args=(far, near), daemon=True)
            back.start()
            self._copy(near, far)
            back.join()
            self.open -= {near, far}

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def door(administrator: Cluster, slipway_kubeconfig: Path, tmp_path: Path) -> Iterator[tuple[Proxy, Path]]:
    """The API server behind a door, and Slipway's kubeconfig that goes through it, its certificate still verified."""
    host, _, port = administrator.server.removeprefix("https://").partition(":")
    proxy = Proxy(host, int(port or 443))
    config = yaml.safe_load(slipway_kubeconfig.read_text())
    for one in config["clusters"]:
        one["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
        one["cluster"]["tls-server-name"] = host
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    yield proxy, path
    proxy.shut()


@asynccontextmanager
async def client_of(path: Path) -> AsyncIterator[Any]:
    """A client of kubernetes_asyncio as a kubeconfig says."""
    from kubernetes_asyncio import client, config

    configuration = client.Configuration()
    await config.load_kube_config(config_file=str(path), client_configuration=configuration)
    async with client.ApiClient(configuration) as api_client:
        yield api_client


def test_waiting_goes_on_while_the_api_server_is_away(
    cluster: Cluster, namespace: str, stateful_set: Maker, door: tuple[Proxy, Path]
) -> None:
    proxy, path = door
    late = "import time; time.sleep(8); open('/tmp/ready', 'w'); time.sleep(600)"
    probe = {"exec": {"command": ["test", "-f", "/tmp/ready"]}, "periodSeconds": 1}
    apply(cluster, [stateful_set("qwen", late, namespace=namespace, readinessProbe=probe)])
    told: list[str] = []

    async def watch() -> Verdict:
        async with seat("door", namespace, opener=lambda: client_of(path)) as taken:
            asyncio.get_running_loop().call_later(2, proxy.shut)
            asyncio.get_running_loop().call_later(7, proxy.unshut)
            return await wait_for_workload(
                taken,
                Target(kind="StatefulSet", namespace=namespace, name="qwen", release="r1", endpoint="qwen"),
                deadline_seconds=60,
                on_progress=told.append,
            )

    verdict = asyncio.run(watch())
    assert verdict.state == "available", verdict.what
    assert any("waiting for the API server: the API server gave no answer" in line for line in told), told


def test_forty_waits_of_a_process_share_their_connections(namespace: str, door: tuple[Proxy, Path]) -> None:
    proxy, path = door
    most = 0

    async def wait(name: str) -> Verdict:
        async with seat("door", namespace, opener=lambda: client_of(path)) as taken:
            target = Target(kind="StatefulSet", namespace=namespace, name=name, release="r1", endpoint=name)
            return await wait_for_workload(taken, target, deadline_seconds=60)

    async def all_of_them() -> list[Verdict]:
        nonlocal most
        waits = [asyncio.create_task(wait(f"nowhere-{number}")) for number in range(40)]
        while not all(one.done() for one in waits):
            await asyncio.wait(waits, timeout=0.2)
            most = max(most, len(proxy.open) // 2)
        return await asyncio.gather(*waits)

    verdicts = asyncio.run(all_of_them())
    assert {verdict.doom.reason for verdict in verdicts if verdict.doom} == {"NotFound"}
    assert most <= AT_ONCE + 3, "requests at once, and a watch for each kind that they look at"


def test_requests_wait_for_a_server_that_comes_back(door: tuple[Proxy, Path]) -> None:
    proxy, path = door
    behind = Cluster.from_kubeconfig(path, patience=20)
    assert behind.version().startswith("v1.")
    proxy.shut()
    threading.Timer(3, proxy.unshut).start()
    started = time.monotonic()
    assert behind.version().startswith("v1.")
    assert time.monotonic() - started > 2


def test_a_server_that_stays_away_and_one_with_another_certificate(
    door: tuple[Proxy, Path], tmp_path: Path
) -> None:
    proxy, path = door
    config = yaml.safe_load(path.read_text())
    config["clusters"][0]["cluster"]["tls-server-name"] = "somebody.else"
    (tmp_path / "other").write_text(yaml.safe_dump(config))
    with pytest.raises(ClusterError, match="certificate is not accepted"):
        Cluster.from_kubeconfig(tmp_path / "other", patience=20).version()
    config["clusters"][0]["cluster"].pop("certificate-authority-data")
    config["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
    (tmp_path / "blind").write_text(yaml.safe_dump(config))
    with pytest.raises(ClusterError, match="certificate verification is off"):
        Cluster.from_kubeconfig(tmp_path / "blind")
    proxy.shut()
    with pytest.raises(ClusterError, match="gave no answer: connection refused"):
        Cluster.from_kubeconfig(path, patience=1).version()
    proxy.unshut()


def test_a_kubeconfig_that_cannot_be_used(tmp_path: Path, kubeconfig: Path) -> None:
    with pytest.raises(ClusterError, match="the kubeconfig cannot be used"):
        Cluster.from_kubeconfig(tmp_path / "none")
    with pytest.raises(ClusterError, match="context nowhere"):
        Cluster.from_kubeconfig(kubeconfig, context="nowhere")
    (tmp_path / "text").write_text(base64.b64encode(b"no yaml: [").decode() + ": [")
    with pytest.raises(ClusterError, match="the kubeconfig cannot be used"):
        Cluster.from_kubeconfig(tmp_path / "text")
