"""How much sooner an endpoint serves the second time, when what it compiled at its first start is kept.

``python -m benchmarks.warm`` prints one JSON object a start and one with the ratios. Needs a sandbox that is up, and
the tiny model in its volume (``make demo``).

An endpoint without --enforce-eager and with `compile_cache` is applied to the cluster, real vLLM in it: its first start
compiles into the claim of its cache, its second finds it there. Then the claim is deleted and both are done again, so
that files which the machine has in memory by then count for neither. What is printed is vLLM's own figure for the
start of its engine (a line of its log), and the time from the pod's making to the first answer.

The sandbox's image has no compiler and no headers, neither Python's nor torch's. They come by a read-only volume here:
Debian's g++ and headers of Python in a directory of its own, and the headers of the very torch that is in the image.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks.orchestration import complete, remove_workload
from sandbox import credentials, s3, settings
from sandbox.airflow import airflow_environment
from sandbox.demo import put_model
from sandbox.images import store
from sandbox.settings import CHECKOUT
from slipway.catalog.read import read_catalog
from slipway.cluster.apply import apply, inventory_of
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, Ref
from slipway.cluster.verdict import moment
from slipway.cluster.watch import wait_for_workload_sync
from slipway.manifests.overrides import parse_overrides
from slipway.manifests.plan import Plan
from slipway.manifests.planning import make_plan
from slipway.manifests.render import Rendered, render, service_name

ENDPOINT, MODEL = "bench-warm", "qwen3-tiny"
TOOLS, TOOLS_MOUNT = "bench-warm-compiler", "/opt/compiler"
PACKAGES = "g++,libpython3.11-dev"
TORCH = "/usr/local/lib/python3.11/dist-packages/torch/include"
ENGINE = re.compile(r"init engine \(.*?\) took ([0-9.]+)")
LONGEST = 600.0


def main() -> int:
    """Start it twice for each of ``--rounds`` and print every figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    config = settings.load(recorded=True)
    os.environ.update(airflow_environment(config))
    revision = put_model("", endpoint=MODEL, access=s3.connection(config))
    key = credentials.kept(config, "endpoint-api-key")
    cluster = Cluster.from_kubeconfig(config.admin_kubeconfig)
    tools = _toolchain()
    found: dict[str, list[dict[str, float]]] = {"first": [], "second": []}
    with tempfile.TemporaryDirectory() as folder, _volume(cluster, tools):
        plan, rendered = _planned(Path(folder), revision)
        try:
            for number in range(rounds):
                _forget(cluster, plan, config.admin_kubeconfig)
                for start, seen in found.items():
                    figures = _start(cluster, plan, rendered, api_key=key)
                    seen.append(figures)
                    load = round(os.getloadavg()[0], 1)
                    line = {"benchmark": "warm", "round": number, "start": start, **figures}
                    print(json.dumps({**line, "load_of_machine": load}), flush=True)
                    remove_workload(plan, kubeconfig=config.admin_kubeconfig)
        finally:
            _forget(cluster, plan, config.admin_kubeconfig)
            for ref in inventory_of(rendered.objects()):
                if ref.kind == "Service":
                    cluster.delete(ref)
    medians = {
        start: {name: statistics.median(one[name] for one in seen) for name in seen[0]}
        for start, seen in found.items()
    }
    ratios = {
        f"{name.removesuffix('_s')}_ratio": round(medians["second"][name] / medians["first"][name], 2)
        for name in medians["first"]
    }
    print(json.dumps({"benchmark": "warm", "case": "second start by first", "rounds": rounds, **ratios}))
    return 0


def _planned(folder: Path, overrides: dict[str, Any]) -> tuple[Plan, Rendered]:
    """The tiny endpoint as it would be with a compiler: the catalog with two records more."""
    include = folder / "include"
    shutil.copytree(CHECKOUT / "include", include)
    catalog = include / "catalog"
    runtime = yaml.safe_load((catalog / "runtimes" / "vllm-cpu.yaml").read_text(encoding="utf-8"))
    runtime["name"] = ENDPOINT
    runtime["args"].remove("--enforce-eager")
    del runtime["env"]["TORCHDYNAMO_DISABLE"]
    runtime["env"] |= {"CXX": f"{TOOLS_MOUNT}/c++", "LD_LIBRARY_PATH": f"{TOOLS_MOUNT}/run"}
    runtime["compile_cache"] = "/tmp/.cache"
    runtime["volumes"] = [{"name": "compiler", "persistentVolumeClaim": {"claimName": TOOLS}}]
    mount = {"name": "compiler", "readOnly": True}
    runtime["volume_mounts"] = [
        {**mount, "mountPath": TOOLS_MOUNT},
        {**mount, "mountPath": TORCH, "subPath": "torch"},
    ]
    endpoint = yaml.safe_load((catalog / "endpoints" / f"{MODEL}.yaml").read_text(encoding="utf-8"))
    endpoint |= {"name": ENDPOINT, "runtime": ENDPOINT, "compile_cache": "1Gi", "nightly": False}
    endpoint["resources"] = {"cpu": "250m", "memory": "5Gi"}
    for kind, record in (("runtimes", runtime), ("endpoints", endpoint)):
        path = catalog / kind / f"{ENDPOINT}.yaml"
        path.write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
    os.environ["SLIPWAY_INCLUDE"] = str(include)
    plan = make_plan(read_catalog(include), ENDPOINT, parse_overrides(overrides))
    return plan, render(plan)


def _start(cluster: Cluster, plan: Plan, rendered: Rendered, *, api_key: str) -> dict[str, float]:
    """Apply it where nothing of it runs, ask for one completion, and read vLLM's own figure."""
    apply(cluster, rendered.objects())
    verdict = wait_for_workload_sync(
        cluster,
        kind=plan.controller,
        namespace=plan.namespace,
        name=plan.controller_name,
        endpoint=plan.object_name,
        release=rendered.release,
        deadline_seconds=LONGEST,
    )
    if verdict.doom is not None:
        print(verdict.log, file=sys.stderr)
        raise verdict.doom.error()
    name = service_name(plan, release=None)
    service = cluster.get(api_version="v1", kind="Service", namespace=plan.namespace, name=name)
    assert service is not None  # it was applied above
    address = f"http://{service['spec']['clusterIP']}:{plan.server.port}"
    complete(address, name=plan.served_name, api_key=api_key)
    answered = time.time()
    labels = {"slipway.io/endpoint": plan.object_name, "app.kubernetes.io/component": "server"}
    [pod] = cluster.list(api_version="v1", kind="Pod", namespace=plan.namespace, labels=labels)
    log = cluster.logs(namespace=plan.namespace, pod=pod["metadata"]["name"], tail=2000)
    took = ENGINE.search(log)
    if took is None:
        raise SystemExit("vLLM's log has no line on the start of its engine")
    made = moment(pod["metadata"]["creationTimestamp"])
    assert made is not None  # every object has it
    return {"engine_s": float(took[1]), "first_answer_s": round(answered - made.timestamp(), 1)}


def _forget(cluster: Cluster, plan: Plan, kubeconfig: Path) -> None:
    """Delete the workload and the claim with what it compiled."""
    remove_workload(plan, kubeconfig=kubeconfig)
    assert plan.server.compile_cache is not None  # the endpoint's record has it
    _gone(cluster, _claim(plan.server.compile_cache.claim, plan.namespace))


def _claim(name: str, namespace: str) -> Ref:
    return Ref(apiVersion="v1", kind="PersistentVolumeClaim", namespace=namespace, name=name)


def _gone(cluster: Cluster, ref: Ref) -> None:
    cluster.delete(ref)
    _until(lambda: _read(cluster, ref) is None, or_else=f"{ref} does not go")


def _bound(cluster: Cluster, claim: Ref) -> None:
    """Wait for the controller's look at the claim, which would else be a part of the first start."""

    def is_bound() -> bool:
        found = _read(cluster, claim)
        return found is not None and found["status"].get("phase") == "Bound"

    _until(is_bound, or_else=f"{claim} is not bound")


def _read(cluster: Cluster, ref: Ref) -> Object | None:
    return cluster.get(api_version=ref.apiVersion, kind=ref.kind, namespace=ref.namespace, name=ref.name)


def _until(done: Callable[[], bool], *, or_else: str) -> None:
    deadline = time.monotonic() + 120
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(or_else)
        time.sleep(0.5)


def _toolchain() -> Path:
    """Debian's g++, Python's headers and torch's in a directory, made once."""
    target = store.cache() / f"compiler-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:12]}"
    if target.exists():
        return target
    headers = sorted((store.cache() / "uv" / "archive-v0").glob("*/torch/include"))
    if not headers:
        raise SystemExit(
            "torch's headers are not in uv's cache: build the image vllm-cpu on this machine first"
        )
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    packages = ["--variant=extract", f"--include={PACKAGES}", "--dpkgopt=path-exclude=/usr/share/doc/*"]
    subprocess.run(["mmdebstrap", "--quiet", *packages, "bookworm", str(part)], check=True)
    shutil.rmtree(part / "dev")
    shutil.copytree(headers[-1], part / "torch")
    (part / "run").mkdir()
    [openmp] = (part / "usr/lib/x86_64-linux-gnu").glob("libgomp.so.1")
    shutil.copy(openmp, part / "run" / "libgomp.so.1")
    libraries = f"{TOOLS_MOUNT}/usr/lib/x86_64-linux-gnu:{TOOLS_MOUNT}/lib/x86_64-linux-gnu"
    options = f"--sysroot={TOOLS_MOUNT} -I{TOOLS_MOUNT}/usr/include/python3.11"
    compiler = f"{TOOLS_MOUNT}/usr/bin/x86_64-linux-gnu-g++-12 {options}"
    script = part / "c++"
    script.write_text(
        f'#!/bin/sh\nLD_LIBRARY_PATH={libraries} PATH={TOOLS_MOUNT}/usr/bin:$PATH exec {compiler} "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    part.chmod(0o755)
    part.rename(target)
    return target


@contextmanager
def _volume(cluster: Cluster, tools: Path) -> Iterator[None]:
    """A claim of the directory, which pods mount read-only."""
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": TOOLS},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": "models", "name": TOOLS},
            "hostPath": {"path": str(tools), "type": "Directory"},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": TOOLS, "namespace": "models"},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": TOOLS,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    for one in (volume, claim):
        cluster.apply(one)
    try:
        _bound(cluster, _claim(TOOLS, "models"))
        yield
    finally:
        _gone(cluster, _claim(TOOLS, "models"))
        _gone(cluster, Ref(apiVersion="v1", kind="PersistentVolume", name=TOOLS))


if __name__ == "__main__":
    sys.exit(main())
