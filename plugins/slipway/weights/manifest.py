"""What a source holds: names, sizes and digests of its files, checked before a byte is fetched."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from slipway.errors import WeightsError
from slipway.weights.checksums import Checksum

READY = "READY.json"
"""The marker's name, which a file of the model cannot have: it is written last and means 'complete'."""

SUMS = "SHA256SUMS"
"""A list of digests beside the files, as ``sha256sum * > SHA256SUMS`` writes it."""

_SUM_LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
_LONGEST_NAME = 255
_LONGEST_PATH = 1024


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a source.

    Attributes:
        path: relative, with ``/``; checked by ``check_path``.
        sha256: lower-case hex as the source states it, or None where it states none.
        etag: identifies this version of the object: a range is only taken from the same one.
        checksum: what a store states of the bytes instead; it counts only where there is no sha256.
    """

    path: str
    size: int
    sha256: str | None = None
    etag: str | None = None
    checksum: Checksum | None = None

    @property
    def identity(self) -> str:
        """The strongest statement of the source about the file's bytes."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return self.checksum.identity if self.checksum else f"etag:{self.etag}"

    @property
    def checked_by(self) -> str:
        """What the bytes are checked against; "" where the source states nothing of them."""
        if self.sha256:
            return "sha256"
        return self.checksum.name if self.checksum else ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a source, sorted by name.

    The digest covers what the bytes are (name, size, and sha256, or else another checksum, or else the version's
    ETag), not where they came from: the same files from a mirror have the same digest where both state sha256.
    """

    source: str
    files: tuple[FileEntry, ...]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        files = tuple(sorted(self.files, key=lambda entry: entry.path))
        rows = [[entry.path, entry.size, entry.identity] for entry in files]
        text = json.dumps(rows, ensure_ascii=True, separators=(",", ":"))
        object.__setattr__(self, "files", files)
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())

    @property
    def bytes_total(self) -> int:
        """The size of all files together."""
        return sum(entry.size for entry in self.files)

    @property
    def verified_by(self) -> str:
        """What the source lets us check the files against, in words that claim no more than is true."""
        # An empty file's size says all of it.
        counts = Counter(entry.checked_by for entry in self.files if entry.size)
        count, unchecked = counts.total(), counts.pop("", 0)
        if not counts:
            return "sha256 of our own read; the source gives only sizes"
        if len(counts) == 1 and not unchecked:
            return next(iter(counts))
        kinds = [f"{kind} for {some} of {count} files" for kind, some in counts.most_common()]
        if unchecked:
            kinds.append("the source gives only sizes for the others")
        return "; ".join(kinds)


def make_manifest(*, source: str, files: Iterable[FileEntry]) -> Manifest:
    """Check all names and build the manifest.

    Raises:
        WeightsError: no files, an unsafe name, or names that cannot exist beside each other.
    """
    entries = list(files)
    seen: set[str] = set()
    folded: dict[str, str] = {}
    for entry in entries:
        check_path(entry.path, source=source)
        if entry.path in seen:
            raise WeightsError("the source lists a file twice", about=f"{source}: {entry.path}")
        seen.add(entry.path)
        key = unicodedata.normalize("NFC", entry.path).casefold()
        if key in folded:
            raise WeightsError(
                "the source has two names that differ only in case or accents",
                about=f"{source}: {folded[key]}, {entry.path}",
                why="a volume may take them for the same file",
                remedy="rename one of them in the source",
            )
        folded[key] = entry.path
    for path in seen:
        for parent in _parents(path):
            if parent in seen:
                raise WeightsError(
                    "the source has a file and a directory of the same name", about=f"{source}: {parent}"
                )
    return Manifest(source=source, files=tuple(entries))


def check_path(path: str, *, source: str) -> None:
    """Refuse a name that could leave the destination or that no file system takes as it is.

    Names come from a server: ``..``, absolute names, empty parts, control characters and backslashes are
    refused instead of repaired, because a repaired name is not the file that the model's index refers to.
    """
    parts = path.split("/")
    why = ""
    if not path or path.startswith("/") or any(part in {"", ".", ".."} for part in parts):
        why = "it is empty, absolute, or has '.' or '..' in it"
    elif "\\" in path or any(unicodedata.category(letter) in {"Cc", "Cs"} for letter in path):
        why = "it has a backslash or a control character in it"
    elif any(len(part.encode()) > _LONGEST_NAME for part in parts) or len(path.encode()) > _LONGEST_PATH:
        why = "it is longer than a file system takes"
    elif path == READY:
        why = "Slipway writes its own file of that name"
    if why:
        raise WeightsError(
            "the source has a file name that is not safe",
            about=f"{source}: {path!r}",
            why=why,
            remedy="rename or remove it in the source",
        )


def parse_sums(text: str, *, about: str) -> dict[str, str]:
    """Read a list in the format of ``sha256sum``: name → lower-case digest.

    Raises:
        WeightsError: a line that is not in that format, with its number.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        bare = line.removesuffix("\r")
        if not bare.strip() or bare.startswith("#"):
            continue
        match = _SUM_LINE.fullmatch(bare)
        if match is None:
            raise WeightsError(
                "a list of digests cannot be read",
                about=f"{about}, line {number}",
                why="it is not 'sha256  name' as sha256sum writes it",
                remedy="write it again in the model's directory: sha256sum $(find . -type f) > SHA256SUMS",
            )
        escaped, digest, name = match.groups()
        if escaped:
            name = re.sub(r"\\(.)", lambda found: {"n": "\n", "r": "\r"}.get(found[1], found[1]), name)
        sums[name.removeprefix("./")] = digest.lower()
    sums.pop(SUMS, None)
    return sums


def check_sums_complete(sums: Iterable[str], *, present: Iterable[str], source: str) -> None:
    """Refuse a source that lacks files its own list of digests names: an upload that was cut short."""
    missing = sorted(set(sums) - set(present))
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise WeightsError(
            "the source lacks files that its SHA256SUMS lists",
            about=source,
            why=shown,
            remedy="finish the upload, or write SHA256SUMS again",
        )


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    for count in range(1, len(parts)):
        yield "/".join(parts[:count])
