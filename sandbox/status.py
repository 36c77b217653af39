"""`status` and `logs`: what runs, since when, and how to reach it."""

from __future__ import annotations

import os
import time

from sandbox import airflow, machine, settings, supervisor, traefik
from sandbox.errors import USER_MISTAKE, SandboxError
from sandbox.settings import Settings, read_owner


def status(config: Settings) -> int:
    """Print a table of all parts and the addresses; 0 when all of them run, else 1."""
    parts = supervisor.parts(config)
    if not parts:
        print("nothing runs; `make up` starts everything")
        return 1
    pids = machine.host_pids(config)
    print(f"{'PART':<26}{'STATE':<10}{'SINCE':<22}{'PID':>8}{'MEMORY':>11}")
    for part in parts:
        runs = part.state == "RUNNING"
        pid = pids.get(part.pid, part.pid)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(part.since)) if runs else "-"
        memory = f"{machine.resident_bytes(pid) / 2**20:.0f} MiB" if runs else "-"
        print(f"{part.name:<26}{part.state.lower():<10}{since:<22}{pid if runs else '-':>8}{memory:>11}")
    _print_addresses(config)
    return 0 if all(part.state == "RUNNING" for part in parts) else 1


def logs(config: Settings, part: str | None) -> None:
    """Follow the log of one part, or of all.

    Raises:
        SandboxError: there is no such part.
    """
    files = sorted(config.logs.glob("*.log"))
    chosen = [file for file in files if part is None or file.stem == part]
    if not chosen:
        known = ", ".join(file.stem for file in files) or "none yet"
        raise SandboxError(f"there is no log {part or ''}; there are: {known}", status=USER_MISTAKE)
    os.execvp("tail", ["tail", "-n", "50", "-F", *map(str, chosen)])  # noqa: S606 - no shell is wanted


def _print_addresses(config: Settings) -> None:
    owner = read_owner(config.home)
    print(
        f"\nAirflow     {config.airflow_url}  user {airflow.USER}, password in {airflow.password_file(config)}"
    )
    print(f"S3          {config.s3_url}  keys in {config.secrets}/s3-*")
    print(f"Kubernetes  export KUBECONFIG={config.admin_kubeconfig}")
    if any(part.name == traefik.NAME for part in supervisor.parts(config)):
        print(f"Gateway     {settings.GATEWAY_IP}, for names below {traefik.DOMAIN}")
    print(f"terminal    . {airflow.env_file(config)}")
    print(f"logs        {config.logs}  (make logs PART=…)")
    print(f"checkout    {owner.checkout if owner else 'unknown'}")
