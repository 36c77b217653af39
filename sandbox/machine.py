"""What the sandbox asks of the machine and what it leaves on it: checks, processes, kernel settings, cgroups."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from sandbox.errors import USER_MISTAKE, SandboxError
from sandbox.progress import say
from sandbox.settings import CGROUP, CHECKOUT, Owner, Settings, read_owner

# In the environment of supervisord and so of all that it starts, and of nothing else: it tells our processes from
# the machine's.
MARKER = "SLIPWAY_SANDBOX_PART_OF"

PRIVATE_DIRECTORIES = tuple(
    Path(name)
    for name in ("/run/containerd", "/run/netns", "/var/log/containers", "/var/lib/cni", "/var/lib/kubelet")
)

FREE_DISK_FIRST_TIME = 20 * 2**30
FREE_DISK = 3 * 2**30

# What Kubernetes writes: the value before is kept and comes back with `down`.
KERNEL_SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/bridge/bridge-nf-call-ip6tables": "1",
    "net/ipv4/conf/all/route_localnet": None,
    "net/netfilter/nf_conntrack_max": None,
    "vm/overcommit_memory": None,
    "vm/panic_on_oom": None,
    "kernel/panic": None,
    "kernel/panic_on_oops": None,
    "kernel/keys/root_maxkeys": None,
    "kernel/keys/root_maxbytes": None,
}

_OTHER_CLUSTERS = """\
the native node needs Debian or Ubuntu and root, and {reason}. Name a cluster instead. With kind:
  docker run -d --name kind-registry -p 127.0.0.1:5001:5000 registry:2
  kind create cluster --name slipway --config sandbox/clusters/kind.yaml
  docker network connect kind kind-registry
  kind get kubeconfig --name slipway > slipway.kubeconfig
or with k3d:
  k3d registry create slipway-registry --port 5001
  k3d cluster create slipway --registry-use k3d-slipway-registry:5001 \\
    --registry-config sandbox/clusters/k3d-registries.yaml
  k3d kubeconfig get slipway > slipway.kubeconfig
then:
  make up SLIPWAY_KUBECONFIG=slipway.kubeconfig SLIPWAY_REGISTRY=localhost:5001"""


def require_native_node() -> None:
    """Fail where the node cannot run, with the commands for a cluster that can.

    Raises:
        SandboxError: not root, not Linux, or neither Debian nor Ubuntu.
    """
    if sys.platform != "linux":
        reason = f"this is {sys.platform}"
    elif os.geteuid() != 0:
        reason = "you are not root"
    elif not {"debian", "ubuntu"} & _distribution():
        reason = "this is another distribution"
    else:
        return
    raise SandboxError(_OTHER_CLUSTERS.format(reason=reason), status=USER_MISTAKE)


def require_disk(settings: Settings) -> None:
    """Fail before a build or an image fills the disk half-way.

    Raises:
        SandboxError: too little is free where the state or the cache goes.
    """
    first_time = not settings.binaries.is_dir()
    needed = FREE_DISK_FIRST_TIME if first_time else FREE_DISK
    for directory in (settings.home, settings.cache):
        existing = next(path for path in (directory, *directory.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if free < needed:
            raise SandboxError(
                f"{directory} has {free / 2**30:.1f} GiB free and needs {needed / 2**30:.0f}: make room, or set "
                "SLIPWAY_SANDBOX_HOME and SLIPWAY_CACHE to directories on a larger disk",
                status=USER_MISTAKE,
            )


def require_free_port(port: int, *, variable: str) -> None:
    """Fail when something listens on a port that a part of ours is about to take.

    Raises:
        SandboxError: names the process where the kernel tells it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - asks, never listens
        except OSError:
            holder = _listener(port)
            raise SandboxError(
                f"port {port} is in use{f' by {holder}' if holder else ''}: stop that, or choose another port with "
                f"{variable}=…",
                status=USER_MISTAKE,
            ) from None


def sandbox_processes(settings: Settings) -> list[int]:
    """The processes of ours, by the marker in their environment or by the cgroup that all our pods are in."""
    if sys.platform != "linux":
        return []
    wanted = f"{MARKER}={settings.home}".encode()
    found = {
        int(entry.name) for entry in Path("/proc").glob("[0-9]*") if wanted in _environ(entry).split(b"\0")
    }
    for cgroup in cgroups() if settings.native else []:
        # os.walk, which passes over what goes meanwhile: a pod's cgroup may, at any moment.
        for directory, _, _ in os.walk(cgroup):
            found |= _members(Path(directory) / "cgroup.procs")
    return sorted(found)


def kill_sandbox_processes(settings: Settings, *, grace: float = 2.0) -> None:
    """End all that is left of ours: TERM, and KILL after `grace` seconds; again until nothing is found."""
    deadline = time.monotonic() + grace
    while left := sandbox_processes(settings):
        late = time.monotonic() > deadline
        if time.monotonic() > deadline + 10:
            raise SandboxError(f"processes {left} do not die; reboot, then run `make down` again")
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            except ProcessLookupError:
                continue
        time.sleep(0.1)


def host_pids(settings: Settings) -> dict[int, int]:
    """PIDs of our namespace, as supervisord names them, to the machine's."""
    pids: dict[int, int] = {}
    for pid in sandbox_processes(settings):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        seen = next(
            (line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [str(pid)]
        )
        # From the outside in: the machine's, ours, and for a process of a pod that pod's.
        pids[int(seen[min(1, len(seen) - 1)])] = pid
    return pids


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def set_kernel(settings: Settings) -> None:
    """Write what pods' networking needs, keeping what was there before for `restore_kernel`."""
    for module in ("br_netfilter", "overlay"):
        # Kernels that have them built in know no module by the name, or have no modules at all.
        subprocess.run(["modprobe", "--quiet", module], capture_output=True, check=False)
    record = settings.home / "kernel-before.json"
    if not record.exists():
        before = {name: _read_setting(name) for name in KERNEL_SETTINGS}
        record.write_text(json.dumps(before))
    for name, value in KERNEL_SETTINGS.items():
        if value is not None and _read_setting(name) != value:
            _write_setting(name, value)


def restore_kernel(settings: Settings) -> None:
    """Give the kernel the values back that it had before `set_kernel`."""
    record = settings.home / "kernel-before.json"
    if not record.exists():
        return
    for name, value in json.loads(record.read_text()).items():
        if value is not None and _read_setting(name) != value:
            _write_setting(name, value)
    record.unlink()


def make_cgroups() -> None:
    """The cgroup that all pods live below, in every hierarchy; the kubelet refuses to make it."""
    for hierarchy in _hierarchies():
        group = hierarchy / CGROUP
        group.mkdir(exist_ok=True)
        if (
            hierarchy.name == "cpuset"
        ):  # version 1 starts a cpuset empty, and a process cannot enter an empty one
            for name in ("cpuset.cpus", "cpuset.mems"):
                (group / name).write_text((hierarchy / name).read_text())


def cgroups() -> list[Path]:
    """Those of `make_cgroups` that exist."""
    return [hierarchy / CGROUP for hierarchy in _hierarchies() if (hierarchy / CGROUP).is_dir()]


def remove_cgroups() -> None:
    """Remove our cgroups bottom-up; the kernel needs a moment after the last process has gone."""
    deadline = time.monotonic() + 5
    while groups := cgroups():
        for group in groups:
            for directory, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):
                    Path(directory).rmdir()
        if time.monotonic() > deadline:
            return
        time.sleep(0.02)


def make_mount_points(settings: Settings) -> None:
    """The directories that `PRIVATE_DIRECTORIES` are mounted on; those that were missing go away with `down`."""
    missing = [path for path in PRIVATE_DIRECTORIES if not path.exists()]
    parents = [parent for path in missing for parent in path.parents if not parent.exists()]
    for path in missing:
        path.mkdir(parents=True)
    if missing:
        _mount_points_record(settings).write_text("\n".join(map(str, [*missing, *dict.fromkeys(parents)])))


def remove_mount_points(settings: Settings) -> None:
    """Remove the directories that `make_mount_points` made, while they are empty."""
    record = _mount_points_record(settings)
    for line in record.read_text().split() if record.exists() else []:
        with suppress(OSError):
            Path(line).rmdir()
    record.unlink(missing_ok=True)


def is_root_on_linux() -> bool:
    """Whether devices, rules, mounts and cgroups may be ours at all."""
    return sys.platform == "linux" and os.geteuid() == 0


def mounts_below(*directories: Path) -> list[Path]:
    """Mount points at or below directories, innermost first."""
    points = [Path(line.split()[1].encode().decode("unicode_escape")) for line in _lines("/proc/self/mounts")]
    return [point for point in reversed(points) if any(point.is_relative_to(one) for one in directories)]


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """One `up` or `down` at a time; the kernel frees the lock of one that was killed."""
    descriptor = os.open(settings.home, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another `up` or `down` is at work here; waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def claim(settings: Settings) -> None:
    """Write down which checkout this sandbox belongs to and which cluster it is for.

    Raises:
        SandboxError: the sandbox of another checkout, or for another cluster, or another native node runs here.
    """
    record = settings.home / "owner.json"
    kubeconfig = str(settings.kubeconfig) if settings.kubeconfig else None
    owner = Owner(checkout=str(CHECKOUT), kubeconfig=kubeconfig, registry=settings.registry)
    before = read_owner(settings.home)
    if before and before != owner and sandbox_processes(settings):
        what = f"the sandbox of {before.checkout}"
        if before.checkout == owner.checkout:
            what = f"a sandbox for {before.kubeconfig or 'the native node'}"
        raise SandboxError(
            f"{what} runs on this machine; run `make down` there or here, then try again", status=USER_MISTAKE
        )
    if settings.native and (home := _other_native_home(settings)):
        raise SandboxError(
            f"the sandbox in {home} runs on this machine, which can be one node only; run "
            f"`make down SLIPWAY_SANDBOX_HOME={home}`, then try again",
            status=USER_MISTAKE,
        )
    record.write_text(json.dumps(asdict(owner)))


def _other_native_home(settings: Settings) -> Path | None:
    """The home of another sandbox that holds the node's address."""
    prefix = f"{MARKER}=".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        for variable in _environ(entry).split(b"\0"):
            if variable.startswith(prefix):
                home = Path(os.fsdecode(variable.removeprefix(prefix)))
                owner = read_owner(home)
                if home != settings.home and owner and owner.kubeconfig is None:
                    return home
    return None


def _mount_points_record(settings: Settings) -> Path:
    return settings.home / "mount-points-made"


def _distribution() -> set[str]:
    fields = dict(line.split("=", 1) for line in _lines("/etc/os-release") if "=" in line)
    return {word for key in ("ID", "ID_LIKE") for word in fields.get(key, "").strip('"').split()}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _environ(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes()
    except OSError:
        return b""  # gone, or not ours to read


def _members(procs: Path) -> set[int]:
    try:
        return {int(word) for word in procs.read_text().split()}
    except OSError:
        return set()


def _hierarchies() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root]
    return (
        [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()] if root.is_dir() else []
    )


def _read_setting(name: str) -> str | None:
    try:
        return Path("/proc/sys", name).read_text().strip()
    except OSError:
        return None


def _write_setting(name: str, value: str) -> None:
    try:
        Path("/proc/sys", name).write_text(value)
    except OSError as error:
        if name == "net/ipv4/ip_forward":
            raise SandboxError(f"cannot set {name}: {error.strerror}; pods need it") from None


def _listener(port: int) -> str:
    """`name (pid N)` of the process that listens on a port, as far as /proc tells."""
    wanted = f":{port:04X}"
    inodes = {
        fields[9]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in (line.split() for line in _lines(table)[1:])
        if fields[1].endswith(wanted) and fields[3] == "0A"
    }
    targets = {f"socket:[{inode}]" for inode in inodes}
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(link.readlink()) in targets:
                pid = link.parts[2]
                return f"{Path('/proc', pid, 'comm').read_text().strip()} (pid {pid})"
        except OSError:
            continue
    return ""
