"""`down` leaves nothing on the machine, whatever the sandbox was doing, and `up` brings everything back."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import images, machine, settings

CONFIG = settings.load()
CHECKOUT = settings.CHECKOUT
KUBECTL = [str(CONFIG.home / "bin" / "kubectl"), f"--kubeconfig={CONFIG.kubeconfigs}/admin.conf"]


@pytest.fixture(scope="module", autouse=True)
def sandbox_is_up_before_and_after() -> Iterator[None]:
    sandbox("up")
    kubectl("delete", "--ignore-not-found", "pod/stays", "pvc/stays")
    yield
    sandbox("up")


def sandbox(
    *words: str, status: int = 0, cwd: Path = CHECKOUT, environment: dict[str, str] | None = None
) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", *words],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if status else done.stdout


def traces() -> dict[str, list[str]]:
    """What a machine shows of a cluster, by an eye that knows nothing of how the sandbox cleans up."""
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    words = (
        r"kube-|/kubelet|/etcd |coredns|versitygw.*slipway-sandbox|containerd.*slipway-sandbox"
        r"|/airflow |airflow worker|supervisord|/pause|leaderworkerset|metallb|/traefik|/kwok"
    )
    rules = ""
    for family in ("iptables-save", "ip6tables-save"):
        rules += subprocess.run([family], capture_output=True, text=True, check=True).stdout
    links = json.loads(
        subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout
    )
    cgroups = [
        str(path) for path in Path("/sys/fs/cgroup").glob("**/") if re.search("slipway|kubepods", path.name)
    ]
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return {
        "processes": [line for line in processes.splitlines() if re.search(words, line)],
        "rules": [line for line in rules.splitlines() if re.search(r"KUBE-|CNI-|10\.(96|98|244)\.", line)],
        "devices": [link["ifname"] for link in links if re.match("slipway|veth|cni", link["ifname"])],
        "cgroups": cgroups,
        "mounts": [
            mount for mount in mounts if re.search("slipway-sandbox|/netns|containerd|kubelet", mount)
        ],
        "run": [str(CONFIG.run)] if CONFIG.run.exists() else [],
        "settings": [
            f"{name}={Path('/proc/sys', name).read_text().strip()}"
            for name in ("net/ipv4/ip_forward", "vm/overcommit_memory", "kernel/panic_on_oops")
            if Path("/proc/sys", name).read_text().strip() != "0"
        ],
    }


NOTHING: dict[str, list[str]] = {
    name: [] for name in ("processes", "rules", "devices", "cgroups", "mounts", "run", "settings")
}


def pod_with_volume(image: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stays", "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "command": ["sh", "-c", "echo started >> /data/starts; exec sleep 100000"],
                    "ports": [{"containerPort": 9999, "hostPort": 19999}],
                    "volumeMounts": [
                        {"name": "data", "mountPath": "/data"},
                        {"name": "memory", "mountPath": "/memory"},
                    ],
                }
            ],
            "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "stays"}},
                {"name": "memory", "emptyDir": {"medium": "Memory"}},
            ],
        },
    }


CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "stays", "namespace": "default"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}


def kubectl(*words: str, stdin: str | None = None) -> str:
    done = subprocess.run([*KUBECTL, *words], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for_starts(wanted: int) -> None:
    deadline = time.monotonic() + 90
    while True:
        files = list((CONFIG.home / "volumes" / "local").glob("*_default_stays/starts"))
        count = len(files[0].read_text().split()) if files else 0
        if count >= wanted:
            assert count == wanted
            return
        assert time.monotonic() < deadline, f"started {count} times, not {wanted}"
        time.sleep(0.3)


def test_down_leaves_nothing_and_up_brings_pods_and_volumes_back() -> None:
    objects = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [CLAIM, pod_with_volume(images.reference("tools"))],
    }
    kubectl("apply", "-f", "-", stdin=json.dumps(objects))
    wait_for_starts(1)
    assert all(traces()[name] for name in ("processes", "rules", "devices", "cgroups", "run"))

    sandbox("down")
    assert traces() == NOTHING

    sandbox("up")
    wait_for_starts(2)
    sandbox("status")


def test_down_leaves_nothing_after_everything_was_killed() -> None:
    for pid in machine.sandbox_processes(CONFIG):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    sandbox("status", status=1)
    sandbox("down")
    assert traces() == NOTHING
    sandbox("down")


def test_up_goes_on_after_the_machine_was_killed() -> None:
    sandbox("up")
    wait_for_starts(3)
    # A reboot: processes and mounts gone, what was in memory too, and devices; files stay as they were.
    for pid in machine.sandbox_processes(CONFIG):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    subprocess.run(["ip", "link", "delete", settings.NODE_DEVICE], check=True)
    shutil.rmtree(CONFIG.run)
    sandbox("up")
    wait_for_starts(4)
    kubectl("delete", "pod/stays", "pvc/stays")
    sandbox("status")


def test_a_killed_part_comes_back_by_itself() -> None:
    before = pid_of("kube-apiserver")
    os.kill(before, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while (
        pid_of("kube-apiserver") in {before, 0}
        or subprocess.run([*KUBECTL, "get", "--raw", "/readyz"], capture_output=True, check=False).returncode
    ):
        assert time.monotonic() < deadline
        time.sleep(0.3)


def pid_of(part: str) -> int:
    table = subprocess.run(
        [sys.executable, "-m", "sandbox", "status"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    ).stdout
    fields = next(line.split() for line in table.splitlines() if line.startswith(part))
    return int(fields[4]) if fields[1] == "running" else 0


def test_another_checkout_is_told_to_stop_this_one_first(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "sandbox", tmp_path / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("include", "plugins"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    said = sandbox("up", status=2, cwd=tmp_path)
    assert said == (
        f"sandbox: the sandbox of {CHECKOUT} runs on this machine; run `make down` there or here, then try again\n"
    )


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"SLIPWAY_KUBECONFIG": "/nowhere"}, "SLIPWAY_KUBECONFIG=/nowhere: no such file"),
        ({"SLIPWAY_KUBECONFIG": "/etc/hostname"}, "SLIPWAY_KUBECONFIG needs SLIPWAY_REGISTRY too"),
        ({"SLIPWAY_AIRFLOW_PORT": "none"}, "SLIPWAY_AIRFLOW_PORT=none: give a port number"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(environment: dict[str, str], wanted: str) -> None:
    said = sandbox("up", status=2, environment=environment)
    assert wanted in said
    assert len(said.splitlines()) == 1
