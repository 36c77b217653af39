"""The engine: parallel ranges into files, each verified as soon as it is whole.

Two groups of threads work on one plan. Fetchers take the next part in order of the files, so that few files
are open at once and hashing overlaps with what still comes; hashers read each finished file and compare.
Memory is one block for each thread whatever the model's size. The thread that called waits, tells the
progress, and stops all of them when one fails or a signal arrives.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from slipway.errors import WeightsError
from slipway.weights.layout import known_digest, make_file, may_be_whole, part_count, part_length, parts_there
from slipway.weights.manifest import FileEntry
from slipway.weights.parts import Settings, fetch_part
from slipway.weights.sources.base import BLOCK
from slipway.weights.space import explain

REFETCHES = 2
"""How often a file with a wrong digest is fetched again: a bad link deserves it, a bad object does not."""

_LEAVE_SECONDS = 5.0
_HASHERS = 2


@dataclass
class _Job:
    entry: FileEntry
    left: int
    tries: int = 0
    fetched: int = 0
    reused: int = 0


@dataclass
class _Plan:
    parts: deque[tuple[_Job, int]] = field(default_factory=deque)
    whole: deque[_Job] = field(default_factory=deque)
    unverified: int = 0
    digests: dict[str, str] = field(default_factory=dict)
    failure: BaseException | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    change: threading.Condition = field(default_factory=threading.Condition)


def transfer(files: Iterable[FileEntry], *, settings: Settings) -> dict[str, str]:
    """Bring files into a directory and verify them; what the journal knows is not fetched again.

    Returns:
        Each file's sha256 as read from this disk.

    Raises:
        WeightsError: what could not be fetched, or does not have the digest that the source states.
    """
    plan = _Plan()
    for entry in files:
        _prepare(entry, plan=plan, settings=settings)
    if not plan.unverified:
        return plan.digests
    groups = [(_fetch_parts, min(settings.streams, max(1, len(plan.parts)))), (_hash_files, _HASHERS)]
    threads = [
        threading.Thread(target=_guard, args=(work, plan, settings), name=work.__name__, daemon=True)
        for work, count in groups
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        while True:
            with plan.change:
                if plan.unverified == 0 or plan.failure is not None:
                    break
                plan.change.wait(timeout=0.5)
            settings.check()
            settings.progress.tell()
    finally:
        plan.stop.set()
        with plan.change:
            plan.change.notify_all()
        # A thread that hangs in a read is left behind; it writes nothing more once its read returns.
        deadline = time.monotonic() + _LEAVE_SECONDS
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
    if plan.failure is not None:
        raise plan.failure
    return plan.digests


def _prepare(entry: FileEntry, *, plan: _Plan, settings: Settings) -> None:
    """Put what is missing of a file into the plan."""
    journal, directory = settings.journal, settings.directory
    known = known_digest(entry, directory=directory, journal=journal)
    if known is not None:
        plan.digests[entry.path] = known
        settings.progress.add_reused(entry.size)
        return
    there = parts_there(entry, directory=directory, journal=journal)
    count = part_count(entry, part_size=settings.part_size)
    missing = [part for part in range(count) if part not in there]
    job = _Job(entry=entry, left=len(missing))
    job.reused = entry.size - sum(part_length(entry, part, part_size=settings.part_size) for part in missing)
    settings.progress.add_reused(job.reused)
    if not there and may_be_whole(entry, directory=directory):
        # The journal was lost, the file was not: its digest decides.
        settings.progress.add_reused(entry.size)
        job.reused, missing = entry.size, []
    elif not there:
        # What the journal says of a file that is gone must not be believed of the new, empty one.
        journal.forget(entry.path)
        make_file(entry, directory=directory)
    plan.unverified += 1
    if missing:
        plan.parts.extend((job, part) for part in missing)
    else:
        plan.whole.append(job)


def _guard(work: Callable[[_Plan, Settings], None], plan: _Plan, settings: Settings) -> None:
    try:
        work(plan, settings)
    except BaseException as error:
        with plan.change:
            plan.failure = plan.failure or error
            plan.stop.set()
            plan.change.notify_all()


def _fetch_parts(plan: _Plan, settings: Settings) -> None:
    while True:
        with plan.change:
            while not plan.parts and not plan.stop.is_set() and plan.unverified:
                plan.change.wait()
            if plan.stop.is_set() or not plan.parts:
                return
            job, part = plan.parts.popleft()
        count = fetch_part(job.entry, part, stop_all=plan.stop, settings=settings)
        if plan.stop.is_set():
            return
        settings.journal.part_done(job.entry.path, part)
        with plan.change:
            job.fetched += count
            job.left -= 1
            if job.left == 0:
                plan.whole.append(job)
                plan.change.notify_all()


def _hash_files(plan: _Plan, settings: Settings) -> None:
    while True:
        with plan.change:
            while not plan.whole and not plan.stop.is_set() and plan.unverified:
                plan.change.wait()
            if plan.stop.is_set() or not plan.whole:
                return
            job = plan.whole.popleft()
        _verify(job, plan=plan, settings=settings)


def _verify(job: _Job, *, plan: _Plan, settings: Settings) -> None:
    entry, file = job.entry, settings.directory / job.entry.path
    try:
        digest, mtime_ns = _hash(file, stop=plan.stop)
    except OSError as error:
        raise explain(error, about=str(file)) from error
    if digest is None:
        return
    if entry.sha256 is None or digest == entry.sha256:
        settings.journal.file_verified(entry.path, sha256=digest, mtime_ns=mtime_ns)
        with plan.change:
            plan.digests[entry.path] = digest
            plan.unverified -= 1
            plan.change.notify_all()
        return
    settings.journal.forget(entry.path)
    file.unlink(missing_ok=True)
    settings.progress.discard(fetched=job.fetched, reused=job.reused)
    # What a journal of an earlier run vouched for gets its first try now: only a full fetch counts as one.
    job.tries += 1 if job.fetched == entry.size else 0
    if job.tries > REFETCHES:
        raise WeightsError(
            "a file does not have the digest that the source states",
            about=f"{entry.path}, {entry.size} bytes",
            why=f"sha256 is {digest[:16]}…, stated is {entry.sha256[:16]}…, after {job.tries} downloads",
            remedy="the source is damaged or its SHA256SUMS is old: upload the file again",
        )
    settings.say(f"{entry.path} has a wrong digest; fetching it again ({job.tries} of {REFETCHES})")
    make_file(entry, directory=settings.directory)
    count = part_count(entry, part_size=settings.part_size)
    with plan.change:
        job.left, job.fetched, job.reused = count, 0, 0
        plan.parts.extend((job, part) for part in range(count))
        if not count:
            plan.whole.append(job)
        plan.change.notify_all()


def _hash(file: Path, *, stop: threading.Event) -> tuple[str | None, int]:
    digest = hashlib.sha256()
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    with file.open("rb", buffering=0) as handle:
        while count := handle.readinto(buffer):
            digest.update(view[:count])
            if stop.is_set():
                return None, 0
        # Permissions and sync before the time is taken: the marker compares it later.
        file.chmod(0o644)
        return digest.hexdigest(), os.fstat(handle.fileno()).st_mtime_ns
