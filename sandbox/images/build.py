"""One round of building images: root file system, Python packages, and buildah to put them together."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.images.store import INCLUDE, PACKAGE, Image, Log, buildah, cache, clean_storage, reference, uv
from slipway.catalog.images import code_files, image_parts, image_tag

# Debian bookworm's Python, which is the one in the images.
PYTHON_VERSION = "3.11"
GLIBC = "2_36"
# Only these two are stood on by others; the rest go straight into their archives, which saves a copy.
STOOD_ON = ("base", "binutils")
# Its layers stay in buildah's storage, so that a change of code costs one small layer.
LAYERED = "tools"
LONGEST_QUOTE = 300


class Build:
    """One round of building: threads for what can run side by side, each child ended if the round ends early."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.cache = cache()
        self.pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="image")
        self.children: set[subprocess.Popen[bytes]] = set()
        self.ended = threading.Event()

    def __enter__(self) -> Build:
        clean_storage()
        for left in [*self.cache.glob("*.part"), *self.cache.glob("wheels/*.part")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for child in tuple(self.children):
            child.terminate()
        self.pool.shutdown(wait=True, cancel_futures=True)
        clean_storage()

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
                [*buildah(), "push", "-q", wanted.reference, target],
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
                *uv(), "pip", "install", "--quiet", "--no-progress",
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
            [*self.bud("base"), "-f", str(folder / "Containerfile"), "-t", reference("base"), str(context)],
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
                [*self.bud(name), "-t", reference(name), str(INCLUDE / "images" / name)],
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
            [*buildah(), "inspect", "--type", "image", reference(name)], capture_output=True, check=False
        )
        return done.returncode == 0

    def bud(self, name: str) -> list[str]:
        """The start of a build command: chroot isolation needs no OCI runtime and no cgroup of its own."""
        command = [*buildah(), "bud", "--isolation", "chroot", "--pull-never", "--no-hosts"]
        for part in image_parts(name, include=INCLUDE):
            if part != name:
                command += ["--build-arg", f"{part.upper()}={reference(part)}"]
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
