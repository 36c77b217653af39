"""Weights that lie already where they are served from: verified there, nothing copied, only the marker written."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from slipway.errors import WeightsError
from slipway.weights.claim import claimed
from slipway.weights.manifest import FileEntry, Manifest
from slipway.weights.orders import FetchOrder, FetchResult
from slipway.weights.ready import Ready, is_intact, read_ready, remove_ready, write_ready
from slipway.weights.sources.base import BLOCK
from slipway.weights.sources.mounted import MountedSource, place_of
from slipway.weights.space import explain
from slipway.weights.verify import check_content, check_names

_HASHERS = 2


def verify_in_place(order: FetchOrder, *, say: Callable[[str], None]) -> FetchResult | None:
    """Verify a ``pvc://`` source that is the destination itself; None for any other source.

    Raises:
        WeightsError: a file is not what SHA256SUMS says, or the files are no model that a runtime can load.
    """
    destination = Path(order.destination)
    if urlsplit(order.source).scheme != "pvc" or place_of(order)[1] != destination.resolve():
        return None
    started = time.monotonic()
    source = MountedSource(order)
    manifest = source.manifest()
    ready = read_ready(destination)
    if order.verify == "marker" and ready and _is_as_marked(destination, ready=ready, manifest=manifest):
        # Whoever marked it: a download's marker says more than the sizes that a listing of the volume has.
        say(f"{destination} was verified at {ready.written} and nobody has touched it since")
        found = _result(order, manifest=manifest, warnings=ready.warnings, started=started)
        return found.model_copy(update={"manifest_digest": ready.manifest_digest, "verified": ready.verified})
    check_names(manifest)
    say(f"verifying {len(manifest.files)} files where they are, {manifest.bytes_total} bytes")
    try:
        owner = destination.with_name(f"{destination.name}.owner")
        with claimed(owner, wait_seconds=order.wait_seconds, say=say) as claim:
            if ready:
                remove_ready(destination)
            with ThreadPoolExecutor(max_workers=_HASHERS, thread_name_prefix="hash") as pool:
                digests = dict(pool.map(lambda entry: _digest(destination, entry), manifest.files))
            warnings = check_content(destination, manifest=manifest)
            claim.check()
            write_ready(destination, manifest=manifest, digests=digests, warnings=warnings)
    except OSError as error:
        raise explain(error, about=str(destination)) from error
    return _result(order, manifest=manifest, warnings=warnings, started=started)


def _is_as_marked(directory: Path, *, ready: Ready, manifest: Manifest) -> bool:
    same_names = {file.path for file in ready.files} == {entry.path for entry in manifest.files}
    return same_names and is_intact(directory, ready=ready)


def _digest(directory: Path, entry: FileEntry) -> tuple[str, str]:
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    with (directory / entry.path).open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(view[:count])
    found = digest.hexdigest()
    if entry.sha256 not in (None, found):
        raise WeightsError(
            "a file does not have the digest that the source states",
            about=f"{entry.path}, {entry.size} bytes",
            why=f"sha256 is {found[:16]}…, stated is {(entry.sha256 or '')[:16]}…",
            remedy="the file is damaged or its SHA256SUMS is old: bring it again",
        )
    return entry.path, found


def _result(order: FetchOrder, *, manifest: Manifest, warnings: list[str], started: float) -> FetchResult:
    return FetchResult(
        destination=order.destination,
        source=order.source,
        manifest_digest=manifest.digest,
        files=len(manifest.files),
        bytes_total=manifest.bytes_total,
        bytes_fetched=0,
        bytes_reused=manifest.bytes_total,
        seconds=round(time.monotonic() - started, 3),
        verified=manifest.verified_by,
        warnings=warnings,
    )
