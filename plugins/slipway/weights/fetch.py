"""Bring a model into a volume: list, check, claim, transfer, verify, publish, mark; killed, it continues.

Beside a destination ``D`` lie, while it is being made, ``D.partial/`` (the files), ``D.journal`` (what of
them is on the disk) and ``D.owner`` (who works on it). Publishing is one rename of ``D.partial`` to ``D``;
the marker ``D/READY.json`` is written after it, so a kill in between leaves a directory that nobody serves
from and that the next run takes back and finishes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from slipway.errors import UsageError, WeightsError
from slipway.weights import parts
from slipway.weights.claim import Claim, claimed
from slipway.weights.durable import sync_files, sync_group
from slipway.weights.journal import Journal
from slipway.weights.layout import space_needed
from slipway.weights.manifest import READY, Manifest
from slipway.weights.orders import FetchOrder, FetchResult
from slipway.weights.parts import Settings
from slipway.weights.progress import Progress, on_terminal
from slipway.weights.ready import Ready, read_ready, remove_ready, write_ready
from slipway.weights.sources import Source, open_source
from slipway.weights.space import check_volume, explain, human_bytes, sync_directory
from slipway.weights.there import already_there, find_damaged, known_to_be_there
from slipway.weights.transfer import transfer
from slipway.weights.verify import check_content, check_index, check_names, is_index


def print_line(line: str) -> None:
    """Print a line of progress at once: a pod's log shows it while the download runs."""
    print(line, flush=True)


def fetch(order: FetchOrder, *, say: Callable[[str], None] = print_line) -> FetchResult:
    """Bring the files behind a source into a directory, or find that they are there already.

    Raises:
        WeightsError: what is wrong with the source, the way to it, the volume or the files, and what to do.
        UsageError: an order that no source can fulfil.
    """
    damaged = find_damaged(order, destination=Path(order.destination), say=say)
    try:
        return _fetch(order, damaged=damaged, say=say)
    except BaseException:
        if damaged:
            # Not mended: nobody may serve from it any longer.
            with suppress(OSError):
                remove_ready(Path(order.destination))
        raise


def _fetch(order: FetchOrder, *, damaged: frozenset[str], say: Callable[[str], None]) -> FetchResult:
    started = time.monotonic()
    destination = Path(order.destination)
    known = None if damaged else known_to_be_there(order, destination=destination)
    if known is not None:
        say(f"{destination} has all of {order.source} already, {human_bytes(known.bytes_total)}")
        return _kept_result(order, ready=known, started=started)
    source = open_source(order)
    manifest = source.manifest()
    found = already_there(order, destination=destination, manifest=manifest)
    if found is not None and not damaged:
        say(f"{destination} has all of {order.source} already, {human_bytes(manifest.bytes_total)}")
        return _result(order, manifest=manifest, warnings=found.warnings, started=started)
    check_names(manifest)
    say(f"{order.source}: {len(manifest.files)} files, {human_bytes(manifest.bytes_total)}")
    check_volume(destination.parent, still_to_come=0)
    try:
        owner = destination.with_name(f"{destination.name}.owner")
        with claimed(owner, wait_seconds=order.wait_seconds, say=say) as claim:
            # Another pod may have finished it while this one waited for the claim.
            found = already_there(order, destination=destination, manifest=manifest)
            if found is not None and not damaged:
                return _result(order, manifest=manifest, warnings=found.warnings, started=started)
            progress = Progress(total=manifest.bytes_total, say=say, bar=say is print_line and on_terminal())
            try:
                warnings = _bring(
                    order,
                    source=source,
                    manifest=manifest,
                    claim=claim,
                    destination=destination,
                    progress=progress,
                    damaged=damaged,
                    say=progress.say,
                )
            finally:
                progress.close()
    except OSError as error:
        raise explain(error, about=str(destination)) from error
    result = _result(order, manifest=manifest, warnings=warnings, started=started, progress=progress)
    rate = human_bytes(result.bytes_fetched / result.seconds) if result.seconds else "?"
    say(
        f"ready: {destination}, {human_bytes(result.bytes_fetched)} fetched, "
        f"{human_bytes(result.bytes_reused)} reused, {result.seconds:.1f} s, {rate}/s, "
        f"verified: {result.verified}"
    )
    return result


def _bring(
    order: FetchOrder,
    *,
    source: Source,
    manifest: Manifest,
    claim: Claim,
    destination: Path,
    progress: Progress,
    damaged: frozenset[str],
    say: Callable[[str], None],
) -> list[str]:
    partial = destination.with_name(f"{destination.name}.partial")
    journal_file = destination.with_name(f"{destination.name}.journal")
    if destination.exists():
        _refuse_what_is_not_ours(destination, manifest=manifest)
    journal = Journal(journal_file, manifest_digest=manifest.digest, part_size=parts.PART)
    try:
        _take_back(destination, partial=partial, journal=journal, damaged=damaged, say=say)
        partial.mkdir(mode=0o755, exist_ok=True)
        _trust_what_fits(manifest, partial=partial, journal=journal, say=say)
        check_volume(destination.parent, still_to_come=space_needed(manifest.files, directory=partial))
        settings = Settings(
            source=source,
            directory=partial,
            journal=journal,
            progress=progress,
            streams=order.streams,
            stall_seconds=order.stall_seconds,
            say=say,
            check=claim.check,
            part_size=parts.PART,
        )
        # Indexes first: a missing shard is known before the shards that are there were downloaded.
        indexes = [entry for entry in manifest.files if is_index(entry.path)]
        digests = transfer(indexes, settings=settings)
        for entry in indexes:
            check_index(partial / entry.path, manifest=manifest)
        digests |= transfer((entry for entry in manifest.files if entry not in indexes), settings=settings)
        warnings = check_content(partial, manifest=manifest) + _size_warning(order, manifest=manifest)
        for warning in warnings:
            say(f"warning: {warning}")
        claim.check()
        _publish(manifest, partial=partial, destination=destination)
        write_ready(destination, manifest=manifest, digests=digests, warnings=warnings)
    except BaseException:
        # A pod that is told to stop may go on at another node, which has only what is on the disk.
        with suppress(OSError):
            sync_group(journal, partial)
        raise
    finally:
        journal.close()
    journal_file.unlink(missing_ok=True)
    return warnings


def _take_back(
    destination: Path,
    *,
    partial: Path,
    journal: Journal,
    damaged: frozenset[str],
    say: Callable[[str], None],
) -> None:
    """Make a destination that is not ready, or no longer as it was verified, into a partial one again.

    What its marker says of the files that nobody touched goes into the journal: only the others are looked
    at.
    """
    if not destination.exists():
        return
    if partial.exists():
        raise WeightsError(
            "the destination is there without its marker, and a partial download beside it",
            about=str(destination),
            why="Slipway never leaves both: something else wrote here",
            remedy=f"look at both and remove one: {destination} or {partial}",
        )
    ready = read_ready(destination)
    say(f"{destination} is not as it was verified: checking its files again")
    for file in ready.files if ready else []:
        if file.path in damaged:
            journal.forget(file.path)
        elif journal.verified(file.path) is None:
            journal.file_verified(file.path, sha256=file.sha256, mtime_ns=file.mtime_ns)
    remove_ready(destination)
    destination.rename(partial)
    sync_directory(partial.parent)


def _refuse_what_is_not_ours(destination: Path, *, manifest: Manifest) -> None:
    """Touch no directory that has anything in it besides this model: somebody named the wrong one."""
    ours = {entry.path for entry in manifest.files} | {READY, f"{READY}.tmp"}
    why = "it is a mount point" if destination.is_mount() else ""
    if not destination.is_dir():
        why = "it is a file"
    for path in destination.rglob("*"):
        inside = path.relative_to(destination).as_posix()
        if inside not in ours and (path.is_symlink() or not path.is_dir()):
            why = f"it has {inside} in it, which is not of this model"
            break
    if why:
        raise UsageError(
            "the destination is not a directory of Slipway's",
            about=str(destination),
            why=why,
            remedy="name a new directory, such as <volume>/<model>/<revision>",
        )


def _trust_what_fits(
    manifest: Manifest, *, partial: Path, journal: Journal, say: Callable[[str], None]
) -> None:
    """Remove from a partial directory what is not of this manifest, or has another length."""
    wanted = {entry.path: entry.size for entry in manifest.files}
    for root, directories, files in os.walk(partial, topdown=False):
        for name in [*files, *directories]:
            path = Path(root) / name
            inside = path.relative_to(partial).as_posix()
            if path.is_dir() and not path.is_symlink():
                if not any(True for _ in path.iterdir()):
                    path.rmdir()
            elif path.is_symlink() or wanted.get(inside) != path.stat().st_size:
                say(f"removing {inside}: not a file of this model")
                path.unlink()
                journal.forget(inside)


def _publish(manifest: Manifest, *, partial: Path, destination: Path) -> None:
    """Sync names and contents, then rename into place."""
    sync_files(partial, (entry.path for entry in manifest.files))
    for root, _, _ in os.walk(partial, topdown=False):
        Path(root).chmod(0o755)
        sync_directory(Path(root))
    partial.rename(destination)
    sync_directory(destination.parent)


def _kept_result(order: FetchOrder, *, ready: Ready, started: float) -> FetchResult:
    return FetchResult(
        destination=order.destination,
        source=order.source,
        manifest_digest=ready.manifest_digest,
        files=len(ready.files),
        bytes_total=ready.bytes_total,
        bytes_fetched=0,
        bytes_reused=ready.bytes_total,
        seconds=round(time.monotonic() - started, 3),
        verified=ready.verified,
        warnings=ready.warnings,
    )


def _size_warning(order: FetchOrder, *, manifest: Manifest) -> list[str]:
    expected, found = order.expected_bytes, manifest.bytes_total
    if not expected or abs(found - expected) <= 0.05 * expected:
        return []
    return [
        f"the catalog says {human_bytes(expected)}, the source has {human_bytes(found)}: the right model?"
    ]


def _result(
    order: FetchOrder,
    *,
    manifest: Manifest,
    warnings: list[str],
    started: float,
    progress: Progress | None = None,
) -> FetchResult:
    return FetchResult(
        destination=order.destination,
        source=order.source,
        manifest_digest=manifest.digest,
        files=len(manifest.files),
        bytes_total=manifest.bytes_total,
        bytes_fetched=progress.fetched if progress else 0,
        bytes_reused=progress.reused if progress else manifest.bytes_total,
        seconds=round(time.monotonic() - started, 3),
        verified=manifest.verified_by,
        warnings=warnings,
    )
