"""The images of the sandbox, built on this machine: there is no Docker engine and no registry.

A root file system comes from mmdebstrap, Python packages from uv (hash-locked), and buildah puts them together as
the Containerfiles under ``include/images`` say. What takes long runs side by side and is kept under the cache
folder (``~/.cache/slipway/images``, or ``$SLIPWAY_CACHE/images``), each part under the hash of what it is made
of: an interrupted build goes on where it was, and nothing half-made has a final name.

    python -m sandbox.images [NAME…]
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.errors import SandboxError

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = ROOT / "plugins"
if str(PLUGINS) not in sys.path:
    sys.path.insert(0, str(PLUGINS))

from slipway.catalog.images import REPOSITORY, code_files, image_parts, image_reference, image_tag  # noqa: E402

INCLUDE = ROOT / "include"
PACKAGE = PLUGINS / "slipway"
NAMES = ("pause", "tools", "vllm-cpu")
# Debian bookworm's Python, which is the one in the images.
PYTHON_VERSION = "3.11"
GLIBC = "2_36"
# Only these two are stood on by others; the rest go straight into their archives, which saves a copy.
STOOD_ON = ("base", "binutils")
# Its layers stay in buildah's storage, so that a change of code costs one small layer.
LAYERED = "tools"
KEPT_ARCHIVES = 2
LONGEST_QUOTE = 300

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
    return Image(name=name, reference=f"{REPOSITORY}/{name}:{tag}", archive=_cache() / f"{name}-{tag}.tar")


def ensure_images(names: Sequence[str] = NAMES, *, log: Log) -> list[Image]:
    """Build the images that are not in the cache yet, side by side, and give all of them.

    Args:
        names: folders of include/images.
        log: takes one line of progress.

    Raises:
        SandboxError: a tool is missing, a name is unknown, or a build failed; says what to do.
    """
    for name in names:
        if name not in NAMES:
            raise SandboxError(f"There is no image {name!r}: choose from {', '.join(NAMES)}")
    images = [image(name) for name in names]
    if all(each.archive.exists() for each in images):
        return images
    _require("buildah", "mmdebstrap")
    _uv()
    with _locked(log):
        missing = [each for each in images if not each.archive.exists()]
        if missing:
            with _Build(log) as build:
                build.all(missing)
            for each in missing:
                _forget_older(each)
    return images


def import_images(images: Sequence[Image], *, address: str, log: Log = print) -> None:
    """Bring the images into a containerd's k8s.io namespace, those that it hasn't got.

    Args:
        images: what ``ensure_images`` gave.
        address: path of containerd's socket.
        log: takes one line of progress.

    Raises:
        SandboxError: containerd doesn't answer or refuses an archive.
    """
    ctr = ["ctr", "--address", address, "--namespace", "k8s.io", "images"]
    there = set(_output([*ctr, "list", "--quiet"], doing="list containerd's images").split())
    for each in images:
        if each.reference not in there:
            started = time.monotonic()
            _output([*ctr, "import", str(each.archive)], doing=f"import {each.archive}")
            log(f"image {each.name}: imported in {time.monotonic() - started:.1f} s")


def push_images(registry: str, names: Sequence[str] = NAMES, *, log: Log = print) -> dict[str, str]:
    """Push the images to a registry, for a cluster that isn't on this machine.

    Args:
        registry: host, optional port and path (``registry.example:5000/team``), with ``http://`` before it when it
            speaks no TLS. Credentials are those of ``buildah login``.
        names: folders of include/images.
        log: takes one line of progress.

    Returns:
        The pushed reference of each name.
    """
    host = registry.removeprefix("http://").removeprefix("https://").rstrip("/")
    # As container runtimes do: a registry on this very machine is asked without TLS.
    insecure = registry.startswith("http://") or host.split(":")[0] in ("localhost", "127.0.0.1")
    pushed = {}
    for each in ensure_images(names, log=log):
        target = f"{host}/{each.reference.removeprefix('localhost/')}"
        with _locked(log), _storage_in_use():
            _output(
                [*_buildah(), "pull", "-q", f"docker-archive:{each.archive}"], doing=f"read {each.archive}"
            )
            verify = f"--tls-verify={'false' if insecure else 'true'}"
            _output(
                [*_buildah(), "push", "-q", verify, each.reference, f"docker://{target}"],
                doing=f"push {target} (is the registry up, and are you logged in: buildah login {host}?)",
            )
        log(f"image {each.name}: pushed as {target}")
        pushed[each.name] = target
    return pushed


class _Build:
    """One round of building: threads for what can run side by side, each child ended if the round ends early."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.cache = _cache()
        self.pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="image")
        self.children: set[subprocess.Popen[bytes]] = set()
        self.ended = threading.Event()

    def __enter__(self) -> _Build:
        _clean_storage()
        for left in [*self.cache.glob("*.part"), *self.cache.glob("wheels/*.part")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for child in tuple(self.children):
            child.terminate()
        self.pool.shutdown(wait=True, cancel_futures=True)
        _clean_storage()

    def all(self, images: Sequence[Image]) -> None:
        """Build them all; the first failure ends the round."""
        # Wheels need only the network and the disk: they are fetched while the root file system is being made.
        wheels = {each.name: self.pool.submit(self.wheels, each.name) for each in images}
        stood_on = {part for each in images for part in image_parts(each.name, include=INCLUDE)} & set(
            STOOD_ON
        )
        made: dict[str, Future[None]] = {}
        if "base" in stood_on:
            made["base"] = self.pool.submit(self.base)
        for part in sorted(stood_on - {"base"}):
            made[part] = self.pool.submit(self.part, part, after=[made["base"]])
        work = []
        for each in images:
            after = [made[part] for part in image_parts(each.name, include=INCLUDE) if part in made]
            work.append(self.pool.submit(self.image, each, after=after, wheels=wheels[each.name]))
        for future in work:
            future.result()

    def image(self, wanted: Image, *, after: Sequence[Future[None]], wheels: Future[Path | None]) -> None:
        """Build one image into its archive, once what it stands on is there."""
        for future in after:
            future.result()
        packages = wheels.result()
        started = time.monotonic()
        folder = INCLUDE / "images" / wanted.name
        command = self.bud(wanted.name)
        if packages:
            command += ["--build-context", f"wheels={packages}"]
        part = wanted.archive.with_suffix(".part")
        target = f"docker-archive:{part}:{wanted.reference}"
        if wanted.name == LAYERED:
            code = self.stage_code()
            command += ["--build-context", f"package={code}", "--layers", "-t", wanted.reference, str(folder)]
            self.run(command, doing=f"build the image {wanted.name}", log_name=wanted.name)
            self.run(
                [*_buildah(), "push", "-q", wanted.reference, target],
                doing=f"write {wanted.archive}",
                log_name=wanted.name,
            )
            shutil.rmtree(code)
        else:
            command += ["--layers=false", "-t", target, str(folder)]
            self.run(command, doing=f"build the image {wanted.name}", log_name=wanted.name)
        if reference(wanted.name) != wanted.reference:
            raise SandboxError(
                f"The image {wanted.name} was edited while it was being built: run the same command again"
            )
        part.rename(wanted.archive)
        size = wanted.archive.stat().st_size / 1e6
        self.log(f"image {wanted.name}: built in {time.monotonic() - started:.1f} s, {size:,.0f} MB")

    def wheels(self, name: str) -> Path | None:
        """The Python packages of an image in a folder, as its Containerfile's stage ``wheels`` would make it.

        On this side of the chroot uv finds the user's own index, proxy and certificates, shares its cache with
        other images, and links files instead of copying them.
        """
        folder = INCLUDE / "images" / name
        lock = folder / "requirements.lock"
        if not lock.exists():
            return None
        slim = folder / "slim.sh"
        made_of = b"".join(path.read_bytes() for path in (lock, slim) if path.exists())
        target = self.cache / "wheels" / f"{name}-{hashlib.sha256(made_of).hexdigest()[:12]}"
        if target.exists():
            return target
        started = time.monotonic()
        part = target.with_suffix(".part")
        machine = platform.machine()
        environment = {"UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(self.cache / "uv"))}
        self.run(
            [
                *_uv(), "pip", "install", "--quiet", "--no-progress",
                "--python", sys.executable, "--python-version", PYTHON_VERSION,
                "--python-platform", f"{machine}-manylinux_{GLIBC}", "--only-binary", ":all:",
                "--no-deps", "--require-hashes", "--target", str(part / "wheels"), "--requirement", str(lock),
            ],
            doing=f"install the Python packages of the image {name}",
            log_name=f"{name}-wheels",
            environment=environment,
        )  # fmt: skip
        if slim.exists():
            self.run(
                ["sh", str(slim), str(part / "wheels")],
                doing=f"trim the image {name}",
                log_name=f"{name}-wheels",
            )
        for old in self.cache.glob(f"wheels/{name}-{'?' * 12}"):
            shutil.rmtree(old)
        part.rename(target)
        self.log(f"image {name}: Python packages in {time.monotonic() - started:.1f} s")
        return target

    def base(self) -> None:
        """The Debian image that the others stand on, in buildah's storage."""
        if self.in_storage("base"):
            return
        started = time.monotonic()
        folder = INCLUDE / "images" / "base"
        lines = (folder / "rootfs.conf").read_text(encoding="utf-8").splitlines()
        arguments = [line for line in lines if line and not line.startswith("#")]
        tag = image_tag("base", include=INCLUDE, package=PACKAGE)
        context = self.cache / f"base-{tag}"
        rootfs = context / "rootfs.tar"
        if not rootfs.exists():
            part = self.cache / f"base-{tag}.part"
            part.mkdir(parents=True)
            self.run(
                ["mmdebstrap", "--format=tar", *arguments, str(part / "rootfs.tar")],
                doing="make the Debian root file system",
                log_name="base",
            )
            part.rename(context)
        self.run(
            [*self.bud("base"), "-f", str(folder / "Containerfile"), "-t", _stored("base"), str(context)],
            doing="build the image base",
            log_name="base",
        )
        shutil.rmtree(context)
        self.log(f"image base: built in {time.monotonic() - started:.1f} s")

    def part(self, name: str, *, after: Sequence[Future[None]]) -> None:
        """An image that others use while they are built, in buildah's storage."""
        for future in after:
            future.result()
        if not self.in_storage(name):
            started = time.monotonic()
            self.run(
                [*self.bud(name), "-t", _stored(name), str(INCLUDE / "images" / name)],
                doing=f"build the image {name}",
                log_name=name,
            )
            self.log(f"image {name}: built in {time.monotonic() - started:.1f} s")

    def stage_code(self) -> Path:
        """A folder with the package's files that the tools image carries, and nothing else."""
        target = self.cache / "code.part"
        for source in code_files(PACKAGE):
            copy = target / source.relative_to(PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            copy.chmod(0o644)
        return target

    def in_storage(self, name: str) -> bool:
        """Whether buildah's storage has the image."""
        done = subprocess.run(
            [*_buildah(), "inspect", "--type", "image", _stored(name)], capture_output=True, check=False
        )
        return done.returncode == 0

    def bud(self, name: str) -> list[str]:
        """The start of a build command: chroot isolation needs no OCI runtime and no cgroup of its own."""
        command = [*_buildah(), "bud", "--isolation", "chroot", "--pull-never", "--no-hosts"]
        for part in image_parts(name, include=INCLUDE):
            if part != name:
                command += ["--build-arg", f"{part.upper()}={_stored(part)}"]
        return command

    def run(
        self, command: Sequence[str], *, doing: str, log_name: str, environment: dict[str, str] | None = None
    ) -> None:
        """Run a child with its output in a log file; a failure quotes the end of it."""
        path = self.cache / "logs" / f"{log_name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as output:
            # However this process ends, no build goes on behind its back and none holds the storage.
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
            self.children.add(child)
            try:
                status = child.wait()
            finally:
                self.children.discard(child)
        if self.ended.is_set():
            raise SandboxError(f"Stopped while going to {doing}: run the same command again to go on")
        if status != 0:
            raise SandboxError(
                f"Could not {doing}: {_last_word(path) or f'exit status {status}'} (all of it: {path})"
            )


def _cache() -> Path:
    """Where archives and parts are kept."""
    root = os.environ.get("SLIPWAY_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "slipway") / "images"


def _storage() -> Path:
    return _cache() / "storage"


def _buildah() -> list[str]:
    """Buildah with a storage of our own: nothing of the user's is touched, and all of it goes with the cache."""
    return [
        "buildah", "--root", str(_storage()), "--runroot", str(_run_root()), "--storage-driver", "overlay",
    ]  # fmt: skip


def _run_root() -> Path:
    """Buildah's state of running work, which must not outlive a reboot."""
    name = hashlib.sha256(str(_storage()).encode()).hexdigest()[:12]
    return Path("/run", f"slipway-images-{name}")


def _uv() -> list[str]:
    """uv: the one beside this Python, else the one on the path."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise SandboxError("uv is missing: install it with python3 -m pip install uv")
    return [found]


def _stored(name: str) -> str:
    return reference(name)


def _require(*programs: str) -> None:
    if os.geteuid() != 0:
        raise SandboxError("Building images needs root (mmdebstrap and chroot): run it with sudo")
    missing = [program for program in programs if not shutil.which(program)]
    if missing:
        raise SandboxError(
            f"Missing: {', '.join(missing)}. Install with: apt-get install {' '.join(missing)}"
        )


@contextmanager
def _locked(log: Log) -> Iterator[None]:
    """One builder at a time on this cache: two would make the same parts."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log("images: another process is building, waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _storage_in_use() -> Iterator[None]:
    """Leave no mount behind that buildah's storage made."""
    try:
        yield
    finally:
        _clean_storage()


def _clean_storage() -> None:
    """Remove working containers and mounts that an interrupted build left; call with the lock held."""
    if not _storage().exists():
        return
    subprocess.run([*_buildah(), "rm", "--all"], capture_output=True, check=False)
    mounts = [
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    ]
    for mount in sorted((each for each in mounts if each.startswith(f"{_storage()}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
    shutil.rmtree(_run_root(), ignore_errors=True)


def _forget_older(built: Image) -> None:
    """Delete old archives of the same image, and their copies in buildah's storage, except the newest few."""
    archives = sorted(
        built.archive.parent.glob(f"{built.name}-{'?' * 12}.tar"),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    for old in archives[KEPT_ARCHIVES:]:
        old.unlink()
        stored = f"{REPOSITORY}/{built.name}:{old.stem.removeprefix(built.name + '-')}"
        subprocess.run([*_buildah(), "rmi", stored], capture_output=True, check=False)


def _output(command: Sequence[str], *, doing: str) -> str:
    """What a command prints; a failure is one line with the end of its own message."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SandboxError(f"Could not {doing}: {command[0]} is missing (apt-get install it)") from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise SandboxError(f"Could not {doing}: {said}")
    return done.stdout


def _last_word(log: Path) -> str:
    """The line of a log that says most: the last with "error" in it, else the last."""
    lines = [
        line.strip()
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if line.strip()
    ]
    errors = [
        line for line in lines if "error" in line.lower() and not line.startswith("Error: building at STEP")
    ]
    return (errors or lines or [""])[-1][:LONGEST_QUOTE]


def main(arguments: Sequence[str]) -> int:
    """Build the named images, or all, and print where each is."""
    try:
        for each in ensure_images(
            arguments or NAMES, log=lambda line: print(line, file=sys.stderr, flush=True)
        ):
            print(f"{each.reference}\t{each.archive}")
    except SandboxError as error:
        print(error, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("Stopped: the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
