"""What the history promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from slipway.errors import ReleaseError
from slipway.releases.records import Release
from slipway.releases.store import History
from tests.unit.test_releases.pending import OBJECTS

Pend = Callable[..., Release]


def test_a_release_comes_back_as_it_was_written(history: History, pend: Pend) -> None:
    written = pend(plan={"b": 1, "a": [True, None, 0.5, "ü"]})
    read = history.get(written.id)
    assert read == written
    assert (read.number, read.status, read.title) == (1, "pending", "release 1")
    assert read.objects == OBJECTS
    assert read.plan == {"b": 1, "a": [True, None, 0.5, "ü"]}
    assert len(read.plan_digest) == 64
    assert read.created_at.tzinfo is UTC
    assert abs(read.created_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_plan_digest_does_not_depend_on_the_order_of_keys(pend: Pend) -> None:
    assert pend(plan={"a": 1, "b": 2}).plan_digest == pend(plan={"b": 2, "a": 1}).plan_digest


def test_a_record_cannot_be_changed(pend: Pend) -> None:
    with pytest.raises(ValidationError):
        pend().status = "good"  # type: ignore[misc]


def test_numbers_count_from_one_for_each_endpoint(pend: Pend) -> None:
    assert [pend().number, pend().number, pend(endpoint="other").number, pend().number] == [1, 2, 1, 3]


def test_a_retried_resolve_gets_its_release_back_as_it_planned_it(pend: Pend) -> None:
    first = pend(run_id="r1", plan={"replicas": 1})
    assert pend(run_id="r1", plan={"replicas": 2}) == first


def test_one_run_may_deploy_two_endpoints(pend: Pend) -> None:
    assert pend(run_id="r1").id != pend(run_id="r1", endpoint="other").id


def test_a_cleared_resolve_of_a_finished_release_is_refused(history: History, pend: Pend) -> None:
    history.mark_good(pend(run_id="r1").id)
    with pytest.raises(ReleaseError, match=r"finished.*\(release 1 of qwen3-tiny, good\).*Trigger a new run"):
        pend(run_id="r1")


def test_objects_that_are_not_those_of_the_digest_are_refused(pend: Pend) -> None:
    with pytest.raises(ReleaseError, match="not those of the digest"):
        pend(digest="0" * 64)


def test_damaged_objects_are_never_handed_out(history: History, pend: Pend) -> None:
    release = pend()
    with history.database.writing() as session:
        session.execute(text("UPDATE releases SET digest = :other"), {"other": "0" * 64})
    with pytest.raises(ReleaseError, match="damaged"):
        history.get(release.id)


def test_an_unknown_release_is_one_clear_line(history: History) -> None:
    with pytest.raises(ReleaseError, match=r"no such release \(id 77\).*SLIPWAY_DATABASE_URL"):
        history.get(77)


def test_a_release_is_found_by_its_run(history: History, pend: Pend) -> None:
    release = pend(run_id="r1")
    assert history.by_run("qwen3-tiny", "r1") == release
    assert history.by_run("qwen3-tiny", "r2") is None


def test_a_good_release_supersedes_the_former(history: History, pend: Pend) -> None:
    first, second = pend(), pend()
    assert history.last_good("qwen3-tiny") is None
    history.mark_good(first.id)
    good = history.mark_good(second.id)
    assert good.status == "good"
    assert good.finished_at is not None
    assert good.finished_at >= good.created_at
    assert history.get(first.id).status == "superseded"
    assert history.last_good("qwen3-tiny") == good
    assert history.last_good("qwen3-tiny", before=second.number) == history.get(first.id)
    assert history.last_good("other") is None


def test_marking_twice_is_marking_once(history: History, pend: Pend) -> None:
    good, failed = pend(), pend()
    assert history.mark_good(good.id) == history.mark_good(good.id)
    first = history.mark_failed(failed.id, failure="no memory")
    assert history.mark_failed(failed.id, failure="something else") == first
    assert first.failure == "no memory"


def test_an_older_release_does_not_become_good_over_a_newer_one(history: History, pend: Pend) -> None:
    old, new = pend(), pend()
    history.mark_good(new.id)
    with pytest.raises(ReleaseError, match=r"newer release serves already.*release 2 is good"):
        history.mark_good(old.id)
    assert history.last_good("qwen3-tiny") == history.get(new.id)


@pytest.mark.parametrize("finished", ["good", "superseded", "failed", "broken"])
def test_a_finished_release_never_changes_back(history: History, pend: Pend, finished: str) -> None:
    release = pend()
    if finished in ("good", "superseded"):
        history.mark_good(release.id)
        if finished == "superseded":
            history.mark_good(pend().id)
    else:
        history.mark_failed(release.id, failure="x", broken=finished == "broken")
    before = history.get(release.id)
    assert before.status == finished
    changes: list[Callable[[], object]] = [
        lambda: history.set_fencing(release.id, 3),
        lambda: history.set_weights(release.id, source="s3://x/y", digest="z"),
    ]
    if finished != "good":
        changes.append(lambda: history.mark_good(release.id))
    if finished != "failed":
        changes.append(lambda: history.mark_failed(release.id, failure="y"))
    if finished != "broken":
        changes.append(lambda: history.mark_failed(release.id, failure="y", broken=True))
    for change in changes:
        with pytest.raises(ReleaseError):
            change()
    history.note_failure(release.id, "later")
    assert history.get(release.id) == before


def test_the_first_failure_is_kept_and_a_good_end_forgets_it(history: History, pend: Pend) -> None:
    release = pend()
    history.note_failure(release.id, "download: no such key")
    history.note_failure(release.id, "record: the run ended")
    assert history.get(release.id).failure == "download: no such key"
    assert history.mark_good(release.id).failure is None


def test_text_that_databases_refuse_is_made_harmless(history: History, pend: Pend) -> None:
    release = pend(reason="a\x00b")
    history.note_failure(release.id, "lone \ud800 surrogate")
    read = history.get(release.id)
    assert (read.reason, read.failure) == ("a\ufffdb", "lone ? surrogate")


def test_fencing_only_grows(history: History, pend: Pend) -> None:
    release = pend()
    assert history.set_fencing(release.id, 4).fencing == 4
    assert history.set_fencing(release.id, 4).fencing == 4
    with pytest.raises(ReleaseError, match="fencing number 3 after 4"):
        history.set_fencing(release.id, 3)


def test_weights_are_what_was_really_downloaded(history: History, pend: Pend) -> None:
    release = pend()
    history.set_weights(release.id, source="s3://models/mirror", digest="sha256:ab")
    read = history.get(release.id)
    assert (read.weights_source, read.weights_digest) == ("s3://models/mirror", "sha256:ab")


def test_lists_have_the_newest_first(history: History, pend: Pend) -> None:
    pend(), pend(endpoint="other"), pend()
    assert [release.number for release in history.list(endpoint="qwen3-tiny")] == [2, 1]
    assert [release.endpoint for release in history.list(limit=2)] == ["qwen3-tiny", "other"]


def test_pending_releases_are_found_for_the_reconciler(history: History, pend: Pend) -> None:
    first, second = pend(), pend(endpoint="other")
    history.mark_failed(first.id, failure="x")
    assert [release.id for release in history.pending()] == [second.id]


def test_findings_of_the_last_check_are_kept(history: History, pend: Pend) -> None:
    release = pend()

    def finding(severity: str) -> SimpleNamespace:
        return SimpleNamespace(
            check="storage", severity=severity, about="pvc", reason="full", remedy="grow it"
        )

    history.record_findings(release.id, [finding("blocking"), finding("not checked")])
    history.record_findings(release.id, [finding("ok")])
    (found,) = history.findings(release.id)
    assert (found.check, found.severity, found.remedy) == ("storage", "ok", "grow it")


def test_probes_are_kept_in_order(history: History, pend: Pend) -> None:
    release = pend()
    history.record_probe(
        release.id, through="release", result={"answer": "a\x00b", "steps": [{"seconds": 1.5}]}
    )
    history.record_probe(release.id, through="published", result={"answer": None})
    first, second = history.probes(release.id)
    assert (first.through, first.answer, first.result["steps"]) == ("release", "a\ufffdb", [{"seconds": 1.5}])
    assert (second.through, second.answer) == ("published", "")
    with pytest.raises(ReleaseError, match="no such release"):
        history.record_probe(99, through="release", result={})


def test_a_benchmark_is_kept_once_with_its_figures(history: History, pend: Pend) -> None:
    release = pend()
    raw = {
        "num_prompts": 20,
        "completed": 20,
        "failed": 0,
        "duration": 12.5,
        "total_output_tokens": 640,
        "output_throughput": 51.2,
        "request_throughput": 1.6,
        "median_ttft_ms": 80.5,
        "p99_ttft_ms": 120.25,
        "p50_tpot_ms": 7.0,
        "request_rate": "inf",
        "ttfts": [0.1, 0.2],
    }
    for _ in range(2):
        history.record_benchmark(release.id, workload="short", raw=raw, raw_reference="/artifacts/1.json")
    (kept,) = history.benchmarks(release.id)
    assert kept.valid
    assert (kept.figures.p50_ttft_ms, kept.figures.p50_tpot_ms, kept.figures.p99_ttft_ms) == (
        80.5,
        7.0,
        120.25,
    )
    assert (kept.figures.output_throughput, kept.figures.p99_e2el_ms) == (51.2, None)
    assert kept.raw == {key: value for key, value in raw.items() if key != "ttfts"}


@pytest.mark.parametrize(
    "raw",
    [
        {"num_prompts": 20, "completed": 19, "failed": 1, "total_output_tokens": 9},
        {"num_prompts": 20, "completed": 0, "failed": 20, "mean_ttft_ms": 0.0},
        {
            "num_prompts": 1,
            "completed": 1,
            "failed": 0,
            "total_output_tokens": 9,
            "mean_itl_ms": float("nan"),
        },
        {},
    ],
)
def test_a_benchmark_that_must_not_be_compared_says_so(
    history: History, pend: Pend, raw: dict[str, float]
) -> None:
    kept = history.record_benchmark(pend().id, workload="short", raw=raw, raw_reference="x")
    assert not kept.valid


def test_results_belong_to_their_release(history: History, pend: Pend) -> None:
    first, second = pend(), pend()
    history.record_probe(first.id, through="release", result={"answer": "hello"})
    assert len(history.probes(first.id)) == 1
    assert history.probes(second.id) == []
