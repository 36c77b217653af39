"""The engine: streams fetch parts, and each file's digest is taken while it still comes.

A stream prefers to go on with the file that it is in: its bytes then arrive in order and are hashed from the stream's
own buffer, without a second read. A stream without a file of its own helps another one, from its end if it is alone at
that; such parts are read back for the digest as soon as all before them are there. So hashing keeps up with the
network on as many cores as there are streams, and a file's digest is known a moment after its last byte. Memory is one
block for each thread whatever the model's size. The thread that called waits, tells the progress, syncs what was
written in groups, opens more streams while that helps, and stops all of them when one fails or a signal arrives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from slipway.errors import WeightsError
from slipway.weights.digest import Digest
from slipway.weights.durable import sync_group
from slipway.weights.layout import known_digest, make_file, may_be_whole, part_count, part_length, parts_there
from slipway.weights.manifest import FileEntry
from slipway.weights.pace import Pace
from slipway.weights.parts import Settings, Stream, fetch_part
from slipway.weights.plan import Job, Plan
from slipway.weights.sink import BLOCK, SMALL_BLOCK, ReadBack, make_buffer
from slipway.weights.space import explain
from slipway.weights.wire import Wire

REFETCHES = 2
"""How often a file with a wrong digest is fetched again: a bad link deserves it, a bad object does not."""

SYNC_SECONDS = 2.0
"""How much of a download a machine that goes down may lose, besides the parts in flight."""

_LEAVE_SECONDS = 5.0
_HASHERS = 2
_WITH_LARGE_BLOCKS = 8
_TICK = 0.2


def transfer(files: Iterable[FileEntry], *, settings: Settings) -> dict[str, str]:
    """Bring files into a directory and verify them; what the journal knows is not fetched again.

    Returns:
        Each file's sha256.

    Raises:
        WeightsError: what could not be fetched, or does not have the digest that the source states.
    """
    plan = Plan()
    for entry in files:
        _prepare(entry, plan=plan, settings=settings)
    if plan.unverified:
        _Crew(plan, settings).run()
    return plan.digests


class _Crew:
    """The threads of one transfer."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self._plan, self._settings = plan, settings
        self._pace = Pace(most=min(settings.streams, max(1, plan.parts_left)))
        settings.slow_down = self._pace.slow_down
        self._threads: list[threading.Thread] = []
        self._fetchers = 0

    def run(self) -> None:
        """Work until all files are verified.

        Raises:
            WeightsError: the first failure of any thread.
        """
        plan, settings = self._plan, self._settings
        for _ in range(_HASHERS):
            self._start(_hash_files, plan, settings)
        synced_at = time.monotonic()
        try:
            while True:
                self._open_streams()
                with plan.change:
                    if plan.unverified == 0 or plan.failure is not None:
                        break
                    plan.change.wait(timeout=_TICK)
                settings.check()
                settings.progress.tell()
                self._pace.measure(settings.progress.fetched)
                if time.monotonic() - synced_at > SYNC_SECONDS:
                    sync_group(settings.journal, settings.directory)
                    synced_at = time.monotonic()
        finally:
            plan.stop.set()
            with plan.change:
                plan.change.notify_all()
            # A thread that hangs in a read is left behind; it writes nothing more once its read returns.
            deadline = time.monotonic() + _LEAVE_SECONDS
            for thread in self._threads:
                thread.join(timeout=max(0.0, deadline - time.monotonic()))
        if plan.failure is not None:
            raise plan.failure

    def _open_streams(self) -> None:
        while self._fetchers < self._pace.streams:
            self._start(_fetch_parts, self._plan, self._settings, self._pace, self._fetchers)
            self._fetchers += 1

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        plan = self._plan

        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                with plan.change:
                    plan.failure = plan.failure or error
                    plan.stop.set()
                    plan.change.notify_all()

        thread = threading.Thread(target=guarded, name=work.__name__, daemon=True)
        self._threads.append(thread)
        thread.start()


def _prepare(entry: FileEntry, *, plan: Plan, settings: Settings) -> None:
    """Put what is missing of a file into the plan."""
    journal, directory = settings.journal, settings.directory
    known = known_digest(entry, directory=directory, journal=journal)
    if known is not None:
        plan.digests[entry.path] = known
        settings.progress.add_reused(entry.size)
        return
    there = parts_there(entry, directory=directory, journal=journal)
    count = part_count(entry, part_size=settings.part_size)
    if not there and may_be_whole(entry, directory=directory):
        # The journal was lost, the file was not: its digest decides.
        there = frozenset(range(count))
    elif not there:
        # What the journal says of a file that is gone must not be believed of the new, empty one.
        if journal.parts(entry.path) or journal.verified(entry.path):
            journal.forget(entry.path)
        make_file(entry, directory=directory)
    job = Job(entry=entry, count=count, there=set(there), digest=Digest(entry))
    missing = (part_length(entry, part, part_size=settings.part_size) for part in job.untaken)
    job.reused = entry.size - sum(missing)
    settings.progress.add_reused(job.reused)
    plan.add(job)


def _fetch_parts(plan: Plan, settings: Settings, pace: Pace, number: int) -> None:
    view = make_buffer(BLOCK if number < _WITH_LARGE_BLOCKS else SMALL_BLOCK)
    stream = Stream(wire=Wire(stall_seconds=settings.stall_seconds), view=view)
    own: Job | None = None
    try:
        while True:
            taken = plan.take(stream, own, streams=pace.streams, go_on=lambda: number < pace.streams)
            if taken is None:
                return
            own, part, in_order = taken
            feed = own.digest.update if in_order else None
            count = fetch_part(
                own.entry, part, stream=stream, feed=feed, stop_all=plan.stop, settings=settings
            )
            if plan.stop.is_set():
                return
            settings.journal.part_done(own.entry.path, part)
            if plan.part_done(own, part, count=count, in_order=in_order):
                _conclude(own, plan=plan, settings=settings)
    finally:
        plan.leave(stream, own)
        stream.wire.close()


def _hash_files(plan: Plan, settings: Settings) -> None:
    view = make_buffer()
    while (job := plan.take_for_hashing()) is not None:
        file = settings.directory / job.entry.path
        try:
            complete = _catch_up(job, file, view=view, plan=plan, part_size=settings.part_size)
        except OSError as error:
            raise explain(error, about=str(file)) from error
        if plan.stop.is_set():
            return
        if complete:
            _conclude(job, plan=plan, settings=settings)


def _catch_up(job: Job, file: Path, *, view: memoryview, plan: Plan, part_size: int) -> bool:
    """Read back and hash the parts that are there in a row after what is hashed already.

    Returns:
        Whether that was the file's end. Afterwards nobody else but the caller may say so: a file that was let go may
        have come to its end in another thread.
    """
    if not job.count:
        return True
    back = ReadBack(file, view=view)
    try:
        while (part := plan.next_to_hash(job)) is not None:
            if part == job.count:
                return True
            position = part * part_size
            stop = position + part_length(job.entry, part, part_size=part_size)
            while position < stop and not plan.stop.is_set():
                block = back.read(position)[: stop - position]
                if not block:
                    raise WeightsError(
                        "a file became shorter during the download",
                        about=str(file),
                        why=f"it ends at byte {position}, not {job.entry.size}",
                        remedy="let nothing else write to this volume's directory, and start again",
                    )
                job.digest.update(block)
                position += len(block)
            if plan.stop.is_set():
                return False
            job.hashed += 1
    finally:
        back.close()
    return False


def _conclude(job: Job, *, plan: Plan, settings: Settings) -> None:
    """Compare a complete file's digest with what the source states; a wrong one is fetched again."""
    entry, file = job.entry, settings.directory / job.entry.path
    problem = job.digest.problem()
    if problem is None:
        try:
            file.chmod(0o644)
            mtime_ns = file.lstat().st_mtime_ns
        except OSError as error:
            raise explain(error, about=str(file)) from error
        digest = job.digest.sha256
        settings.journal.file_verified(entry.path, sha256=digest, mtime_ns=mtime_ns)
        plan.verified(job, digest)
        return
    settings.journal.forget(entry.path)
    settings.progress.discard(fetched=job.fetched, reused=job.reused)
    # What a journal of an earlier run vouched for gets its first try now: only a full fetch counts as one.
    job.tries += 1 if job.fetched == entry.size else 0
    if job.tries > REFETCHES:
        file.unlink(missing_ok=True)
        raise WeightsError(
            "a file does not have the digest that the source states",
            about=f"{entry.path}, {entry.size} bytes",
            why=f"{problem}, after {job.tries} downloads",
            remedy="the source is damaged or its SHA256SUMS is old: upload the file again",
        )
    settings.say(f"{entry.path} has a wrong digest; fetching it again ({job.tries} of {REFETCHES})")
    make_file(entry, directory=settings.directory)
    plan.again(job, Digest(entry))
