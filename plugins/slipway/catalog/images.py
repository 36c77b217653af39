"""The tags of the images that are built here: a hash of what goes into them.

There is no registry that could give a digest for an image that was built on this machine, and a tag such as
``latest`` says nothing. So the tag is the content: the same files give the same tag on any machine, ``resolve``
records it in the release, and a pod that finds other code in itself than its release names refuses to run.

An image's content is its own folder under ``include/images`` and the folders of the images that its Containerfile
builds on; the tools image also carries this package.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

REPOSITORY = "localhost/slipway"
TAG_LENGTH = 12
# What runs in pods; a change of anything else must not change the image.
IN_PODS = ("__init__.py", "errors.py", "pods.py", "catalog", "weights", "probes", "benchmark")
# The code, and the conversations that a benchmark asks.
CARRIED = (".py", ".json")
CARRIES_PACKAGE = "tools"

_BUILT_HERE = re.compile(rf"{REPOSITORY}/([a-z0-9-]+)")


def image_reference(name: str, *, include: Path, package: Path) -> str:
    """The full name under which a cluster knows the image, such as ``localhost/slipway/tools:0123456789ab``."""
    return f"{REPOSITORY}/{name}:{image_tag(name, include=include, package=package)}"


def image_tag(name: str, *, include: Path, package: Path) -> str:
    """The tag of an image that is built here.

    Args:
        name: a folder of ``include/images``.
        include: the project's ``include`` folder.
        package: the folder of the package ``slipway``.

    Raises:
        FileNotFoundError: there is no Containerfile for that name.
    """
    digest = hashlib.sha256()
    for part in image_parts(name, include=include):
        folder = include / "images" / part
        _add(digest, part, folder, _files(folder))
    if name == CARRIES_PACKAGE:
        digest.update(code_digest(package).encode())
    return digest.hexdigest()[:TAG_LENGTH]


@cache
def known_image_tag(name: str, *, include: Path, package: Path) -> str:
    """``image_tag``, read once in a process: what plans of one run say must not depend on an edit in between."""
    return image_tag(name, include=include, package=package)


@cache
def known_code_digest(package: Path) -> str:
    """``code_digest``, read once in a process."""
    return code_digest(package)


def image_parts(name: str, *, include: Path) -> list[str]:
    """The image itself and those that it is built from, directly or not, by name."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        part = waiting.pop()
        if part not in found:
            found.add(part)
            text = (include / "images" / part / "Containerfile").read_text(encoding="utf-8")
            waiting += _BUILT_HERE.findall(text)
    return sorted(found)


def code_files(package: Path) -> list[Path]:
    """The package's files that the tools image carries, sorted: what runs in pods."""
    return [
        path
        for path in _files(package)
        if path.suffix in CARRIED and path.relative_to(package).parts[0] in IN_PODS
    ]


def code_digest(package: Path) -> str:
    """The sha256 of the code that runs in pods, as hex; wherever the package lies."""
    digest = hashlib.sha256()
    _add(digest, "slipway", package, code_files(package))
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    """All files below a folder in an order that doesn't depend on the file system, without what tools leave there."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    kept = (
        path
        for path in paths
        if not any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return sorted(kept, key=lambda path: path.relative_to(folder).as_posix())


def _add(digest: hashlib._Hash, label: str, folder: Path, paths: Iterable[Path]) -> None:
    """Add names and contents, each with its length, so that no two sets of files read the same."""
    for path in paths:
        name = f"{label}/{path.relative_to(folder).as_posix()}".encode()
        content = path.read_bytes()
        digest.update(f"{len(name)} {len(content)} ".encode())
        digest.update(name)
        digest.update(content)
