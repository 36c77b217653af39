"""The engine's small parts: names, digests, journal, claim, marker, safetensors headers."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from slipway.errors import WeightsError
from slipway.weights import FetchOrder, claim
from slipway.weights.claim import claimed
from slipway.weights.journal import Journal
from slipway.weights.manifest import FileEntry, Manifest, check_path, make_manifest, parse_sums
from slipway.weights.progress import Progress
from slipway.weights.sources.base import parse_retry_after
from slipway.weights.space import check_volume, explain, human_bytes
from slipway.weights.verify import check_safetensors

SHA = hashlib.sha256(b"").hexdigest()


@given(path=st.text(max_size=60))
@example(path="a/../b")
@example(path="..")
@example(path="/a")
@example(path="a\x00b")
def test_every_name_that_is_accepted_stays_inside(path: str) -> None:
    root = Path("/volume/model/key.partial")
    try:
        check_path(path, source="s")
    except WeightsError:
        return
    inside = os.path.normpath(root / path)
    assert inside.startswith(f"{root}/")
    assert inside == f"{root}/{path}"


names = st.text(
    alphabet=st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\\/"), min_size=1, max_size=20
)


@given(
    table=st.dictionaries(
        names.filter(lambda name: not name.startswith("./") and name != "SHA256SUMS"), st.binary(), max_size=8
    )
)
def test_a_list_of_digests_reads_back(table: dict[str, bytes]) -> None:
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in table.items()}
    text = "".join(
        f"{digest} {' *'[index % 2]}./{name}\n" for index, (name, digest) in enumerate(digests.items())
    )
    assert parse_sums(text, about="x") == digests


def test_a_name_that_sha256sum_escapes_reads_back() -> None:
    assert parse_sums(f"\\{SHA}  a\\nb\\\\c\n", about="x") == {"a\nb\\c": SHA}


@given(text=st.text(max_size=200))
def test_any_text_is_a_list_or_a_clear_error(text: str) -> None:
    try:
        sums = parse_sums(text, about="x")
    except WeightsError as error:
        assert "line " in str(error)
        return
    assert all(len(digest) == 64 for digest in sums.values())


entries = st.lists(
    st.builds(
        FileEntry,
        path=names,
        size=st.integers(0, 1000),
        sha256=st.one_of(st.none(), st.just(SHA)),
        etag=st.just('"e"'),
    ),
    unique_by=lambda entry: entry.path,
    max_size=6,
)


@given(files=entries)
def test_the_digest_depends_on_the_files_and_not_on_their_order_or_source(files: list[FileEntry]) -> None:
    one = Manifest(source="a", files=tuple(files))
    assert one.digest == Manifest(source="b", files=tuple(reversed(files))).digest
    if files:
        changed = [FileEntry(path=files[0].path, size=files[0].size + 1, sha256=files[0].sha256), *files[1:]]
        assert one.digest != Manifest(source="a", files=tuple(changed)).digest


@pytest.mark.parametrize(
    "paths", [["a", "a"], ["A", "a"], ["\u00e9", "e\u0301"], ["a", "a/b"], ["a/b/c", "a/b"]]
)
def test_names_that_cannot_stand_beside_each_other_are_refused(paths: list[str]) -> None:
    with pytest.raises(WeightsError):
        make_manifest(source="s", files=[FileEntry(path=path, size=1) for path in paths])


records = st.lists(
    st.one_of(
        st.tuples(st.just("part"), st.sampled_from(["a", "b/目"]), st.integers(0, 5)),
        st.tuples(st.just("verified"), st.sampled_from(["a", "b/目"]), st.integers(0, 2**62)),
        st.tuples(st.just("forget"), st.sampled_from(["a", "b/目"]), st.just(0)),
    ),
    max_size=12,
)


@settings(deadline=None)  # A busy disk syncs when it can.
@given(steps=records, lost=st.integers(0, 400), noise=st.binary(max_size=20))
def test_a_journal_that_was_cut_anywhere_claims_nothing_that_was_not_so(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]], lost: int, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    states = []

    def state(journal: Journal) -> object:
        return [(journal.parts(name), journal.verified(name)) for name in ("a", "b/目")]

    journal = Journal(path, manifest_digest="m", part_size=1)
    states.append(state(journal))
    for kind, name, number in steps:
        if kind == "part":
            journal.part_done(name, number)
        elif kind == "verified":
            journal.file_verified(name, sha256=SHA, mtime_ns=number)
        else:
            journal.forget(name)
        states.append(state(journal))
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - lost)] + (noise.replace(b"\n", b"") if lost else b""))
    again = Journal(path, manifest_digest="m", part_size=1)
    assert state(again) in states
    again.part_done("a", 99)
    again.close()
    third = Journal(path, manifest_digest="m", part_size=1)
    assert 99 in third.parts("a")
    third.close()


def test_a_journal_of_other_files_is_started_anew(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j", manifest_digest="m", part_size=1)
    first.part_done("a", 1)
    first.close()
    for digest, size in (("other", 1), ("m", 2)):
        journal = Journal(tmp_path / "j", manifest_digest=digest, part_size=size)
        assert journal.parts("a") == frozenset()
        journal.close()


def test_a_claim_keeps_the_second_out_until_it_is_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "_LOOK_SECONDS", 0.01)
    path = tmp_path / "owner"
    with claimed(path, wait_seconds=0, say=print) as mine:
        mine.check()
        with (
            pytest.raises(WeightsError, match="another pod is downloading"),
            claimed(path, wait_seconds=0.1, say=print),
        ):
            pass
        release = threading.Event()
        waited = threading.Thread(target=lambda: [release.wait(), mine.release()])
        waited.start()
        release.set()
        with claimed(path, wait_seconds=30, say=print) as theirs:
            theirs.check()
            with pytest.raises(WeightsError, match="taken over"):
                mine.check()
        waited.join()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_owners_claim_is_taken_over_at_once_and_a_silent_ones_later(tmp_path: Path) -> None:
    path = tmp_path / "owner"
    dead = os.fork()
    if dead == 0:
        os._exit(0)
    os.waitpid(dead, 0)
    path.write_text(json.dumps({"token": "t", "host": "h", "pid": dead, "where": claim._where()}))
    with claimed(path, wait_seconds=0, say=print):
        pass
    path.write_text(json.dumps({"token": "t", "host": "elsewhere", "pid": 1, "where": "another boot"}))
    old = path.stat().st_mtime - 60
    os.utime(path, (old, old))
    with claimed(path, wait_seconds=0, say=print):
        pass
    assert list(tmp_path.iterdir()) == []


@given(cut=st.integers(0, 200), extra=st.integers(0, 3))
def test_a_safetensors_file_is_accepted_only_at_its_full_length(
    tmp_path_factory: pytest.TempPathFactory, cut: int, extra: int
) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}, "t": {"data_offsets": [0, 64]}}).encode()
    whole = struct.pack("<Q", len(header)) + header + bytes(64)
    file = tmp_path_factory.mktemp("st") / "m.safetensors"
    file.write_bytes(whole[: max(0, len(whole) - cut)] + bytes(extra))
    if file.stat().st_size == len(whole) and not cut:
        check_safetensors(file, about="x")
    elif file.stat().st_size != len(whole):
        with pytest.raises(WeightsError):
            check_safetensors(file, about="x")


@given(data=st.binary(max_size=100))
def test_any_bytes_are_a_safetensors_file_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    file = tmp_path_factory.mktemp("st") / "m.safetensors"
    file.write_bytes(data)
    try:
        check_safetensors(file, about="x")
    except WeightsError as error:
        assert "x" in str(error)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the volume is full"),
        (errno.EDQUOT, r"full \(a quota\)"),
        (errno.EROFS, "mount it read-write"),
        (errno.EACCES, "fsGroup"),
        (errno.EIO, "does not work"),
    ],
)
def test_a_file_systems_refusal_says_what_to_do(number: int, said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        raise explain(OSError(number, os.strerror(number)), about="/models")


def test_a_volume_that_has_no_room_or_no_directory_is_said(tmp_path: Path) -> None:
    check_volume(tmp_path / "new" / "deep", still_to_come=1)
    with pytest.raises(WeightsError, match="too little free space"):
        check_volume(tmp_path, still_to_come=1 << 60)
    (tmp_path / "file").write_text("x")
    with pytest.raises(WeightsError, match="does not work"):
        check_volume(tmp_path / "file" / "below", still_to_come=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new"]


@pytest.mark.parametrize("value", ["relative/dir/x", "/models", "/models/../etc/x", "/"])
def test_a_destination_is_absolute_and_below_a_volume(value: str) -> None:
    with pytest.raises(ValidationError):
        FetchOrder(source="s3://b/p", destination=value)


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, None), ("", None), ("3", 3.0), ("-1", 0.0), ("soon", None), ("nan", None)]
)
def test_retry_after_is_read_or_ignored(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_progress_is_a_line_with_rate_and_time_left() -> None:
    said: list[str] = []
    progress = Progress(total=100 * 1024, say=said.append, every=0)
    progress.add_reused(10 * 1024)
    progress.add_fetched(40 * 1024)
    progress.tell()
    assert said[0].startswith(" 50.0 %  50.0 KiB of 100.0 KiB, ")
    assert said[0].endswith("s left")
    progress.tell()
    assert said[1].endswith("no bytes are coming")
    assert human_bytes(1536) == "1.5 KiB"
