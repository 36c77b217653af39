"""Where images and what they are made of are kept, and who may touch that: one cache, one builder at a time."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
if str(PLUGINS) not in sys.path:
    sys.path.insert(0, str(PLUGINS))

from slipway.catalog.images import REPOSITORY, image_reference, image_tag  # noqa: E402

INCLUDE = ROOT / "include"
PACKAGE = PLUGINS / "slipway"
NAMES = ("pause", "tools", "vllm-cpu")
KEPT_ARCHIVES = 2

Log = Callable[[str], None]


@dataclass(frozen=True)
class Image:
    """An image that a cluster can be given.

    Attributes:
        name: its folder in include/images.
        reference: what a pod names it by; the tag is the hash of its content.
        archive: the docker-archive that holds it, once it is built.
    """

    name: str
    reference: str
    archive: Path


def reference(name: str) -> str:
    """The name by which pods use the image; reads files and builds nothing."""
    return image_reference(name, include=INCLUDE, package=PACKAGE)


def image(name: str) -> Image:
    """The record of an image, built or not."""
    tag = image_tag(name, include=INCLUDE, package=PACKAGE)
    return Image(name=name, reference=f"{REPOSITORY}/{name}:{tag}", archive=cache() / f"{name}-{tag}.tar")


def cache() -> Path:
    """Where archives and parts are kept."""
    root = os.environ.get("SLIPWAY_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "slipway") / "images"


def storage() -> Path:
    """The folder of buildah's own storage."""
    return cache() / "storage"


def buildah() -> list[str]:
    """Buildah with a storage of our own: nothing of the user's is touched, and all of it goes with the cache."""
    return [
        "buildah", "--root", str(storage()), "--runroot", str(_run_root()), "--storage-driver", "overlay",
    ]  # fmt: skip


def _run_root() -> Path:
    """Buildah's state of running work, which must not outlive a reboot."""
    name = hashlib.sha256(str(storage()).encode()).hexdigest()[:12]
    return Path("/run", f"slipway-images-{name}")


def uv() -> list[str]:
    """uv: the one beside this Python, else the one on the path."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise SandboxError("uv is missing: install it with python3 -m pip install uv")
    return [found]


def require(*programs: str) -> None:
    """Refuse to build without root or without a program that is named, and say how to get it."""
    if os.geteuid() != 0:
        raise SandboxError("Building images needs root (mmdebstrap and chroot): run it with sudo")
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise SandboxError(
            f"Missing: {', '.join(missing)}. Install with: apt-get install {' '.join(missing)}"
        )


@contextmanager
def locked(log: Log) -> Iterator[None]:
    """One builder at a time on this cache: two would make the same parts."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log("images: another process is building, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def storage_in_use() -> Iterator[None]:
    """Leave no mount behind that buildah's storage made."""
    try:
        yield
    finally:
        clean_storage()


def clean_storage() -> None:
    """Remove working containers and mounts that an interrupted build left; call with the lock held."""
    if not storage().exists():
        return
    subprocess.run([*buildah(), "rm", "--all"], capture_output=True, check=False)
    mounts = [
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    ]
    for mount in sorted((each for each in mounts if each.startswith(f"{storage()}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
    shutil.rmtree(_run_root(), ignore_errors=True)


def forget_older(built: Image) -> None:
    """Delete old archives of the same image, and their copies in buildah's storage, except the newest few."""
    archives = sorted(
        built.archive.parent.glob(f"{built.name}-{'?' * 12}.tar"),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    for old in archives[KEPT_ARCHIVES:]:
        old.unlink()
        stored = f"{REPOSITORY}/{built.name}:{old.stem.removeprefix(built.name + '-')}"
        subprocess.run([*buildah(), "rmi", stored], capture_output=True, check=False)


def output(command: Sequence[str], *, doing: str) -> str:
    """What a command prints; a failure is one line with the end of its own message."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SandboxError(f"Could not {doing}: {command[0]} is missing (apt-get install it)") from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SandboxError(f"Could not {doing}: {said}")
    return done.stdout
