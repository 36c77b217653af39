"""Which versions of weights stay, and how the others go."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipway.errors import SlipwayError, UsageError, WeightsError
from slipway.operators.removal import mounted_paths, needed_versions
from slipway.weights.manifest import READY, FileEntry, make_manifest
from slipway.weights.ready import write_ready
from slipway.weights.retention import RetentionOrder, RetentionResult, keep_and_remove
from tests.unit.weights_gateway import model

MODEL = "tiny"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with two complete versions, one that was begun, and a file of somebody else's."""
    directory = tmp_path / MODEL
    for key in ("aaa", "bbb"):
        place = directory / key
        place.mkdir(parents=True)
        for name, data in model(size=1000).items():
            (place / name).write_bytes(data)
        names = [path for path in place.iterdir()]
        entries = [FileEntry(path=path.name, size=path.stat().st_size, etag="e") for path in names]
        manifest = make_manifest(source="s3://bucket/tiny", files=entries)
        write_ready(place, manifest=manifest, digests={path.name: "0" for path in names}, warnings=[])
    (directory / "ccc.partial").mkdir()
    (directory / "ccc.partial" / "part").write_bytes(b"x" * 10_000)
    (directory / "ccc.journal").write_text("{}")
    (directory / "notes.txt").write_text("somebody's")
    return directory


def work(volume: Path, **more: Any) -> RetentionResult:
    order = RetentionOrder.model_validate({"directory": str(volume), "wait_seconds": 0, **more})
    return keep_and_remove(order, say=lambda line: None)


def names(volume: Path) -> set[str]:
    return {path.name for path in volume.iterdir()}


def test_without_being_asked_it_lists_and_removes_nothing(volume: Path) -> None:
    before = names(volume)
    result = work(volume, needed={"aaa": "an endpoint"})
    assert names(volume) == before
    told = {one.key: (one.needed, bool(one.written)) for one in result.versions}
    assert told == {"aaa": ("an endpoint", True), "bbb": ("", True), "ccc": ("", False)}
    assert (result.removed, result.count) == (0, 3)


def test_what_is_named_goes_and_all_else_stays(volume: Path) -> None:
    result = work(volume, remove=["bbb"])
    assert names(volume) == {"aaa", "ccc.partial", "ccc.journal", "notes.txt"}
    assert (result.removed, result.versions[0].key) == (1, "bbb")
    assert result.bytes_freed > 1000


def test_unused_takes_all_that_nothing_needs_what_was_begun_too(volume: Path) -> None:
    result = work(volume, needed={"aaa": "an endpoint"}, unused=True)
    assert names(volume) == {"aaa", "notes.txt"}
    assert result.removed == 2


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"remove": ["aaa", "bbb"]}, r"version that is needed is not removed.*bbb.: serves"),
        ({"remove": ["none"]}, r"no such version.*Versions are: aaa, bbb, ccc"),
        ({"remove": [".."]}, "no such version"),
        ({"remove": ["notes.txt"]}, "no such version"),
        ({"remove": ["aaa/../bbb"]}, "no such version"),
    ],
)
def test_a_refusal_removes_nothing_at_all(volume: Path, asked: dict[str, Any], message: str) -> None:
    before = names(volume)
    with pytest.raises(UsageError, match=message):
        work(volume, needed={"bbb": "serves"}, **asked)
    assert names(volume) == before


def test_a_version_that_somebody_downloads_to_is_not_taken_away(volume: Path) -> None:
    owner = {"token": "t", "host": "another-pod", "pid": 1, "where": ""}
    (volume / "ccc.owner").write_text(json.dumps(owner))
    with pytest.raises(WeightsError, match="another pod is downloading"):
        work(volume, remove=["ccc"])
    assert (volume / "ccc.partial" / "part").exists()


def test_a_removal_that_was_killed_is_finished_and_its_rest_is_no_version(volume: Path) -> None:
    (volume / "bbb" / READY).unlink()
    (volume / "bbb").rename(volume / "bbb.removing-0123")
    result = work(volume)
    assert "bbb.removing-0123" not in names(volume)
    assert {one.key for one in result.versions} == {"aaa", "ccc"}


def test_a_volume_that_never_had_the_model_has_no_versions(tmp_path: Path) -> None:
    assert work(tmp_path / "none").count == 0


def test_a_result_fits_into_a_termination_message(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / MODEL / f"{number:012x}").mkdir(parents=True)
    needed = {f"{number:012x}": "x" * 300 for number in range(200)}
    result = work(tmp_path / MODEL, needed=needed)
    assert result.count == 200
    assert len(result.model_dump_json()) < 4000


# What is needed


def release(endpoint: str, number: int, status: str, key: str) -> Any:
    plan = {"weights": {"path": f"{MODEL}/{key}"}}
    return SimpleNamespace(endpoint=endpoint, number=number, status=status, plan=plan)


def test_the_last_good_releases_and_pending_ones_keep_their_weights() -> None:
    releases = [
        release("chat", 5, "pending", "e5"),
        release("chat", 4, "failed", "e4"),
        release("chat", 3, "good", "e3"),
        release("chat", 2, "good", "e2"),
        release("chat", 1, "good", "e1"),
        release("code", 1, "good", "c1"),
    ]
    needed = needed_versions(f"{MODEL}/now", mounted={}, releases=releases, kept=2, model=MODEL)
    assert set(needed) == {"now", "e5", "e3", "e2", "c1"}
    assert needed["e3"] == "chat needs it for release 3 (good)"


def test_weights_of_other_models_in_the_volume_are_not_this_ones() -> None:
    mounted = {"other/aaa": "Pod p mounts it", "aaa": "Pod q mounts it", f"{MODEL}/bbb": "Pod r mounts it"}
    needed = needed_versions(f"{MODEL}/now", mounted=mounted, releases=[], kept=1, model=MODEL)
    assert needed == {"now": "the catalog names it now", "bbb": "Pod r mounts it"}


class FakeCluster:
    """Lists what it is given."""

    def __init__(self, **found: list[dict[str, Any]]) -> None:
        self.found = found

    def list(self, *, api_version: str, kind: str, namespace: str) -> list[dict[str, Any]]:
        return self.found.get(kind, [])


def pod_spec(sub_path: str | None, claim: str = "c") -> dict[str, Any]:
    mount = {"name": "w", "mountPath": "/m"} | ({"subPath": sub_path} if sub_path else {})
    volume = {"name": "w", "persistentVolumeClaim": {"claimName": claim}}
    return {"volumes": [volume], "containers": [{"name": "server", "volumeMounts": [mount]}]}


def made(name: str, spec: dict[str, Any], **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"phase": "Running"}}


STEP = {"app.kubernetes.io/managed-by": "slipway", "app.kubernetes.io/component": "download"}


def test_a_workload_that_is_scaled_to_0_still_mounts_its_version() -> None:
    workload = {
        "metadata": {"name": "chat"},
        "spec": {"replicas": 0, "template": {"spec": pod_spec(f"{MODEL}/aaa")}},
    }
    cluster: Any = FakeCluster(
        StatefulSet=[workload],
        Pod=[
            made("other", pod_spec("x/y", claim="another")),
            made("step", pod_spec(None), **STEP),
            made("server", pod_spec(f"{MODEL}/bbb")),
        ],
    )
    found = mounted_paths(cluster, namespace="n", claim="c")
    assert found == {f"{MODEL}/aaa": "StatefulSet chat mounts it", f"{MODEL}/bbb": "Pod server mounts it"}


def test_what_mounts_the_whole_volume_may_use_any_of_it() -> None:
    cluster: Any = FakeCluster(Pod=[made("notebook", pod_spec(None))])
    with pytest.raises(SlipwayError, match=r"mounts the whole volume.*Pod notebook"):
        mounted_paths(cluster, namespace="n", claim="c")
