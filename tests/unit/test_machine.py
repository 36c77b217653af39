"""What the sandbox asks of the machine before it touches it: each refusal is one message that says what to do."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sandbox import machine, settings
from sandbox.errors import USER_MISTAKE, SandboxError


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(settings.load(), home=tmp_path / "home", cache=tmp_path / "cache")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))

    with pytest.raises(SandboxError, match=r"home has 1\.0 GiB free and needs 20: make room, or set") as told:
        machine.require_disk(config)

    assert told.value.status == USER_MISTAKE
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_told_with_the_process_that_has_it() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(SandboxError, match=rf"port {port} is in use by .*SLIPWAY_AIRFLOW_PORT") as told:
            machine.require_free_port(port, variable="SLIPWAY_AIRFLOW_PORT")

    assert told.value.status == USER_MISTAKE


@pytest.mark.parametrize(("platform", "user"), [("darwin", 0), ("linux", 1000)])
def test_where_the_node_cannot_run_the_commands_for_another_cluster_are_given(
    platform: str, user: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.sys, "platform", platform)
    monkeypatch.setattr(os, "geteuid", lambda: user)

    with pytest.raises(SandboxError) as told:
        machine.require_native_node()

    for part in ("kind create cluster", "k3d cluster create", "make up SLIPWAY_KUBECONFIG="):
        assert part in str(told.value)
    assert told.value.status == USER_MISTAKE


def test_a_pod_that_ends_while_our_processes_are_counted_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending, staying = tmp_path / "kubepods" / "ending", tmp_path / "kubepods" / "staying"
    for cgroup in (ending, staying):
        cgroup.mkdir(parents=True)
    (staying / "cgroup.procs").write_text("4242\n")
    scandir = os.scandir

    def meanwhile(path: str | os.PathLike[str]) -> object:
        if Path(path) == ending:
            ending.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", meanwhile)
    monkeypatch.setattr(machine, "cgroups", lambda: [tmp_path])

    assert 4242 in machine.sandbox_processes(replace(settings.load(), home=tmp_path / "home"))
