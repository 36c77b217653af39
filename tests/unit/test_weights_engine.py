"""The engine without a network: durability, digests, streams, what lies in the way, and what a second run costs."""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import WeightsError
from slipway.weights import FetchOrder, durable, fetch, parts, sink
from slipway.weights.digest import Digest
from slipway.weights.manifest import READY, FileEntry, Manifest, make_manifest
from slipway.weights.pace import Pace
from slipway.weights.plan import Job, Plan
from slipway.weights.progress import Progress
from tests.unit.weights_gateway import files_in, model

SHA = hashlib.sha256(b"").hexdigest()


@dataclass
class Memory:
    """A source in memory that counts what it is asked for; ``fails`` makes it unreachable."""

    files: dict[str, bytes]
    source: str = "s3://memory/model"
    fails: bool = False
    listed: int = 0
    served: int = 0
    piece: int = 100_000
    lock: threading.Lock = field(default_factory=threading.Lock)

    def manifest(self) -> Manifest:
        self.listed += 1
        if self.fails:
            raise WeightsError("the source cannot be reached", about=self.source, remedy="wait")
        entries = [
            FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in self.files.items()
        ]
        return make_manifest(source=self.source, files=entries)

    def read(self, entry: FileEntry, *, start: int, stop: int) -> Generator[bytes]:
        for position in range(start, stop, self.piece):
            piece = self.files[entry.path][position : min(stop, position + self.piece)]
            with self.lock:
                self.served += len(piece)
            yield piece


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny" / "0123456789ab"


def fetch_from(
    memory: Memory, destination: Path, monkeypatch: pytest.MonkeyPatch, **more: object
) -> tuple[int, list[str]]:
    """Fetch from memory; returns how many bytes came and what was said."""
    monkeypatch.setattr(import_module("slipway.weights.fetch"), "open_source", lambda order: memory)
    said: list[str] = []
    order = FetchOrder.model_validate({"source": memory.source, "destination": str(destination)} | more)
    return fetch(order, say=said.append).bytes_fetched, said


@pytest.mark.parametrize("direct", [True, False], ids=["past the page cache", "through the page cache"])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 1024 * 1024, 1024 * 1024 + 1, 5_000_001])
@pytest.mark.parametrize("streams", [1, 6])
def test_files_of_every_length_arrive_as_they_are(
    destination: Path, monkeypatch: pytest.MonkeyPatch, direct: bool, size: int, streams: int
) -> None:
    if not direct:
        monkeypatch.setattr(sink, "open_direct", lambda file, mode: -1)
    monkeypatch.setattr(parts, "PART", 1024 * 1024)
    files = model(size=2_000_000) | {"data.bin": random.Random(size).randbytes(size)}
    fetch_from(Memory(files), destination, monkeypatch, streams=streams)
    assert files_in(destination) == files


def test_ten_thousand_small_files_arrive_and_are_synced_together(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = model(size=1000) | {f"small/{number % 100}/{number}": b"%d" % number for number in range(10_000)}
    synced: list[str] = []
    one_by_one = durable._sync_file
    monkeypatch.setattr(durable, "_sync_file", lambda file: (synced.append(str(file)), one_by_one(file)))
    fetch_from(Memory(files), destination, monkeypatch)
    assert len(list(destination.rglob("*"))) == len(files) + 102
    assert (
        len(synced) < 1000 or durable._kind_of_volume(destination.stat().st_dev) not in durable._WHOLE_VOLUME
    )


def test_a_commits_files_that_are_there_need_no_source(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(model(), source=f"modelscope://org/tiny?revision={'a1' * 20}")
    fetch_from(memory, destination, monkeypatch)
    memory.fails = True
    asked = memory.listed
    fetched, _ = fetch_from(memory, destination, monkeypatch)
    assert (fetched, memory.listed) == (0, asked)
    damaged = destination / "config.json"
    os.utime(damaged, (1, 1))
    with pytest.raises(WeightsError, match="cannot be reached"):
        fetch_from(memory, destination, monkeypatch)


@pytest.mark.parametrize("source", ["s3://memory/model", "modelscope://org/tiny?revision=master"])
def test_a_source_that_can_change_is_asked(
    destination: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    memory = Memory(model(), source=source)
    fetch_from(memory, destination, monkeypatch)
    memory.fails = True
    with pytest.raises(WeightsError, match="cannot be reached"):
        fetch_from(memory, destination, monkeypatch)


def test_a_marker_of_another_commit_is_not_taken(destination: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = model()
    fetch_from(Memory(files, source=f"modelscope://org/tiny?revision={'a1' * 20}"), destination, monkeypatch)
    other = Memory(files | {"config.json": b'{"b": 1}'}, source=f"modelscope://org/tiny?revision={'b2' * 20}")
    with pytest.raises(WeightsError, match="changed since they were downloaded"):
        fetch_from(other, destination, monkeypatch)


def test_a_full_verification_finds_what_size_and_time_hide_and_mends_it(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(model())
    fetch_from(memory, destination, monkeypatch)
    assert fetch_from(memory, destination, monkeypatch, verify="full")[0] == 0
    rotten = destination / "model-00001-of-00002.safetensors"
    stat, data = rotten.stat(), bytearray(rotten.read_bytes())
    data[-1] ^= 1
    rotten.write_bytes(data)
    os.utime(rotten, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert fetch_from(memory, destination, monkeypatch)[0] == 0, "size and time are as they were"
    memory.fails = True
    with pytest.raises(WeightsError, match="cannot be reached"):
        fetch_from(memory, destination, monkeypatch, verify="full")
    assert not (destination / READY).exists(), "what is known to be damaged must not be served"
    memory.fails = False
    fetched, said = fetch_from(memory, destination, monkeypatch)
    assert fetched == len(data)
    assert files_in(destination) == memory.files
    rotten.write_bytes(data)
    os.utime(
        rotten, ns=(stat.st_atime_ns, json.loads((destination / READY).read_text())["files"][2]["mtime_ns"])
    )
    fetched, said = fetch_from(memory, destination, monkeypatch, verify="full")
    assert fetched == len(data)
    assert any("another digest" in line for line in said)
    assert files_in(destination) == memory.files


def test_a_link_in_the_way_is_removed_and_never_followed(
    destination: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(model() | {"sub/file.txt": b"x"})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_bytes(b"theirs")
    partial = destination.with_name(f"{destination.name}.partial")
    partial.mkdir(parents=True)
    (partial / "config.json").symlink_to(outside / "config.json")
    (partial / "sub").symlink_to(outside)
    (partial / "stranger").write_text("x")
    fetch_from(memory, destination, monkeypatch)
    assert files_in(destination) == memory.files
    assert not (destination / "sub").is_symlink()
    assert files_in(outside) == {"config.json": b"theirs"}


@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 10_000))
def test_every_part_is_taken_once_and_every_digest_is_of_the_bytes_in_order(
    sizes: list[int], seed: int
) -> None:
    draw, plan = random.Random(seed), Plan()
    jobs = []
    for number, count in enumerate(sizes):
        there = {part for part in range(count) if draw.random() < 0.3}
        entry = FileEntry(path=str(number), size=count)
        jobs.append(Job(entry=entry, count=count, there=there, digest=Digest(entry)))
        plan.add(jobs[-1])
    hashed: dict[str, list[int]] = {job.entry.path: [] for job in jobs}
    taken: list[tuple[Job, int, bool]] = []
    fetched: list[tuple[str, int]] = []
    own: dict[int, Job | None] = dict.fromkeys(range(4))
    while plan.unverified:
        if plan.parts_left and (draw.random() < 0.6 or not taken):
            stream = draw.randrange(4)
            if draw.random() < 0.2:
                plan.leave(stream, own[stream])
                own[stream] = None
            choice = plan.take(stream, own[stream], streams=draw.randrange(1, 9), go_on=lambda: True)
            assert choice is not None
            taken.append(choice)
            own[stream] = choice[0]
            fetched.append((choice[0].entry.path, choice[1]))
        elif taken:
            job, part, in_order = taken.pop(draw.randrange(len(taken)))
            hashed[job.entry.path] += [part] if in_order else []
            if plan.part_done(job, part, count=1, in_order=in_order):
                plan.verified(job, SHA)
        if draw.random() < 0.5 or not taken:
            hash_what_is_there(plan, hashed)
    assert len(fetched) == len(set(fetched))
    assert hashed == {job.entry.path: list(range(job.count)) for job in jobs}


def test_a_stream_more_for_each_file_leaves_half_of_its_bytes_in_order() -> None:
    plan = Plan()
    for number in range(8):
        entry = FileEntry(path=str(number), size=100)
        plan.add(Job(entry=entry, count=100, there=set(), digest=Digest(entry)))
    own: dict[int, Job | None] = dict.fromkeys(range(16))
    in_order = 0
    while plan.parts_left:
        taken = [plan.take(stream, own[stream], streams=16, go_on=lambda: True) for stream in range(16)]
        for stream, choice in enumerate(taken):
            assert choice is not None
            own[stream] = choice[0]
            in_order += choice[2]
            plan.part_done(choice[0], choice[1], count=1, in_order=choice[2])
    assert in_order >= 8 * 50


def test_a_file_ends_once_also_when_a_stream_brings_its_end_while_a_hasher_lets_it_go() -> None:
    plan, entry = Plan(), FileEntry(path="shard", size=3)
    plan.add(Job(entry=entry, count=3, there={0}, digest=Digest(entry)))
    hasher = plan.take_for_hashing()
    assert hasher is not None and plan.next_to_hash(hasher) == 0
    hasher.hashed += 1
    ended = plan.next_to_hash(hasher)  # and now this thread is held up, before it looks at what it was told
    for part in (1, 2):
        taken = plan.take("stream", hasher, streams=1, go_on=lambda: True)
        assert taken == (hasher, part, True)
        by_stream = plan.part_done(hasher, part, count=1, in_order=True)
    assert (ended, by_stream) == (None, True)


def hash_what_is_there(plan: Plan, hashed: dict[str, list[int]]) -> None:
    while plan._to_hash:
        job = plan.take_for_hashing()
        assert job is not None
        while (part := plan.next_to_hash(job)) is not None and part < job.count:
            hashed[job.entry.path].append(part)
            job.hashed += 1
        if part is not None:
            plan.verified(job, SHA)


@pytest.mark.parametrize(
    ("limit", "per_stream", "streams"),
    [(None, 10e6, 64), (300e6, 10e6, 32), (150e6, 300e6, 8), (2e9, 90e6, 32)],
    ids=["limited connections", "a limited line, too", "a slow line", "a fast line"],
)
def test_streams_are_opened_while_they_bring_more(
    monkeypatch: pytest.MonkeyPatch, limit: float | None, per_stream: float, streams: int
) -> None:
    now, fetched = 0.0, 0.0
    monkeypatch.setattr("slipway.weights.pace.time.monotonic", lambda: now)
    pace = Pace(most=64)
    for _ in range(30):
        now += 0.25
        fetched += 0.25 * min(pace.streams * per_stream, limit or 1e12)
        pace.measure(int(fetched))
    assert pace.streams == streams
    pace.slow_down()
    assert pace.streams == streams // 2


def test_a_stalled_line_at_first_does_not_settle_the_number_of_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("slipway.weights.pace.time.monotonic", lambda: now)
    pace = Pace(most=64)
    for fetched in (0, 0, 1_000_000, 17_000_000, 80_000_000):
        now += 0.25
        pace.measure(fetched)
    assert pace.streams > 8


def test_a_bar_is_drawn_over_itself_and_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(total=100, say=pytest.fail, bar=True)
    progress._every = 0
    progress.add_fetched(50)
    progress.tell()
    progress.close()
    drawn = capsys.readouterr().err
    assert drawn.startswith("\r\x1b[2K[####")
    assert " 50.0 %" in drawn
    assert drawn.endswith("\r\x1b[2K")


def test_a_file_that_has_no_bytes_of_its_own_digest_is_refused(
    destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(model())
    honest = memory.manifest()
    lying = make_manifest(
        source=memory.source,
        files=[
            replace(entry, sha256="0" * 64) if entry.path == "config.json" else entry
            for entry in honest.files
        ],
    )
    monkeypatch.setattr(Memory, "manifest", lambda self: lying)
    with pytest.raises(WeightsError, match=r"does not have the digest.*after 3 downloads"):
        fetch_from(memory, destination, monkeypatch)
    assert not list(destination.parent.rglob(READY))
