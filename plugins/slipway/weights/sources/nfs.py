"""Weights from an NFS export, read in user space: ``nfs://server/export/path?version=4&nfsport=2049``.

With a SHA256SUMS beside the files they are verified by it, or by the marker of a directory that Slipway made; without
either only by their sizes, and the record says so.
A file is taken in the version that was listed: its size and modification time are looked at before each range.
"""

from __future__ import annotations

import ctypes
import errno
import queue
import socket
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from slipway.errors import UsageError, WeightsError, bounded
from slipway.weights.manifest import FileEntry, Manifest, make_manifest
from slipway.weights.orders import FetchOrder
from slipway.weights.sources.base import BLOCK, TransientError
from slipway.weights.sources.libnfs import Mount, NfsError
from slipway.weights.sources.listing import LONGEST_LIST, with_sums

_PORT = 2049
_CONNECT_SECONDS = 10.0
_KNOWN = {"version", "nfsport", "uid", "gid"}
_DENIED = {errno.EACCES, errno.EPERM}
_ABSENT = {errno.ENOENT, errno.ENOTDIR}


class NfsSource:
    """The files below a directory of an export."""

    def __init__(self, order: FetchOrder) -> None:
        parts = urlsplit(order.source)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = unquote(parts.path).rstrip("/")
        if not parts.hostname or not path or set(query) - _KNOWN or not all(map(str.isdigit, query.values())):
            raise UsageError(
                "an NFS source needs a server and an exported directory",
                about=order.source,
                remedy="nfs://server/export/path, and after a '?' version=3 or 4, nfsport, uid, gid",
            )
        self._source = order.source.split("?", 1)[0]
        self._server, self._port = parts.hostname, int(query.get("nfsport", _PORT))
        # libnfs takes the path of a URL as it is, and everything after '?' for options.
        self._url = f"nfs://{self._server}{path}?{urlencode({'version': '4', **query})}"
        if "?" in path:
            raise UsageError("libnfs cannot read a path with a '?' in it", about=order.source)
        self._seconds = order.stall_seconds
        self._idle: queue.LifoQueue[Mount] = queue.LifoQueue()

    def manifest(self) -> Manifest:
        """Walk through the directory; digests from the list beside the files, where there is one."""
        self._require_server()
        try:
            with self._connection() as mount:
                found = list(self._entries(mount))
                names = {entry.path for entry in found}
                files = with_sums(
                    found,
                    read=lambda name: self._text(mount, name) if name in names else None,
                    source=self._source,
                )
        except NfsError as error:
            raise self._explain(error) from error
        if not files:
            raise WeightsError(f"no files in {self._source}", remedy="is the path right?")
        return make_manifest(source=self._source, files=files)

    def read(self, entry: FileEntry, *, start: int, stop: int) -> Generator[bytes]:
        """Read a range of the very version that was listed."""
        try:
            with self._connection() as mount:
                if mount.identify(entry.path) != entry.etag:
                    raise WeightsError(
                        "a file behind the source changed during the download",
                        about=f"{self._source}/{entry.path}",
                        remedy="start again when nobody writes there any more",
                    )
                yield from self._range(mount, entry, start=start, stop=stop)
        except NfsError as error:
            if error.number in _DENIED | _ABSENT:
                raise self._explain(error) from error
            raise TransientError(bounded(error.why, limit=160)) from error

    def _range(self, mount: Mount, entry: FileEntry, *, start: int, stop: int) -> Iterator[bytes]:
        step = min(BLOCK, mount.largest_read)
        buffer = ctypes.create_string_buffer(step)
        view = memoryview(buffer).cast("B")
        with mount.opened(entry.path) as handle:
            while start < stop:
                count = mount.read(handle, buffer, start=start, count=min(step, stop - start))
                if not count:
                    raise NfsError(errno.EIO, "the file ended early")
                start += count
                yield bytes(view[:count])

    def _entries(self, mount: Mount) -> Iterator[FileEntry]:
        for file in mount.walk():
            if file.is_directory:
                raise WeightsError(
                    "the source has a symbolic link to a directory",
                    about=f"{self._source}/{file.path}",
                    why="it may lead anywhere, and round in a circle",
                    remedy="name the directory that it leads to",
                )
            yield FileEntry(path=file.path, size=file.size, etag=file.changed)

    def _text(self, mount: Mount, name: str) -> str:
        buffer = ctypes.create_string_buffer(BLOCK)
        text = b""
        with mount.opened(name) as handle:
            while len(text) < LONGEST_LIST and (
                count := mount.read(handle, buffer, start=len(text), count=min(BLOCK, mount.largest_read))
            ):
                text += buffer.raw[:count]
        return text.decode("utf-8", "replace")

    @contextmanager
    def _connection(self) -> Iterator[Mount]:
        """A connection for one thread; one that failed is not used again."""
        try:
            mount = self._idle.get_nowait()
        except queue.Empty:
            mount = Mount(self._url, timeout_seconds=self._seconds)
        try:
            yield mount
        except GeneratorExit:
            self._idle.put(mount)
            raise
        except BaseException:
            mount.close()
            raise
        self._idle.put(mount)

    def _require_server(self) -> None:
        """Reach the server by a plain connection first: libnfs says of many a failure only that it failed."""
        try:
            socket.create_connection((self._server, self._port), timeout=_CONNECT_SECONDS).close()
        except OSError as error:
            raise WeightsError(
                "the NFS server cannot be reached",
                about=f"{self._source}, port {self._port}",
                why=error.strerror or str(error),
                remedy="check the address, and that the cluster's network lets this pod out to it",
            ) from error

    def _explain(self, error: NfsError) -> WeightsError:
        why = bounded(error.why, limit=200)
        denied = error.number in _DENIED or "ACCESS" in error.why or "PERM" in error.why
        if error.number in _ABSENT or "NOENT" in error.why:
            return WeightsError(
                "the NFS server has no such directory",
                about=self._source,
                why=why,
                remedy="correct the path; with NFS 4 it starts at the server's pseudo root",
            )
        if denied:
            return WeightsError(
                "the NFS server denied access",
                about=self._source,
                why=why,
                remedy="let this cluster's nodes use the export, also from ports above 1023 (insecure), and make the "
                "files readable for this uid",
            )
        return WeightsError("the NFS server answered with an error", about=self._source, why=why)
