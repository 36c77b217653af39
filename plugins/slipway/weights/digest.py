"""What a file's bytes are checked against, taken while they pass."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from slipway.weights.manifest import FileEntry


def find_crc64nvme() -> Callable[[memoryview, int], int] | None:
    """AWS's own CRC64NVME, or None where its library is not installed: in Python it would take minutes for a GiB."""
    try:
        from awscrt.checksums import crc64nvme  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return None
    add: Callable[[memoryview, int], int] = crc64nvme
    return add


class Digest:
    """The digests of one file; it gets the bytes in order.

    sha256 is taken of every file, for the marker; CRC64NVME only where the source states nothing stronger.
    """

    def __init__(self, entry: FileEntry) -> None:
        self._entry = entry
        self._sha256 = hashlib.sha256()
        self._crc = 0
        self._add_crc = find_crc64nvme() if entry.crc64nvme and not entry.sha256 else None

    def update(self, block: memoryview) -> None:
        """Take in the next bytes."""
        self._sha256.update(block)
        if self._add_crc is not None:
            self._crc = self._add_crc(block, self._crc)

    @property
    def sha256(self) -> str:
        """The digest of all bytes so far, in hex."""
        return self._sha256.hexdigest()

    def problem(self) -> str | None:
        """How the bytes differ from what the source states; None when they don't."""
        stated = self._entry.sha256
        if stated is not None and stated != self.sha256:
            return f"sha256 is {self.sha256[:16]}…, stated is {stated[:16]}…"
        checksum = f"{self._crc:016x}"
        if self._add_crc is not None and checksum != self._entry.crc64nvme:
            return f"CRC64NVME is {checksum}, stated is {self._entry.crc64nvme}"
        return None
