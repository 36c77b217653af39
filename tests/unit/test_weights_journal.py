"""The journal of a download after a power cut: only what was synced is believed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.weights.journal import Journal

SHA = hashlib.sha256(b"").hexdigest()


def journal(path: Path, *, boot: str) -> Journal:
    return Journal(path, manifest_digest="m", part_size=1, boot=boot)


def test_after_a_power_cut_only_what_was_synced_is_believed(tmp_path: Path) -> None:
    first = journal(tmp_path / "j", boot="one")
    first.part_done("a", 0)
    paths, count = first.unsynced()
    first.part_done("a", 1)
    first.synced(count)
    first.part_done("b", 0)
    first.file_verified("b", sha256=SHA, mtime_ns=1)
    assert paths == {"a"}
    first.close()
    same = journal(tmp_path / "j", boot="one")
    assert (same.parts("a"), same.parts("b"), same.verified("b")) == ({0, 1}, {0}, (SHA, 1))
    same.close()
    other = journal(tmp_path / "j", boot="two")
    assert (other.parts("a"), other.parts("b"), other.verified("b")) == ({0}, frozenset(), None)
    other.part_done("c", 7)
    other.synced(other.unsynced()[1])
    other.close()
    again = journal(tmp_path / "j", boot="three")
    assert (again.parts("a"), again.parts("b"), again.parts("c")) == ({0}, frozenset(), {7})
    again.close()


steps = st.lists(
    st.tuples(
        st.sampled_from(["part", "forget", "sync", "kill", "power cut"]),
        st.sampled_from("ab"),
        st.integers(0, 3),
    ),
    max_size=20,
)


@settings(deadline=None)  # A busy disk syncs when it can.
@given(steps=steps)
def test_a_journal_never_believes_a_part_that_the_disk_may_not_have(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    path, boot = tmp_path_factory.mktemp("journal") / "j", 0
    written: set[tuple[str, int]] = set()
    on_disk: set[tuple[str, int]] = set()
    now = journal(path, boot="0")
    for kind, name, number in steps:
        if kind == "part":
            written.add((name, number))
            now.part_done(name, number)
        elif kind == "forget":
            now.forget(name)
            written = {item for item in written if item[0] != name}
            on_disk = {item for item in on_disk if item[0] != name}
        elif kind == "sync":
            on_disk = set(written)
            now.synced(now.unsynced()[1])
        elif kind == "kill":
            now.close()
            now = journal(path, boot=str(boot))
        else:
            boot += 1
            written = set(on_disk)
            now.close()
            now = journal(path, boot=str(boot))
        assert {(file, part) for file in "ab" for part in now.parts(file)} == written
    now.close()
