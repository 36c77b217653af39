"""nfs-ganesha: a real NFS 4 server in user space, for weights that come from an export.

Its programs are taken out of Debian's packages into the cache instead of being installed, which would bring rpcbind and
the kernel's NFS client onto the machine; libnfs, the client, comes the same way. It takes 10 MB of memory.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sandbox import supervisor
from sandbox.errors import SandboxError
from sandbox.progress import say
from sandbox.settings import NODE_IP, Settings
from sandbox.supervisor import Program
from sandbox.templating import render, write

NAME = "nfs"
PORT = 12049
EXPORT = "/export"

_PACKAGES = (
    "nfs-ganesha",
    "nfs-ganesha-vfs",
    "libntirpc4.3",
    "liburcu8",
    "libwbclient0",
    "libnfsidmap1",
    "libnfs13",
)


@dataclass(frozen=True)
class Tree:
    """Where the packages' files are."""

    root: Path

    @property
    def server(self) -> Path:
        """The server's program."""
        return self.root / "usr/bin/ganesha.nfsd"

    @property
    def _libraries(self) -> Path:
        # By rule, not by looking: the programs are described before the packages are there.
        return self.root / f"usr/lib/{platform.machine()}-linux-gnu"

    @property
    def plugins(self) -> Path:
        """Where the server finds its file system module."""
        return self._libraries / "ganesha"

    @property
    def client(self) -> Path:
        """libnfs, for ``SLIPWAY_LIBNFS``."""
        return self._libraries / "libnfs.so.13"

    @property
    def environment(self) -> dict[str, str]:
        """What the server needs to find its libraries."""
        return {"LD_LIBRARY_PATH": f"{self.root / 'usr/lib/ganesha'}:{self._libraries}"}


def tree(cache: Path) -> Tree:
    """Where the packages' files are, or would be."""
    key = hashlib.sha256(" ".join(_PACKAGES).encode()).hexdigest()[:12]
    return Tree(cache / f"nfs-{key}")


def ensure(cache: Path) -> Tree:
    """Take the programs out of Debian's packages, once.

    Raises:
        SandboxError: a package cannot be had.
    """
    made = tree(cache)
    if made.root.is_dir():
        return made
    cache.mkdir(parents=True, exist_ok=True)
    say("taking nfs-ganesha out of Debian's packages")
    # apt fetches as a user of its own, who may not write below root's home.
    with tempfile.TemporaryDirectory(prefix="slipway-nfs-") as work:
        Path(work).chmod(0o755)
        _download(Path(work))
        part = made.root.with_suffix(f".part-{os.getpid()}")
        for package in sorted(Path(work).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, part], check=True)
        try:
            part.rename(made.root)
        except OSError:
            shutil.rmtree(part)
    return made


def configuration(made: Tree, *, address: str, port: int, directory: Path, state: Path) -> str:
    """What the server reads: one directory, exported read-only at ``/export``, everybody as nobody."""
    return render(
        "templates/ganesha.conf.j2",
        address=address,
        port=port,
        export=EXPORT,
        directory=directory,
        state=state,
        plugins=made.plugins,
    )


def command(made: Tree, *, config: Path, state: Path) -> list[str]:
    """How the server is started."""
    return [str(made.server), "-F", "-f", str(config), "-L", "STDERR", "-p", str(state / "ganesha.pid")]


def program(config: Settings) -> Program:
    """The server, on the address that this machine and the pods both use."""
    made, state = tree(config.cache), config.home / "nfs-state"
    path = config.home / "nfs" / "ganesha.conf"
    text = configuration(made, address=NODE_IP, port=PORT, directory=exported(config), state=state)
    write(path, text)
    return Program(
        name=NAME,
        command=command(made, config=path, state=state),
        environment=made.environment,
        priority=55,
        files=[path],
    )


def exported(config: Settings) -> Path:
    """The directory that is exported."""
    return config.home / "nfs" / "export"


def url(path: str) -> str:
    """A source below the export, as a fetch order names it."""
    return f"nfs://{NODE_IP}{EXPORT}/{path}?version=4&nfsport={PORT}"


def start(config: Settings) -> None:
    """Start the server and wait until it listens.

    Raises:
        SandboxError: it does not.
    """
    ensure(config.cache)
    for directory in (exported(config), config.home / "nfs-state"):
        directory.mkdir(parents=True, exist_ok=True)
    supervisor.start_programs(config, [NAME])
    wait(NODE_IP, PORT, log=config.logs / f"{NAME}.log")
    say("nfs ready")


def wait(address: str, port: int, *, log: Path) -> None:
    """Wait until an NFS server listens.

    Raises:
        SandboxError: it does not after half a minute.
    """
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise SandboxError(f"nfs-ganesha does not listen on {address}:{port}; see {log}") from None
        time.sleep(0.1)


def _download(directory: Path) -> None:
    for attempt in ("", "update"):
        if attempt:
            subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True)
        done = subprocess.run(
            ["apt-get", "download", "-qq", *_PACKAGES],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    raise SandboxError(f"nfs-ganesha cannot be had from Debian: {said[:300]}")
