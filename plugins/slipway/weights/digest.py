"""What a file's bytes are checked against, taken while they pass."""

from __future__ import annotations

import hashlib

from slipway.weights.checksums import running
from slipway.weights.manifest import FileEntry


class Digest:
    """The digests of one file; it gets the bytes in order.

    sha256 is taken of every file, for the marker; a store's other checksum only where it states no sha256.
    """

    def __init__(self, entry: FileEntry) -> None:
        self._entry = entry
        self._sha256 = hashlib.sha256()
        stated = entry.checksum if entry.sha256 is None else None
        self._other = running(stated) if stated else None

    def update(self, block: memoryview) -> None:
        """Take in the next bytes."""
        self._sha256.update(block)
        if self._other is not None:
            self._other.update(block)

    @property
    def sha256(self) -> str:
        """The digest of all bytes so far, in hex."""
        return self._sha256.hexdigest()

    def problem(self) -> str | None:
        """How the bytes differ from what the source states; None when they don't."""
        stated = self._entry.sha256
        if stated is not None and stated != self.sha256:
            return f"sha256 is {self.sha256[:16]}…, stated is {stated[:16]}…"
        other = self._entry.checksum
        if self._other is not None and other is not None:
            found = self._other.digest().hex()
            if found != other.value:
                return f"{other.name} is {found[:16]}, stated is {other.value[:16]}"
        return None
