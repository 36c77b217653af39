"""What the history keeps of an endpoint's life after its deployment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from slipway.errors import ReleaseError
from slipway.releases.records import Release, State, StateSeen
from slipway.releases.store import History

Pend = Callable[..., Release]
NOON = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)


def test_a_rollback_says_whose_bytes_it_has(history: History, pend: Pend) -> None:
    history.mark_good(pend().id)

    back = pend(rollback_of=1, weights_digest="sha256:abc")

    assert (back.number, back.rollback_of, back.weights_digest) == (2, 1, "sha256:abc")
    assert history.by_number("qwen3-tiny", 2) == back
    assert history.by_number("qwen3-tiny", 3) is None


def test_the_first_evidence_stays_and_a_finished_release_takes_none(history: History, pend: Pend) -> None:
    release = pend()
    history.set_evidence(release.id, "/first")
    assert history.set_evidence(release.id, "/second").evidence == "/first"
    history.mark_failed(release.id, failure="it crashed")

    with pytest.raises(ReleaseError, match="is finished"):
        history.set_returning(release.id, 1)


def test_what_serves_is_found_over_all_endpoints(history: History, pend: Pend) -> None:
    for endpoint in ("b", "a", "c"):
        release = pend(endpoint=endpoint)
        if endpoint != "c":
            history.mark_good(release.id)

    assert [release.endpoint for release in history.good_ones()] == ["a", "b"]


def test_a_change_is_written_once_and_its_first_end_stays(history: History, pend: Pend) -> None:
    release = history.mark_good(pend().id)
    values = {"release_id": release.id, "run_id": "scale_endpoint/1", "detail": {"to": 2}, "actor": "ada"}
    change, same = (history.begin_change(kind="scale", **values) for _ in range(2))  # type: ignore[arg-type]
    assert (change.id, change.status) == (same.id, "pending")
    assert history.pending_changes() == [change]

    history.finish_change(change.id, failure="no", detail={"from": 1})
    ended = history.finish_change(change.id)

    assert (ended.status, ended.failure, ended.detail) == ("failed", "no", {"to": 2, "from": 1})
    assert history.pending_changes() == []
    assert history.change_by_run("qwen3-tiny", "scale_endpoint/1") == ended


def test_a_removed_endpoint_keeps_its_releases_and_serves_none(history: History, pend: Pend) -> None:
    history.mark_good(pend().id)

    history.retire("qwen3-tiny")
    history.retire("qwen3-tiny")

    assert history.last_good("qwen3-tiny") is None
    assert [release.status for release in history.list()] == ["superseded"]
    assert history.mark_good(pend().id).number == 2


STEPS = [
    (["serving"], []),
    (["failing"], ["failing"]),
    (["serving", "failing", "failing", "serving", "serving"], ["failing", "serving"]),
    (["serving", "stopped", "serving"], []),
    (["failing", "stopped"], ["failing"]),
]


@pytest.mark.parametrize(("seen", "told"), STEPS)
def test_only_a_change_to_and_from_failing_is_to_be_told(
    history: History, seen: list[str], told: list[str]
) -> None:
    for minute, state in enumerate(seen):
        history.record_state(
            "qwen3-tiny",
            cluster="sandbox",
            state=state,  # type: ignore[arg-type]
            release_number=1,
            now=NOON + timedelta(minutes=minute),
        )

    untold = history.untold_states()
    assert [state.state for state in untold] == told
    for state in untold:
        history.note_told(state.id)
    assert history.untold_states() == []


def test_what_is_kept_of_many_at_once_is_what_would_be_kept_of_each(history: History) -> None:
    def seen(*states: tuple[str, State]) -> list[StateSeen]:
        place: Any = {"cluster": "sandbox", "release_number": 1, "seconds": 2.0}
        return [StateSeen(endpoint=name, state=state, **place) for name, state in states]

    history.record_states(seen(("a", "serving"), ("b", "failing"), ("c", "stopped")), now=NOON)
    rows = history.record_states(
        seen(("c", "failing"), ("a", "serving"), ("b", "serving"), ("new", "serving")),
        now=NOON + timedelta(minutes=5),
    )
    assert history.record_states([]) == []

    assert [(row.endpoint, row.state, row.since) for row in rows] == [
        ("c", "failing", NOON + timedelta(minutes=5)),
        ("a", "serving", NOON),
        ("b", "serving", NOON + timedelta(minutes=5)),
        ("new", "serving", NOON + timedelta(minutes=5)),
    ]
    assert [row.endpoint for row in history.untold_states()] == ["b", "c", "b"]
    hours = {name: history.hours(name) for name in ("a", "b", "c", "new")}
    assert {name: (hour.probes, hour.failures) for name, [hour] in hours.items()} == {
        "a": (2, 0),
        "b": (2, 1),
        "c": (1, 1),
        "new": (1, 0),
    }


def test_hours_add_up_and_a_state_lasts_from_its_first_probe_to_its_last(history: History) -> None:
    for minute, (seconds, ttft) in enumerate([(1.0, 0.5), (3.0, None), (2.0, 0.25)]):
        history.record_state(
            "qwen3-tiny",
            cluster="sandbox",
            state="serving",
            release_number=1,
            seconds=seconds,
            ttft_seconds=ttft,
            now=NOON + timedelta(minutes=20 * minute),
        )

    [state] = history.states("qwen3-tiny")
    assert (state.since, state.seen) == (NOON, NOON + timedelta(minutes=40))
    later, first = history.hours("qwen3-tiny")
    assert (first.hour, first.probes, first.seconds_sum, first.streamed) == (
        NOON.replace(minute=0),
        2,
        4.0,
        1,
    )
    assert (later.probes, later.seconds_max, later.ttft_max) == (1, 2.0, 0.25)
