"""What sources that are directories have in common: a list of digests beside the files, and names without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from slipway.errors import WeightsError
from slipway.pods import describe_invalid
from slipway.weights.manifest import READY, SUMS, FileEntry, check_sums_complete, parse_sums

MANIFESTS = (READY, "manifest.json")
"""JSON lists of files: the marker of a directory that Slipway made, or one that somebody wrote by hand."""

LONGEST_LIST = 16 * 1024 * 1024


class ListedFile(BaseModel):
    """One file of a JSON list; without a sha256 it is only checked by its size."""

    model_config = ConfigDict(extra="ignore")

    path: str
    size: Annotated[int, Field(ge=0)] | None = None
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)] | None = None


class _Listed(BaseModel):
    model_config = ConfigDict(extra="ignore")

    files: list[ListedFile]


def parse_manifest(text: str, *, about: str) -> list[ListedFile]:
    """Read a JSON list of files: ``{"files": [{"path": …, "size": …, "sha256": …}]}``.

    Raises:
        WeightsError: it has another form.
    """
    try:
        listed = _Listed.model_validate_json(text).files
    except ValidationError as error:
        raise WeightsError(
            "a list of files cannot be read",
            about=about,
            why=describe_invalid(error),
            remedy='write {"files": [{"path": …, "size": …, "sha256": …}]}, or a SHA256SUMS',
        ) from error
    return [one for one in listed if one.path not in (SUMS, *MANIFESTS)]


def with_sums(
    found: Iterable[FileEntry], *, read: Callable[[str], str | None], source: str, own: bool = False
) -> list[FileEntry]:
    """Join a directory's files with the digests that are stated beside them.

    These are in SHA256SUMS or, in a directory that Slipway made, in its marker. Neither is a file of the model.

    Args:
        found: what is in the directory.
        read: reads a small text file of it; None when there is none of that name.
        source: for messages.
        own: the directory is the destination itself, whose marker would be its own witness.

    Raises:
        WeightsError: the list names files that are not there: an upload that was cut short.
    """
    present = {entry.path: entry for entry in found if entry.path not in (SUMS, READY)}
    sums: dict[str, str] = {}
    if (text := read(SUMS)) is not None:
        sums = parse_sums(text, about=f"{source}/{SUMS}")
    elif not own and (text := read(READY)) is not None:
        listed = parse_manifest(text, about=f"{source}/{READY}")
        sums = {one.path: one.sha256 for one in listed if one.sha256}
    check_sums_complete(sums, present=present, source=source)
    return [replace(entry, sha256=sums.get(entry.path) or entry.sha256) for entry in present.values()]
