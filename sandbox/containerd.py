"""containerd, with directories and a socket of its own, so that it never meets another one of the machine."""

from __future__ import annotations

from pathlib import Path

from sandbox import commands
from sandbox.settings import Settings
from sandbox.supervisor import Program
from sandbox.templating import render, write


def program(config: Settings, *, pause_image: str) -> Program:
    """containerd, configured for this sandbox."""
    path = config.home / "containerd.toml"
    text = render(
        "templates/containerd.toml.j2",
        home=config.home,
        run=config.run,
        socket=socket(config),
        cni=config.home / "cni",
        pause_image=pause_image,
    )
    write(path, text)
    return Program(
        name="containerd", command=["/usr/bin/containerd", "--config", path], files=[path], priority=10
    )


def socket(config: Settings) -> Path:
    """Where containerd listens."""
    return config.run / "containerd.sock"


def is_ready(config: Settings) -> bool:
    """Whether containerd answers."""
    return socket(config).exists() and commands.succeeds([*_ctr(config), "version"])


def _ctr(config: Settings) -> list[str | Path]:
    return ["ctr", "--address", socket(config), "--namespace", "k8s.io"]
