"""Weights from a claim that is mounted into this pod: ``pvc://claim/path``.

Symbolic links to files are followed as long as they stay in the volume: a cache of the Hugging Face hub is made of
them, and what is copied are real files.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from slipway.errors import UsageError, WeightsError
from slipway.weights.manifest import FileEntry, Manifest, make_manifest
from slipway.weights.orders import FetchOrder
from slipway.weights.sources.base import BLOCK, TransientError
from slipway.weights.sources.listing import with_sums


class MountedSource:
    """The files below a directory of a mounted volume."""

    def __init__(self, order: FetchOrder) -> None:
        self._source = order.source
        self._root, self.directory = place_of(order)
        self._own = self.directory == Path(order.destination).resolve()

    def manifest(self) -> Manifest:
        """Walk through the directory; digests from the list beside the files, where there is one."""
        if not self.directory.is_dir():
            raise WeightsError(
                "the claim has no such directory",
                about=self._source,
                why=f"{self.directory.relative_to(self._root)} is not in it",
                remedy="correct the path after the claim's name",
            )
        try:
            found = list(self._entries())
            files = with_sums(found, read=self._text, source=self._source, own=self._own)
        except OSError as error:
            raise self._explain(error) from error
        if not files:
            raise WeightsError(f"no files in {self._source}", remedy="is the path right?")
        return make_manifest(source=self._source, files=files)

    def read(self, entry: FileEntry, *, start: int, stop: int) -> Generator[bytes]:
        """Read a range of the very version that was listed."""
        try:
            with (self.directory / entry.path).open("rb", buffering=0) as file:
                if _version(os.fstat(file.fileno())) != entry.etag:
                    raise WeightsError(
                        "a file behind the source changed during the download",
                        about=f"{self._source}/{entry.path}",
                        remedy="start again when nobody writes there any more",
                    )
                while start < stop:
                    piece = os.pread(file.fileno(), min(BLOCK, stop - start), start)
                    if not piece:
                        raise TransientError("the file ended early")
                    start += len(piece)
                    yield piece
        except OSError as error:
            raise self._explain(error) from error

    def _text(self, name: str) -> str | None:
        path = self.directory / name
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None

    def _entries(self) -> Iterator[FileEntry]:
        for root, directories, files in os.walk(self.directory, onerror=_raise):
            for name in [*files, *(name for name in directories if (Path(root) / name).is_symlink())]:
                path = Path(root) / name
                real = path.resolve(strict=True)
                if not real.is_file() or not real.is_relative_to(self._root):
                    raise WeightsError(
                        "the source has something that is no file of this volume",
                        about=f"{self._source}/{path.relative_to(self.directory).as_posix()}",
                        why=f"it leads to {real}"
                        if path.is_symlink()
                        else "it is a device, a socket or a pipe",
                        remedy="put the file itself there",
                    )
                status = real.stat()
                inside = path.relative_to(self.directory).as_posix()
                yield FileEntry(path=inside, size=status.st_size, etag=_version(status))

    def _explain(self, error: OSError) -> WeightsError:
        return WeightsError(
            "the claim's files cannot be read",
            about=self._source,
            why=f"{error.strerror or error} (as uid {os.getuid()})",
            remedy="make them readable for this uid or its group",
        )


def place_of(order: FetchOrder) -> tuple[Path, Path]:
    """Where in this pod a ``pvc://`` source lies: the claim's mount and the directory in it.

    Raises:
        UsageError: it names no path, or a claim that is not mounted here.
    """
    parts = urlsplit(order.source)
    inside = unquote(parts.path).strip("/")
    if not parts.netloc or not inside or parts.query or ".." in inside.split("/"):
        raise UsageError(
            "a claim as a source needs the path in it",
            about=order.source,
            remedy="pvc://claim/path/to/model",
        )
    mount = order.claims.get(parts.netloc)
    if mount is None:
        raise UsageError(
            "the claim is not mounted here",
            about=order.source,
            why="only a pod in the claim's namespace can mount it",
            remedy="download it by download_model or deploy_endpoint",
        )
    root = Path(mount).resolve()
    return root, root / inside


def _raise(error: OSError) -> None:
    raise error


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"
