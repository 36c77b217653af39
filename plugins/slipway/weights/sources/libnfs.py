"""The few calls of libnfs that a download needs, through ctypes.

libnfs speaks NFS in user space over an ordinary TCP connection, so a pod needs no mount, no privilege and no kernel
module for it. Debian's package is 100 KB; the binding on PyPI would need a compiler. Signatures are those of libnfs
4 and 5 (``libnfs.so.13`` and ``.14``); libnfs 6 changed the order of arguments and is not loaded.

A connection belongs to one thread at a time: libnfs does not lock.
"""

from __future__ import annotations

import ctypes
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from slipway.errors import UsageError

LIBRARY = "SLIPWAY_LIBNFS"
"""Names the library's file where it is in no directory that the loader searches."""

_NAMES = ("libnfs.so.14", "libnfs.so.13")
MEBIBYTE = 1024 * 1024
_POINTER = ctypes.c_void_p
_TEXT = ctypes.c_char_p


class NfsError(Exception):
    """What libnfs says, as one line.

    Attributes:
        number: the errno, positive.
    """

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number, self.why = number, why


@dataclass(frozen=True)
class NfsFile:
    """One entry of a directory, symbolic links followed.

    Attributes:
        path: below the mounted directory, without a leading slash.
        changed: identifies the version: size and modification time.
    """

    path: str
    size: int
    is_directory: bool
    changed: str


class _Entry(ctypes.Structure):
    """``struct nfsdirent``, as far as it is read."""


_Entry._fields_ = [("next", ctypes.POINTER(_Entry)), ("name", _TEXT)]


class _Url(ctypes.Structure):
    _fields_ = (("server", _TEXT), ("path", _TEXT), ("file", _TEXT))


class _Stat(ctypes.Structure):
    """``struct nfs_stat_64``."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "dev", "ino", "mode", "nlink", "uid", "gid", "rdev", "size", "blksize", "blocks",
            "atime", "mtime", "ctime", "atime_nsec", "mtime_nsec", "ctime_nsec", "used",
        )
    )  # fmt: skip


class Mount:
    """One connection to one exported directory.

    Args:
        url: ``nfs://server/export/path?version=4&nfsport=2049``, as libnfs takes it.
        timeout_seconds: no answer for so long is an error.

    Raises:
        NfsError: the server refused, or there is no such directory.
        UsageError: there is no libnfs here.
    """

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._lib = _library()
        self._context: int | None = self._lib.nfs_init_context()
        # libnfs names a client by process and second: two of one second would end each other's session (NFS 4).
        self._lib.nfs4_set_client_name(self._context, f"slipway {uuid.uuid4().hex}".encode())
        # A broken connection is an error that the engine counts and tries again, not a silent wait.
        self._lib.nfs_set_autoreconnect(self._context, 0)
        parsed = self._lib.nfs_parse_url_dir(self._context, url.encode())
        if not parsed:
            raise self._error(-22)
        try:
            self._lib.nfs_set_timeout(self._context, int(timeout_seconds * 1000))
            where = parsed.contents
            self._check(self._lib.nfs_mount(self._context, where.server, where.path))
        finally:
            self._lib.nfs_destroy_url(parsed)
        # With version 4 libnfs asks the server when it reads, and knows no limit before.
        self.largest_read = int(self._lib.nfs_get_readmax(self._context)) or MEBIBYTE

    def close(self) -> None:
        """Give the connection up."""
        if self._context is not None:
            self._lib.nfs_destroy_context(self._context)
            self._context = None

    def walk(self, directory: str = "") -> Iterator[NfsFile]:
        """List all files below, depth first. A directory behind a symbolic link is told and not entered."""
        for name in self._names(directory):
            path = f"{directory}/{name}" if directory else name
            found = self._look(path)
            if not found.is_directory or self._is_link(path):
                yield found
            else:
                yield from self.walk(path)

    @contextmanager
    def opened(self, path: str) -> Iterator[int]:
        """Open a file for reading."""
        handle = _POINTER()
        self._check(self._lib.nfs_open(self._context, f"/{path}".encode(), os.O_RDONLY, ctypes.byref(handle)))
        try:
            yield handle.value or 0
        finally:
            self._lib.nfs_close(self._context, handle)

    def identify(self, path: str) -> str:
        """The version of a file that is there now."""
        return self._look(path).changed

    def read(self, handle: int, buffer: ctypes.Array[ctypes.c_char], *, start: int, count: int) -> int:
        """Read into a buffer; returns how many bytes came, 0 at the end of the file."""
        return self._check(self._lib.nfs_pread(self._context, handle, start, count, buffer))

    def _names(self, directory: str) -> list[str]:
        handle = _POINTER()
        self._check(self._lib.nfs_opendir(self._context, f"/{directory}".encode(), ctypes.byref(handle)))
        try:
            names = []
            while entry := self._lib.nfs_readdir(self._context, handle):
                names.append(os.fsdecode(entry.contents.name))
        finally:
            self._lib.nfs_closedir(self._context, handle)
        return sorted(name for name in names if name not in (".", ".."))

    def _look(self, path: str) -> NfsFile:
        found = self._stat(self._lib.nfs_stat64, path)
        mode, size = int(found.mode), int(found.size)
        changed = f"{size}-{found.mtime}.{found.mtime_nsec:09d}"
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            raise NfsError(22, f"{path} is neither a file nor a directory")
        return NfsFile(path=path, size=size, is_directory=stat.S_ISDIR(mode), changed=changed)

    def _is_link(self, path: str) -> bool:
        return stat.S_ISLNK(int(self._stat(self._lib.nfs_lstat64, path).mode))

    def _stat(self, call: Any, path: str) -> _Stat:
        found = _Stat()
        self._check(call(self._context, f"/{path}".encode(), ctypes.byref(found)))
        return found

    def _check(self, status: int) -> int:
        if status < 0:
            raise self._error(status)
        return status

    def _error(self, status: int) -> NfsError:
        said = self._lib.nfs_get_error(self._context)
        return NfsError(-status, (said or b"").decode("utf-8", "replace") or os.strerror(-status))


@cache
def _library() -> Any:
    """Load libnfs.

    Raises:
        UsageError: it is not installed.
    """
    named = os.environ.get(LIBRARY)
    for name in (named,) if named else _NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        break
    else:
        raise UsageError(
            "an NFS source needs libnfs",
            about=named or " or ".join(_NAMES),
            remedy="install Debian's libnfs13 (or libnfs14), or run the download in a pod, whose image has it",
        )
    _declare(library)
    return library


def _declare(library: Any) -> None:
    """Give each function its types: without them a pointer would be cut to 32 bits."""
    integer, count, handle = ctypes.c_int, ctypes.c_uint64, ctypes.POINTER(_POINTER)
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "nfs_init_context": (_POINTER, ()),
        "nfs_destroy_context": (None, (_POINTER,)),
        "nfs4_set_client_name": (None, (_POINTER, _TEXT)),
        "nfs_set_autoreconnect": (None, (_POINTER, integer)),
        "nfs_set_timeout": (None, (_POINTER, integer)),
        "nfs_parse_url_dir": (ctypes.POINTER(_Url), (_POINTER, _TEXT)),
        "nfs_destroy_url": (None, (ctypes.POINTER(_Url),)),
        "nfs_mount": (integer, (_POINTER, _TEXT, _TEXT)),
        "nfs_get_error": (_TEXT, (_POINTER,)),
        "nfs_get_readmax": (count, (_POINTER,)),
        "nfs_opendir": (integer, (_POINTER, _TEXT, handle)),
        "nfs_readdir": (ctypes.POINTER(_Entry), (_POINTER, _POINTER)),
        "nfs_closedir": (None, (_POINTER, _POINTER)),
        "nfs_stat64": (integer, (_POINTER, _TEXT, ctypes.POINTER(_Stat))),
        "nfs_lstat64": (integer, (_POINTER, _TEXT, ctypes.POINTER(_Stat))),
        "nfs_open": (integer, (_POINTER, _TEXT, integer, handle)),
        "nfs_pread": (integer, (_POINTER, _POINTER, count, count, _POINTER)),
        "nfs_close": (integer, (_POINTER, _POINTER)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
