"""`down` and `reset`: stop everything, and prove that nothing of ours is left on the machine."""

from __future__ import annotations

import shutil

from sandbox import commands, machine, network, supervisor
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import Settings

# What other parts speak to while they stop.
STOPPED_LAST = ("kube-apiserver", "etcd", "containerd")


def down(config: Settings, *, delete_state: bool) -> None:
    """Stop all parts; state stays for the next `up` unless it is to be deleted.

    It makes no difference what state the sandbox is in: running, half-started, killed, or gone with a reboot. What
    was started from another checkout is stopped as well.

    Raises:
        SandboxError: something is left; says what.
    """
    if not config.home.is_dir():
        say("down: there is no sandbox")
        return
    with machine.locked(config):
        others = [part.name for part in supervisor.parts(config) if part.name not in STOPPED_LAST]
        for tier in (others, *([name] for name in STOPPED_LAST)):
            supervisor.stop_programs(config, tier, timeout=supervisor.STOP_SECONDS)
        supervisor.shut_down(config, timeout=supervisor.STOP_SECONDS)
        machine.kill_sandbox_processes(config)
        if config.native and machine.is_root_on_linux():
            _clean_machine(config)
        shutil.rmtree(config.run, ignore_errors=True)
        left = leftovers(config)
        if left:
            raise SandboxError(f"down: left on the machine: {'; '.join(left)}")
        if delete_state:
            shutil.rmtree(config.home)
    say(
        "down: nothing is left"
        + (", the state is deleted" if delete_state else f"; state stays in {config.home}")
    )


def leftovers(config: Settings) -> list[str]:
    """What of the sandbox is on the machine: processes, mounts, devices, chains, cgroups, files under /run."""
    found = [f"process {pid}" for pid in machine.sandbox_processes(config)]
    found += [f"mount {point}" for point in machine.mounts_below(config.home, config.run)]
    if config.native:
        found += [f"cgroup {group}" for group in machine.cgroups()]
    if config.native and machine.is_root_on_linux():
        found += network.leftovers()
    return found + ([str(config.run)] if config.run.exists() else [])


def _clean_machine(config: Settings) -> None:
    """What outlives processes: mounts of a sandbox without namespaces of its own, devices, rules, cgroups, settings."""
    for point in machine.mounts_below(config.home, config.run):
        commands.run(["umount", "--lazy", point], check=False)
    network.remove()
    machine.remove_cgroups()
    machine.restore_kernel(config)
    machine.remove_mount_points(config)
