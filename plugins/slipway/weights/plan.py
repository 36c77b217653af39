"""Which part a stream takes next, and how far each file's digest is: the state that the engine's threads share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from slipway.weights.digest import Digest
from slipway.weights.manifest import FileEntry

_FEW_IN_A_FILE = 2
"""So many streams in a file, its owner among them, leave it most of its order."""


@dataclass(eq=False)
class Job:
    """One file that is not verified yet.

    Attributes:
        count: how many parts it has.
        there: the parts that are written.
        digest: over the first ``hashed`` parts.
        busy: whether a thread is hashing the part that comes next, so that no other one does.
        owner: the stream that takes its parts in order.
    """

    entry: FileEntry
    count: int
    there: set[int]
    digest: Digest
    hashed: int = 0
    busy: bool = False
    owner: object = None
    tries: int = 0
    fetched: int = 0
    reused: int = 0
    untaken: deque[int] = field(init=False)

    def __post_init__(self) -> None:
        self.untaken = deque(part for part in range(self.count) if part not in self.there)


class Plan:
    """All files of a transfer; every method may be called from any thread."""

    def __init__(self) -> None:
        self.change = threading.Condition()
        self.stop = threading.Event()
        self.failure: BaseException | None = None
        self.digests: dict[str, str] = {}
        self.unverified = 0
        self._fresh: deque[Job] = deque()
        self._open: list[Job] = []
        self._to_hash: deque[Job] = deque()

    @property
    def parts_left(self) -> int:
        """How many parts nobody has taken yet."""
        return sum(len(job.untaken) for job in [*self._fresh, *self._open])

    def add(self, job: Job) -> None:
        """Take a file in, before the threads start or when it has to come again."""
        with self.change:
            self.unverified += 1
            if job.untaken:
                self._fresh.append(job)
            self._offer_for_hashing(job)

    def take(
        self, stream: object, own: Job | None, *, streams: int, go_on: Callable[[], bool]
    ) -> tuple[Job, int, bool] | None:
        """The next part for a stream; None when it should end.

        What arrives out of order is read back for the digest. One helper in a file therefore begins at its end, where
        it does not come between its owner and the owner's next part. Of many helpers the owner has few parts left to
        itself; they share the parts in order, so that the reading back follows closely.

        Args:
            stream: who asks.
            own: the file that it was in.
            streams: how many there are.
            go_on: whether it shall fetch another part at all.

        Returns:
            The file, the part, and whether the stream shall feed its bytes to the file's digest.
        """
        with self.change:
            while True:
                if self.stop.is_set() or not self.unverified or not go_on():
                    return None
                job = self._choose(own)
                if job is not None:
                    break
                self.change.wait()
            if job.owner is None:
                job.owner = stream
            near = job.owner is stream or streams > _FEW_IN_A_FILE * len(self._open)
            part = job.untaken.popleft() if near else job.untaken.pop()
            if not job.untaken and job in self._open:
                self._open.remove(job)
            in_order = part == job.hashed and not job.busy
            job.busy = job.busy or in_order
            return job, part, in_order

    def leave(self, stream: object, own: Job | None) -> None:
        """Let another stream be the owner of a file."""
        with self.change:
            if own is not None and own.owner is stream:
                own.owner = None

    def part_done(self, job: Job, part: int, *, count: int, in_order: bool) -> bool:
        """Note a part that is written; returns whether the file is complete and its digest with it."""
        with self.change:
            job.there.add(part)
            job.fetched += count
            if in_order:
                job.hashed, job.busy = part + 1, False
                if job.hashed == job.count:
                    return True
            self._offer_for_hashing(job)
            return False

    def take_for_hashing(self) -> Job | None:
        """Wait for a file with parts to read back; None when there is nothing more to do."""
        with self.change:
            while not self._to_hash:
                if self.stop.is_set() or not self.unverified:
                    return None
                self.change.wait()
            return None if self.stop.is_set() else self._to_hash.popleft()

    def next_to_hash(self, job: Job) -> int | None:
        """The part that whoever hashes a file takes next: its count when there is none after it any more.

        None when it is not there yet. The file is let go then, and may be another thread's before this one looks again.
        """
        with self.change:
            if job.hashed in job.there or job.hashed == job.count:
                return job.hashed
            job.busy = False
            return None

    def verified(self, job: Job, digest: str) -> None:
        """Note a file's digest as right."""
        with self.change:
            self.digests[job.entry.path] = digest
            self.unverified -= 1
            if not self.unverified:
                self.change.notify_all()

    def again(self, job: Job, digest: Digest) -> None:
        """Let all of a file be fetched again."""
        with self.change:
            job.there, job.digest, job.hashed, job.busy = set(), digest, 0, False
            job.fetched = job.reused = 0
            job.untaken = deque(range(job.count))
            self.unverified -= 1
            self.add(job)
            self.change.notify_all()

    def _choose(self, own: Job | None) -> Job | None:
        if own is not None and own.untaken:
            return own
        while self._fresh:
            job = self._fresh.popleft()
            if len(job.untaken) > 1:
                self._open.append(job)
            if job.untaken:  # None where a stream went on with a file that came again.
                return job
        return max(self._open, key=lambda job: len(job.untaken), default=None)

    def _offer_for_hashing(self, job: Job) -> None:
        if not job.busy and (job.hashed in job.there or job.hashed == job.count):
            job.busy = True
            self._to_hash.append(job)
            self.change.notify_all()
