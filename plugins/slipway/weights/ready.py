"""The ready marker: written last, it says that a directory holds a complete and verified model.

Whoever serves from the directory starts only when it is there. A second download compares each file's size
and modification time with it and moves nothing; hashing 700 GB again
to learn that nothing changed takes a quarter of an hour on one core, so that is done only when it is asked for.
"""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from slipway.weights.manifest import READY, Manifest
from slipway.weights.sink import ReadBack, make_buffer
from slipway.weights.space import explain, sync_directory


class ReadyFile(BaseModel):
    """One file as it was when it was verified."""

    model_config = ConfigDict(extra="ignore")

    path: str
    size: int
    mtime_ns: int
    sha256: str


class Ready(BaseModel):
    """The marker's content."""

    model_config = ConfigDict(extra="ignore")

    format: int = 1
    source: str
    manifest_digest: str
    verified: str
    written: str
    bytes_total: int
    warnings: list[str] = []
    files: list[ReadyFile]


def read_ready(directory: Path) -> Ready | None:
    """Read a directory's marker; None when it has none, or one that is no marker (it is then made anew)."""
    try:
        return Ready.model_validate_json((directory / READY).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
    except OSError as error:
        raise explain(error, about=str(directory / READY)) from error


def is_intact(directory: Path, *, ready: Ready) -> bool:
    """Whether every file still has the size and modification time that it was verified with."""
    for file in ready.files:
        try:
            stat = (directory / file.path).lstat()
        except OSError:
            return False
        if (stat.st_size, stat.st_mtime_ns) != (file.size, file.mtime_ns):
            return False
    return True


def read_again(directory: Path, *, ready: Ready) -> list[str]:
    """Hash every file of a directory anew; returns those that are not what the marker says, or not there."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 2, thread_name_prefix="hash") as pool:
        right = list(pool.map(lambda file: _has_digest(directory / file.path, file=file), ready.files))
    return [file.path for file, is_right in zip(ready.files, right, strict=True) if not is_right]


def _has_digest(path: Path, *, file: ReadyFile) -> bool:
    digest, position = hashlib.sha256(), 0
    try:
        back = ReadBack(path, view=make_buffer())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise explain(error, about=str(path)) from error
    try:
        while block := back.read(position):
            digest.update(block)
            position += len(block)
    except OSError as error:
        raise explain(error, about=str(path)) from error
    finally:
        back.close()
    return digest.hexdigest() == file.sha256


def write_ready(directory: Path, *, manifest: Manifest, digests: dict[str, str], warnings: list[str]) -> None:
    """Write the marker so that after a power cut it is there whole or not at all.

    Args:
        directory: where the files are, under their names.
        manifest: what the source said of them.
        digests: each file's sha256 as it was read from this disk.
        warnings: what is unusual about the model.
    """
    files = []
    for entry in manifest.files:
        stat = (directory / entry.path).lstat()
        files.append(
            ReadyFile(
                path=entry.path, size=stat.st_size, mtime_ns=stat.st_mtime_ns, sha256=digests[entry.path]
            )
        )
    ready = Ready(
        source=manifest.source,
        manifest_digest=manifest.digest,
        verified=manifest.verified_by,
        written=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        bytes_total=manifest.bytes_total,
        warnings=warnings,
        files=files,
    )
    draft = directory / f"{READY}.tmp"
    with draft.open("wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(ready.model_dump_json(indent=1).encode())
        file.flush()
        os.fsync(file.fileno())
    draft.rename(directory / READY)
    sync_directory(directory)


def remove_ready(directory: Path) -> None:
    """Take the marker away before anything in the directory changes."""
    (directory / READY).unlink(missing_ok=True)
    sync_directory(directory)
