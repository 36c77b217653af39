"""Checksums that a store keeps of an object beside, or instead of, a sha256 of all its bytes.

S3 keeps one of the whole object (CRC64NVME, CRC32C, CRC32, SHA-1), or, of what was uploaded in parts, a checksum of
the parts' checksums ("COMPOSITE"). The latter is taken here as S3 takes it: each part by itself, then one over the
parts' raw values in order (docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html).
A CRC finds every accident, not an attack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

_CRCS = {"CRC64NVME": ("crc64nvme", 8), "CRC32C": ("crc32c", 4), "CRC32": ("crc32", 4)}
_HASHES = {"SHA256": "sha256", "SHA1": "sha1"}

LENGTHS = {name: length for name, (_, length) in _CRCS.items()} | {"SHA1": 20, "SHA256": 32}
"""The kinds that can be checked and their lengths in bytes."""


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a store states of an object's bytes.

    Attributes:
        kind: one of ``LENGTHS``.
        value: lower-case hex.
        parts: the lengths of the parts in whose checksums it was taken; empty when it is of the whole.
    """

    kind: str
    value: str
    parts: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """How a record calls it."""
        return f"part checksums ({self.kind})" if self.parts else self.kind

    @property
    def identity(self) -> str:
        """What the bytes are, as far as it tells."""
        return f"{self.kind.lower()}:{self.value}" + (f"-{len(self.parts)}" if self.parts else "")


class Running(Protocol):
    """A checksum that gets the bytes in order."""

    def update(self, block: memoryview) -> None:
        """Take in the next bytes."""
        ...

    def digest(self) -> bytes:
        """The raw value of all bytes so far."""
        ...


def is_known(kind: str) -> bool:
    """Whether a kind can be checked here: CRCs need AWS's own library, in Python they would take minutes for a GiB."""
    return kind in _HASHES or (kind in _CRCS and _find_crc(_CRCS[kind][0]) is not None)


def running(checksum: Checksum) -> Running:
    """Begin to take the same checksum of other bytes."""
    if checksum.parts:
        return _Composite(checksum.kind, checksum.parts)
    return _whole(checksum.kind)


def _whole(kind: str) -> Running:
    if kind in _HASHES:
        return hashlib.new(_HASHES[kind], usedforsecurity=False)
    name, length = _CRCS[kind]
    add = _find_crc(name)
    assert add is not None
    return _Crc(add, length)


class _Crc:
    def __init__(self, add: Callable[[memoryview, int], int], length: int) -> None:
        self._add, self._length, self._value = add, length, 0

    def update(self, block: memoryview) -> None:
        self._value = self._add(block, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._length, "big")


class _Composite:
    def __init__(self, kind: str, parts: tuple[int, ...]) -> None:
        self._kind, self._parts = kind, iter(parts)
        self._of_parts, self._part = _whole(kind), _whole(kind)
        self._left = next(self._parts)

    def update(self, block: memoryview) -> None:
        while block:
            piece, block = block[: self._left], block[self._left :]
            self._part.update(piece)
            self._left -= len(piece)
            if not self._left:
                self._of_parts.update(memoryview(self._part.digest()))
                self._part, self._left = _whole(self._kind), next(self._parts, 0)

    def digest(self) -> bytes:
        return self._of_parts.digest()


def _find_crc(name: str) -> Callable[[memoryview, int], int] | None:
    try:
        from awscrt import checksums  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        return None
    add: Callable[[memoryview, int], int] = getattr(checksums, name)
    return add
