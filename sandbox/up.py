"""`up`: build what is missing, boot, and wait until a person can use it. Every step can be interrupted and repeated.

Two things take long on a fresh machine, the Go builds and the vLLM image, and both run beside everything else: the
cluster boots as soon as Kubernetes is built, Airflow starts at once, and each image goes in when it is ready. What only
some endpoints and tests need (the controllers of LeaderWorkerSet, the Gateway API and load balancers, KEDA, Prometheus
with its adapter, simulated nodes) is built last, and not at all for a demo, which has no use for it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from sandbox import (
    airflow,
    catalog,
    commands,
    containerd,
    credentials,
    definitions,
    dns,
    gobuild,
    images,
    keda,
    kubernetes,
    kwok,
    leaderworkerset,
    machine,
    metallb,
    network,
    nfs,
    pki,
    prometheus,
    prometheus_adapter,
    s3,
    settings,
    storage,
    supervisor,
    traefik,
)
from sandbox.cluster import Cluster
from sandbox.errors import SandboxError
from sandbox.gobuild import Tool
from sandbox.progress import say
from sandbox.settings import Settings
from sandbox.supervisor import Program

ROTATED_KEYS = "qwen3-tiny-keys"
"""The Secret of the endpoint whose key people rotate to try it (docs/keys.md)."""


@dataclass(frozen=True)
class Extension:
    """What only some endpoints and tests need: how it is built, run and brought up."""

    tool: Tool
    program: Callable[[Settings], Program]
    start: Callable[[Settings, Cluster], None]


_EXTENSIONS = (
    Extension(gobuild.METALLB, metallb.program, metallb.start),
    Extension(gobuild.KWOK, kwok.program, kwok.start),
    Extension(gobuild.TRAEFIK, traefik.program, traefik.start),
    Extension(gobuild.KEDA, keda.program, keda.start),
    Extension(gobuild.KEDA_METRICS, keda.metrics_program, keda.start_metrics),
    Extension(gobuild.PROMETHEUS, prometheus.program, prometheus.start),
    Extension(gobuild.PROMETHEUS_ADAPTER, prometheus_adapter.program, prometheus_adapter.start),
    Extension(gobuild.LWS, leaderworkerset.program, leaderworkerset.start),
)


def up(config: Settings, *, with_extensions: bool = True) -> None:
    """Bring everything up, or as much as is missing.

    Args:
        config: where and what.
        with_extensions: False starts of what only some endpoints need just what is built already.

    Raises:
        SandboxError: says in one line what to do.
    """
    if config.native:
        machine.require_native_node()
    for directory in (config.home, config.logs):
        directory.mkdir(parents=True, exist_ok=True)
    with machine.locked(config):
        machine.claim(config)
        machine.require_disk(config)
        if not supervisor.is_running(config):
            machine.kill_sandbox_processes(config)
        if not airflow.is_running(config):
            machine.require_free_port(config.airflow_port, variable="SLIPWAY_AIRFLOW_PORT")
        # Not a `with`: after a failure or Ctrl-C nobody shall wait for what other steps still wait for.
        pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="up")
        if config.native:
            extensions = [
                tool for tool in gobuild.EXTENSIONS if with_extensions or gobuild.is_built(config, tool)
            ]
            _finish(_native(config, pool, extensions))
        else:
            _finish(_external(config, pool))
        pool.shutdown()
    say(f"up: Airflow {config.airflow_url}, user {airflow.USER}, password in {airflow.password_file(config)}")
    say(
        f"    kubeconfig {config.admin_kubeconfig}, S3 {config.s3_url}; for a terminal: . {airflow.env_file(config)}"
    )


def _native(config: Settings, pool: ThreadPoolExecutor, extensions: Sequence[Tool]) -> list[Future[None]]:
    """The node, S3 and Airflow, each step waiting for just what it needs."""
    network.ensure(config)
    catalog.link(config)
    _link_programs(config)
    supervisor.start(config, _native_programs(config, extensions))
    built = _build_all(config, pool, (*gobuild.NATIVE_TOOLS, *extensions))
    made = pool.submit(_make_images)
    airflow_up = pool.submit(airflow.start, config)

    def boot() -> None:
        built[gobuild.KUBERNETES].result()
        pki.ensure(config)
        kubernetes.boot(config, _cluster(config))
        _apply(config, native=True)

    booted = pool.submit(boot)

    def fill() -> None:
        _wait_for_containerd(config, booted)
        for name in images.NAMES:
            _import_image(config, images.image(name), made)

    def start_dns() -> None:
        built[gobuild.COREDNS].result()
        booted.result()
        dns.start(config)

    def start_storage() -> None:
        built[gobuild.LOCAL_PATH].result()
        booted.result()
        supervisor.start_programs(config, ["local-path-provisioner"])

    def start_s3() -> None:
        built[gobuild.VERSITYGW].result()
        s3.start(config)

    def define() -> None:
        booted.result()
        definitions.ensure(config, _cluster(config))

    defined = pool.submit(define)

    def extend(extension: Extension) -> None:
        built[extension.tool].result()
        defined.result()
        extension.start(config, _cluster(config))

    return [
        *built.values(),
        made,
        airflow_up,
        booted,
        pool.submit(fill),
        pool.submit(start_dns),
        pool.submit(start_storage),
        pool.submit(start_s3),
        pool.submit(nfs.start, config),
        defined,
        *(pool.submit(extend, one) for one in _EXTENSIONS if one.tool in extensions),
    ]


def _external(config: Settings, pool: ThreadPoolExecutor) -> list[Future[None]]:
    """S3 and Airflow on this machine for a cluster that a person named."""
    cluster = _cluster(config)
    cluster.require_reachable()
    catalog.fit(config, cluster)
    supervisor.start(config, [s3.program(config), *airflow.programs(config)])
    built = _build_all(config, pool, gobuild.EXTERNAL_TOOLS)

    def start_s3() -> None:
        built[gobuild.VERSITYGW].result()
        s3.start(config)

    def push() -> None:
        assert config.registry is not None
        images.push_images(config.registry, log=say)

    return [
        *built.values(),
        pool.submit(push),
        pool.submit(airflow.start, config),
        pool.submit(start_s3),
        pool.submit(_apply, config, native=False),
    ]


def _finish(steps: list[Future[None]]) -> None:
    """Wait for all steps; the first failure stops what the others run and is the one that is told."""
    try:
        done, _ = wait(steps, return_when=FIRST_EXCEPTION)
    except KeyboardInterrupt:
        commands.stop_all()
        raise
    failures = [error for step in done if (error := step.exception())]
    if failures:
        commands.stop_all()
        raise next((one for one in failures if isinstance(one, SandboxError)), failures[0])


def _native_programs(config: Settings, extensions: Sequence[Tool]) -> list[Program]:
    return [
        containerd.program(config, pause_image=images.reference("pause")),
        *kubernetes.programs(config),
        dns.program(config),
        storage.program(config, helper_image=images.reference("tools")),
        *(one.program(config) for one in _EXTENSIONS if one.tool in extensions),
        nfs.program(config),
        s3.program(config),
        *airflow.programs(config),
    ]


def _link_programs(config: Settings) -> None:
    """A place for a person's PATH that stays the same when programs are built anew."""
    links = config.home / "bin"
    links.mkdir(exist_ok=True)
    for name in ("kubectl", "kubeadm"):
        target = gobuild.program(config, gobuild.KUBERNETES, name)
        if not (links / name).is_symlink() or (links / name).readlink() != target:
            (links / name).unlink(missing_ok=True)
            (links / name).symlink_to(target)


def _build_all(
    config: Settings, pool: ThreadPoolExecutor, tools: tuple[Tool, ...]
) -> dict[Tool, Future[None]]:
    """One build after the other: each uses all processors, and the later ones find the packages of the earlier."""
    futures: dict[Tool, Future[None]] = {tool: Future() for tool in tools}

    def work() -> None:
        for tool in tools:
            try:
                gobuild.build(config, tool)
            except BaseException as error:
                for waiting in futures.values():
                    if not waiting.done():
                        waiting.set_exception(error)
                return
            futures[tool].set_result(None)

    pool.submit(work)
    return futures


def _make_images() -> None:
    """Build the images in a process of its own: it can be niced, and ended with all its children."""
    if all(images.image(name).archive.exists() for name in images.NAMES):
        return
    say("building the images (logs: images/logs in the cache)")
    commands.run([sys.executable, "-m", "sandbox.images", *images.NAMES], cwd=settings.CHECKOUT, nice=5)


def _import_image(config: Settings, image: images.Image, made: Future[None]) -> None:
    while not image.archive.exists():
        if made.done():
            made.result()
            if not image.archive.exists():
                raise SandboxError(
                    f"the image {image.name} changed while it was built; run the same command again"
                )
        time.sleep(0.3)
    images.import_images([image], address=str(containerd.socket(config)), log=say)


def _wait_for_containerd(config: Settings, booted: Future[None]) -> None:
    while not containerd.is_ready(config):
        if booted.done():
            booted.result()
        time.sleep(0.3)


def _cluster(config: Settings) -> Cluster:
    kubectl = gobuild.program(config, gobuild.KUBERNETES, "kubectl") if config.native else Path("kubectl")
    return Cluster(kubectl_path=kubectl, kubeconfig=config.admin_kubeconfig)


def _apply(config: Settings, *, native: bool) -> None:
    """The objects of sandbox/manifests and the two Secrets that endpoints refer to."""
    cluster = _cluster(config)
    cluster.apply_files(
        ["manifests", "manifests/native"] if native else ["manifests"],
        s3_address=config.s3_host,
        s3_port=settings.S3_PORT,
        node_ip=settings.NODE_IP,
        dns_ip=settings.DNS_SERVICE_IP,
        dns_port=settings.DNS_PORT,
    )
    s3_keys = {"AWS_ACCESS_KEY_ID": s3.access_key(config), "AWS_SECRET_ACCESS_KEY": s3.secret_key(config)}
    cluster.apply_secret(settings.MODELS_NAMESPACE, "s3-credentials", s3_keys)
    cluster.apply_secret(
        settings.MODELS_NAMESPACE,
        "endpoint-api-key",
        {"api-key": credentials.kept(config, "endpoint-api-key")},
    )
    if not cluster.has_secret(settings.MODELS_NAMESPACE, ROTATED_KEYS):
        # Made once: a key that somebody rotated stays.
        key = credentials.kept(config, "endpoint-api-key")
        keys = {"api-key": key, "accepted.yaml": json.dumps({"api-key": [key]})}
        cluster.apply_secret(settings.MODELS_NAMESPACE, ROTATED_KEYS, keys)
    say("objects applied")
