"""Old versions of a model in a volume: listed, and removed when the order says that nobody needs them.

Which versions are needed is not known here but where endpoints and releases are (``operators/removal.py``); this runs
in a pod, beside the files. A version is taken away under the same claim that a download takes, its marker first and
then its name, so that nobody ever takes half of it for a whole one.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from slipway.errors import UsageError, WeightsError
from slipway.weights.claim import claimed
from slipway.weights.ready import read_ready, remove_ready
from slipway.weights.space import explain, human_bytes, sync_directory

MOST_TOLD = 20
"""Versions in a result: a termination message has room for no more."""

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_BESIDE = (".partial", ".journal", ".owner")
_LEFT = ".removing-"


class RetentionOrder(BaseModel):
    """List a model's versions and remove some.

    Attributes:
        directory: where the model's versions lie, ``<volume>/<model>``.
        needed: why a version must stay, by key; such a version is never removed, whoever asks.
        remove: keys to remove.
        unused: remove all that is not needed.
        wait_seconds: how long to wait while somebody downloads to a version that is to be removed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: str
    needed: dict[str, str] = {}
    remove: list[str] = []
    unused: bool = False
    wait_seconds: float = Field(default=30, ge=0)

    @field_validator("directory")
    @classmethod
    def _is_a_model(cls, value: str) -> str:
        path = Path(value)
        if not path.is_absolute() or ".." in path.parts or len(path.parts) < 3:
            raise ValueError("must be a model's directory below a volume, like /weights/name")
        return str(path)


class Version(BaseModel):
    """One version of a model.

    Attributes:
        key: its directory's name.
        bytes: what it takes; of one that is not complete, what is there of it.
        written: when it was verified; "" for one that is not complete.
        needed: why it stays; "" when nothing needs it.
    """

    model_config = ConfigDict(extra="forbid")

    key: str
    bytes: int
    written: str
    source: str
    needed: str
    removed: bool = False


class RetentionResult(BaseModel):
    """What there was and what became of it; at most ``MOST_TOLD`` versions, the removed ones first."""

    model_config = ConfigDict(extra="forbid")

    versions: list[Version]
    count: int
    removed: int
    bytes_freed: int


def keep_and_remove(order: RetentionOrder, *, say: Callable[[str], None] = print) -> RetentionResult:
    """List a model's versions and remove those that the order names and nothing needs.

    Raises:
        UsageError: a version to be removed is needed, or not there; then nothing is removed.
        WeightsError: somebody is downloading to it, or the volume does not allow it.
    """
    directory = Path(order.directory)
    try:
        _finish_earlier(directory)
        found = {key: _version(directory, key, order.needed.get(key, "")) for key in _keys(directory)}
        chosen = _chosen(order, found)
        for key in chosen:
            _remove(directory, key, wait_seconds=order.wait_seconds, say=say)
            found[key].removed = True
    except OSError as error:
        raise explain(error, about=str(directory)) from error
    for version in found.values():
        state = "removed" if version.removed else f"stays: {version.needed}" if version.needed else "unused"
        written = version.written or "not complete"
        say(f"{version.key}  {human_bytes(version.bytes):>10}  {written}  {version.source}  {state}")
    ordered = sorted(found.values(), key=lambda version: (not version.removed, version.key))
    return RetentionResult(
        versions=[
            one.model_copy(update={"source": one.source[:80], "needed": one.needed[:80]}) for one in ordered
        ][:MOST_TOLD],
        count=len(found),
        removed=len(chosen),
        bytes_freed=sum(found[key].bytes for key in chosen),
    )


def _chosen(order: RetentionOrder, found: dict[str, Version]) -> list[str]:
    for key in order.remove:
        if not _KEY.fullmatch(key) or key not in found:
            raise UsageError(
                "there is no such version",
                about=f"{order.directory}: {key}",
                remedy=f"Versions are: {', '.join(sorted(found)) or 'none'}",
            )
        if key in order.needed:
            raise UsageError(
                "a version that is needed is not removed",
                about=f"{order.directory}: {key}",
                why=order.needed[key],
                remedy="Deploy another version first, or remove the endpoint",
            )
    unused = [key for key in found if key not in order.needed] if order.unused else []
    return sorted({*order.remove, *unused})


def _keys(directory: Path) -> list[str]:
    """The versions, complete or begun, by the names of what lies there."""
    names = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    bare = {
        re.sub(rf"({'|'.join(map(re.escape, _BESIDE))})$", "", name) for name in names if _LEFT not in name
    }
    return sorted(key for key in bare if _KEY.fullmatch(key) and _is_version(directory, key))


def _is_version(directory: Path, key: str) -> bool:
    return any((directory / f"{key}{suffix}").is_dir() for suffix in ("", ".partial"))


def _version(directory: Path, key: str, needed: str) -> Version:
    ready = read_ready(directory / key)
    return Version(
        key=key,
        bytes=ready.bytes_total if ready else _allocated(directory, key),
        written=ready.written if ready else "",
        source=ready.source if ready else "",
        needed=needed,
    )


def _allocated(directory: Path, key: str) -> int:
    places = [directory / f"{key}{suffix}" for suffix in ("", ".partial")]
    return sum(
        path.lstat().st_blocks * 512 for place in places for path in place.rglob("*") if not path.is_dir()
    )


def _remove(directory: Path, key: str, *, wait_seconds: float, say: Callable[[str], None]) -> None:
    place = directory / key
    if place.is_mount():
        raise WeightsError("a version is a mount point and cannot be removed", about=str(place))
    with claimed(place.with_name(f"{key}.owner"), wait_seconds=wait_seconds, say=say) as claim:
        claim.check()
        if place.is_dir():
            remove_ready(place)
        for suffix in ("", ".partial", ".journal"):
            path = directory / f"{key}{suffix}"
            if path.exists():
                path.rename(directory / f"{key}{_LEFT}{uuid.uuid4().hex}")
        sync_directory(directory)
    _finish_earlier(directory)


def _finish_earlier(directory: Path) -> None:
    """Delete what a removal has set aside, also one that was killed."""
    if not directory.is_dir():
        return
    for path in [path for path in directory.iterdir() if _LEFT in path.name]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
