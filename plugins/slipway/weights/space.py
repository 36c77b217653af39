"""Is the volume fit to take a download? Asked before the first byte, explained when a write fails."""

from __future__ import annotations

import errno
import os
import uuid
from pathlib import Path

from slipway.errors import WeightsError

RESERVE = 0.05
"""Kept free beside what is still to come: a volume full to the last block makes its server misbehave."""


def check_volume(directory: Path, *, still_to_come: int) -> None:
    """Check that a directory can be written, synced and renamed in, and has room.

    ``statvfs`` does not see quotas; ``explain`` maps what a quota then answers in the middle of a write.

    Raises:
        WeightsError: with what to change.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".slipway-probe-{uuid.uuid4().hex}"
        renamed = probe.with_suffix(".renamed")
        try:
            with probe.open("xb") as file:
                file.write(b"slipway")
                file.flush()
                os.fsync(file.fileno())
            probe.rename(renamed)
            sync_directory(directory)
        finally:
            probe.unlink(missing_ok=True)
            renamed.unlink(missing_ok=True)
        stat = os.statvfs(directory)
    except OSError as error:
        raise explain(error, about=str(directory)) from error
    free = stat.f_bavail * stat.f_frsize
    needed = int(still_to_come * (1 + RESERVE)) if still_to_come else 0
    if free < needed:
        raise WeightsError(
            "the volume has too little free space",
            about=str(directory),
            why=f"{human_bytes(free)} free, {human_bytes(needed)} needed (5 % in reserve included)",
            remedy="enlarge the volume, or remove old models from it",
        )


def sync_directory(directory: Path) -> None:
    """Make names in a directory durable: a rename is only safe once its directory was synced."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems refuse fsync on a directory and make renames durable by themselves.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def explain(error: OSError, *, about: str) -> WeightsError:
    """Turn a file system's refusal into an error that says what to do."""
    why = error.strerror or str(error)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        quota = " (a quota)" if error.errno == errno.EDQUOT else ""
        return WeightsError(
            f"the volume is full{quota}",
            about=about,
            why=why,
            remedy="enlarge the volume or remove old models; what is downloaded already is kept",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return WeightsError(
            "the volume cannot be written",
            about=about,
            why=f"{why} (as uid {os.getuid()})",
            remedy="mount it read-write and give the pod's fsGroup or uid the right to write",
        )
    return WeightsError(
        "the volume does not work", about=about, why=why, remedy="look at the volume's server"
    )


def human_bytes(count: float) -> str:
    """A size for people: 1536 → '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
