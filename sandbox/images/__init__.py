"""The images of the sandbox, built on this machine: there is no Docker engine and no registry.

A root file system comes from mmdebstrap, Python packages from uv (hash-locked), and buildah puts them together as
the Containerfiles under ``include/images`` say. What takes long runs side by side and is kept under the cache
folder (``~/.cache/slipway/images``, or ``$SLIPWAY_CACHE/images``), each part under the hash of what it is made
of: an interrupted build goes on where it was, and nothing half-made has a final name.

    python -m sandbox.images [NAME…]
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from sandbox.errors import SandboxError
from sandbox.images.build import Build
from sandbox.images.store import (
    NAMES,
    Image,
    Log,
    buildah,
    forget_older,
    image,
    locked,
    output,
    reference,
    require,
    storage_in_use,
    uv,
)

__all__ = ["NAMES", "Image", "ensure_images", "image", "import_images", "push_images", "reference"]


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
    require("buildah", "mmdebstrap")
    uv()
    with locked(log):
        missing = [each for each in images if not each.archive.exists()]
        if missing:
            with Build(log) as build:
                build.all(missing)
            for each in missing:
                forget_older(each)
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
    there = set(output([*ctr, "list", "--quiet"], doing="list containerd's images").split())
    for each in images:
        if each.reference not in there:
            started = time.monotonic()
            output([*ctr, "import", str(each.archive)], doing=f"import {each.archive}")
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
        with locked(log), storage_in_use():
            output([*buildah(), "pull", "-q", f"docker-archive:{each.archive}"], doing=f"read {each.archive}")
            verify = f"--tls-verify={'false' if insecure else 'true'}"
            output(
                [*buildah(), "push", "-q", verify, each.reference, f"docker://{target}"],
                doing=f"push {target} (is the registry up, and are you logged in: buildah login {host}?)",
            )
        log(f"image {each.name}: pushed as {target}")
        pushed[each.name] = target
    return pushed
