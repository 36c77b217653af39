"""supervisord runs the parts: it restarts them, keeps their logs and stops them in order.

On the native node it is the first process of a PID namespace of its own and sees mounts of its own. When it ends, even
by `kill -9`, the kernel ends every process below it, containers and their shims included, and with the last of them go
all mounts: nothing has to be hunted for afterwards.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from supervisor.xmlrpc import SupervisorTransport

from sandbox import machine
from sandbox.errors import SandboxError
from sandbox.settings import Settings
from sandbox.templating import render, write

STOP_SECONDS = 25


@dataclass(frozen=True, kw_only=True)
class Program:
    """One supervised part.

    Attributes:
        priority: lower starts earlier and stops later.
        files: its configuration; when one of them changes, the next `up` restarts the part.
    """

    name: str
    command: Sequence[str | Path]
    priority: int
    environment: dict[str, str] = field(default_factory=dict)
    files: Sequence[Path] = ()
    directory: Path | None = None
    stop_seconds: int = 10


@dataclass(frozen=True)
class Part:
    """What supervisord says of a program; `pid` is the one of its own PID namespace."""

    name: str
    state: str
    since: float
    pid: int
    error: str


def start(settings: Settings, programs: Sequence[Program]) -> None:
    """Have a supervisord that knows exactly these programs, running or not."""
    config = render(
        "templates/supervisord.conf.j2",
        commands={program.name: _with_environment(settings, program) for program in programs},
        digests={program.name: _digest(program) for program in programs},
        home=settings.home,
        logs=settings.logs,
        run=settings.run,
        socket=_socket(settings),
        programs=programs,
    )
    write(_config(settings), config, mode=0o600)
    if is_running(settings):
        _reload(settings)
    else:
        _launch(settings)


def is_running(settings: Settings) -> bool:
    """Whether supervisord answers."""
    try:
        with _api(settings) as api:
            return bool(api.getState()["statecode"] == 1)
    except (OSError, xmlrpc.client.Error):
        return False


def start_programs(settings: Settings, names: Iterable[str]) -> None:
    """Start those that do not run; come back at once, since most wait for one another."""
    states = {part.name: part.state for part in parts(settings)}
    for name in names:
        if states.get(name) not in {"RUNNING", "STARTING", "BACKOFF"}:
            _call(settings, "startProcess", name, False)


def stop_programs(settings: Settings, names: Iterable[str], *, timeout: float) -> None:
    """Stop programs all at once; supervisord by itself takes one after the other, and a second for each."""
    wanted = set(names)
    for part in parts(settings):
        if part.name in wanted and part.state in {"RUNNING", "STARTING"}:
            _call(settings, "stopProcess", part.name, False)
    deadline = time.monotonic() + timeout
    while any(part.name in wanted and part.state == "STOPPING" for part in parts(settings)):
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def require_running(settings: Settings, name: str) -> None:
    """Fail with the end of its log when a part has given up.

    Raises:
        SandboxError: supervisord no longer tries to start it.
    """
    for part in parts(settings):
        if part.name == name and part.state == "FATAL":
            raise SandboxError(f"{name} does not start; see {settings.logs / name}.log")


def parts(settings: Settings) -> list[Part]:
    """All programs in the order in which they start; empty when supervisord does not run."""
    try:
        with _api(settings) as api:
            found = cast(list[dict[str, Any]], api.getAllProcessInfo())
    except (OSError, xmlrpc.client.Error):
        return []
    return [
        Part(
            name=info["name"],
            state=info["statename"],
            since=float(info["start"]),
            pid=info["pid"],
            error=info["spawnerr"],
        )
        for info in found
    ]


def shut_down(settings: Settings, *, timeout: float) -> None:
    """Stop all parts in order, then supervisord; come back when it is gone or the time is up."""
    try:
        with _api(settings) as api:
            api.shutdown()
    except (OSError, xmlrpc.client.Error):
        return
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and machine.sandbox_processes(settings):
        time.sleep(0.05)


def _launch(settings: Settings) -> None:
    settings.run.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(_config(settings))]
    if settings.native:
        command = _in_namespaces(settings, command)
    out = settings.logs / "supervisord.out"
    with out.open("wb") as log:
        started = subprocess.Popen(
            command,
            cwd=settings.home,
            env={**os.environ, machine.MARKER: str(settings.home)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    deadline = time.monotonic() + 20
    while not is_running(settings):
        if started.poll() is not None or time.monotonic() > deadline:
            lines = out.read_text(errors="replace").strip().splitlines() or ["it does not answer"]
            raise SandboxError(f"supervisord does not start: {lines[-1][:300]} (all of it: {out})")
        time.sleep(0.05)


def _in_namespaces(settings: Settings, command: list[str]) -> list[str]:
    """Wrap a command so that it is PID 1 and owns its mounts.

    The directories that containerd, its shims, CNI and the kubelet use under fixed names become file systems in memory
    of this namespace: they never meet another containerd of the machine, and they vanish with it.
    """
    machine.make_mount_points(settings)
    unshare = shutil.which("unshare")
    if unshare is None:
        raise SandboxError("unshare is not installed; run `make setup`")
    own = " && ".join(
        f"mount -t tmpfs -o mode=0755 slipway-sandbox {path}" for path in machine.PRIVATE_DIRECTORIES
    )
    script = f'mount --make-rshared / && {own} && exec "$@"'
    flags = ["--mount", "--propagation", "slave", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return [unshare, *flags, "sh", "-c", script, "sh", *command]


def _reload(settings: Settings) -> None:
    """Take over a changed configuration; parts whose lines changed are stopped and come back when started."""
    added, changed, removed = cast(list[list[list[str]]], _call(settings, "reloadConfig"))[0]
    stop_programs(settings, [*removed, *changed], timeout=STOP_SECONDS)
    for name in [*removed, *changed]:
        _call(settings, "stopProcessGroup", name)
        _call(settings, "removeProcessGroup", name)
    for name in [*changed, *added]:
        _call(settings, "addProcessGroup", name)


def _with_environment(settings: Settings, program: Program) -> list[str | Path]:
    """A command that reads its environment from a file.

    supervisord's own `environment=` cannot hold a value with quotes, and its file is not the place for secrets.
    """
    if not program.environment:
        return list(program.command)
    path = settings.home / "supervisor" / f"{program.name}.env"
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(program.environment.items())]
    write(path, "\n".join(lines) + "\n", mode=0o600)
    return ["/bin/sh", "-c", '. "$0"; exec "$@"', path, *program.command]


def _digest(program: Program) -> str:
    made_of = [sorted(program.environment.items()), [file.read_bytes() for file in program.files]]
    return hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]


def _config(settings: Settings) -> Path:
    return settings.home / "supervisor" / "supervisord.conf"


def _socket(settings: Settings) -> Path:
    return settings.run / "supervisor.sock"


@contextmanager
def _api(settings: Settings) -> Iterator[Any]:
    """The XML-RPC interface of supervisord; a Unix socket, so the address is a placeholder."""
    with closing(SupervisorTransport(None, None, f"unix://{_socket(settings)}")) as transport:
        yield xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor


def _call(settings: Settings, method: str, *arguments: object) -> Any:
    """Call supervisord; its refusals become one line."""
    try:
        with _api(settings) as api:
            return getattr(api, method)(*arguments)
    except xmlrpc.client.Fault as fault:
        what = " ".join([method, *(str(one) for one in arguments if isinstance(one, str))])
        raise SandboxError(f"supervisord refuses {what}: {fault.faultString[:200]}") from None
    except OSError:
        raise SandboxError("supervisord is gone; run the same command again") from None
