"""ModelScope as a source, by its real SDK, and several sources of which the next is tried when one fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from slipway.errors import SlipwayError, WeightsError
from slipway.weights import fetch, parts
from slipway.weights.bring import bring
from slipway.weights.sources import open_source
from tests.hub.server import Hub
from tests.unit.weights_gateway import NEW, OLD, files_in, model, order, quietly, read_range


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No login of this machine's, no long waits."""
    monkeypatch.setattr(parts, "_LONGEST_WAIT", 0.01)
    for name in [name for name in os.environ if name.startswith(("MODELSCOPE", "SLIPWAY_CREDENTIALS"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "volume" / "tiny" / "0123456789ab"


def test_a_branch_is_pinned_to_the_commit_that_it_was_when_listed(hub: Hub, destination: Path) -> None:
    repository = hub.models["org/tiny"]
    source = open_source(order("modelscope://org/tiny", destination))
    manifest = source.manifest()
    repository.branches["master"] = NEW
    entry = next(entry for entry in manifest.files if entry.path == "config.json")
    assert read_range(source, entry, start=0, stop=entry.size) == repository.commits[OLD]["config.json"]
    result = quietly(bring, "modelscope://org/tiny?revision=master", destination)
    assert result.requested == "modelscope://org/tiny?revision=master"
    assert result.source == f"modelscope://org/tiny?revision={NEW}"
    assert files_in(destination) == repository.commits[NEW]


@pytest.mark.parametrize("revision", ["master", OLD])
def test_a_model_arrives_verified_from_a_branch_or_a_commit(
    hub: Hub, destination: Path, monkeypatch: pytest.MonkeyPatch, revision: str
) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    hub.models["org/tiny"].tokens = {"ms-secret"}
    source = f"modelscope://org/tiny?revision={revision}"
    result, again = quietly(bring, source, destination), quietly(bring, source, destination)
    assert files_in(destination) == hub.models["org/tiny"].commits[OLD]
    assert (result.verified, again.bytes_fetched) == ("sha256", 0)
    assert hub.seen_by_store == {""}, "the token followed the redirect to another host"


def test_a_renewed_token_is_used_at_the_next_request(
    hub: Hub, destination: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLIPWAY_CREDENTIALS", str(tmp_path))
    secret = tmp_path / "MODELSCOPE_API_TOKEN"
    secret.write_text("first\n")
    hub.models["org/tiny"].tokens = {"first", "second"}
    source = open_source(order("modelscope://org/tiny", destination))
    entry = source.manifest().files[0]
    hub.expired.add("first")
    secret.write_text("second\n")
    assert len(read_range(source, entry, start=0, stop=entry.size)) == entry.size


def test_a_token_that_expires_in_the_middle_is_waited_for_until_the_secret_has_another_one(
    hub: Hub, destination: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLIPWAY_CREDENTIALS", str(tmp_path))
    secret = tmp_path / "MODELSCOPE_API_TOKEN"
    secret.write_text("first")
    repository = hub.models["org/tiny"]
    repository.tokens = {"first", "second"}
    waited: list[str] = []

    def say(line: str) -> None:
        if "waiting for a new token" in line:
            waited.append(line)
            secret.write_text("second")

    one = order("modelscope://org/tiny", destination)
    source = open_source(one)
    manifest = source.manifest()
    read_range(source, manifest.files[0], start=0, stop=manifest.files[0].size)
    hub.expired.add("first")
    monkeypatch.setattr(source, "manifest", lambda: manifest)
    monkeypatch.setattr(import_module("slipway.weights.fetch"), "open_source", lambda order: source)
    fetch(one, say=say)
    assert files_in(destination) == repository.commits[OLD]
    assert waited


@pytest.mark.parametrize(
    ("source", "prepare", "message"),
    [
        ("org/none", lambda hub: None, r"no model org/none at revision master.*private model needs a token"),
        ("org/tiny?revision=v9", lambda hub: None, r"org/tiny has no revision v9.*branch, a tag or a commit"),
        (
            "org/tiny",
            lambda hub: hub.models["org/tiny"].gated.add("mine"),
            r"denied access.*gated.*accept the model's conditions",
        ),
        ("org/tiny", lambda hub: hub.expired.add("mine"), r"does not accept the token.*has expired"),
        ("org/tiny", lambda hub: hub.models["org/tiny"].commits[OLD].clear(), r"no files in org/tiny"),
        (
            "org/tiny",
            lambda hub: hub.models["org/tiny"].commits[OLD].update({"../evil": b"x"}),
            r"file name that is not safe",
        ),
    ],
)
def test_modelscope_says_in_one_line_what_is_wrong(
    hub: Hub,
    destination: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    prepare: Callable[[Hub], None],
    message: str,
) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "mine")
    prepare(hub)
    with pytest.raises(WeightsError, match=message) as caught:
        quietly(bring, f"modelscope://{source}", destination)
    assert "mine" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_listing_that_the_sdk_knows_to_be_incomplete_is_refused(
    hub: Hub, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelscope_hub._legacy_api.REPO_FILES_TRUNCATION_LIMIT", 3)
    hub.longest_listing = 3
    with pytest.raises(WeightsError, match="does not list all files"):
        quietly(fetch, "modelscope://org/tiny", destination)


def test_the_next_source_is_tried_when_one_fails_and_the_failure_is_recorded(
    hub: Hub, claim: Path, destination: Path
) -> None:
    sources = ("modelscope://org/none", "pvc://shared/models/tiny")
    result = quietly(bring, sources[0], destination, sources[1], claims={"shared": str(claim)})
    assert result.source == "pvc://shared/models/tiny"
    assert len(result.failed_sources) == 1
    assert "no model org/none" in result.failed_sources[0]
    assert files_in(destination) == model()


def test_when_all_sources_fail_each_is_named_with_its_reason(hub: Hub, destination: Path) -> None:
    with pytest.raises(WeightsError, match=r"none of the 2 sources") as caught:
        quietly(bring, "modelscope://org/none", destination, "nfs://127.0.0.1/export/m?nfsport=1")
    assert "no model org/none" in caught.value.why
    assert "NFS server cannot be reached" in caught.value.why


def test_a_fault_of_the_destination_is_not_blamed_on_the_sources(hub: Hub, destination: Path) -> None:
    destination.parent.parent.mkdir(parents=True)
    destination.parent.write_text("a file where a directory should be")
    asked: list[str] = []
    with pytest.raises(SlipwayError) as caught:
        bring(
            order("modelscope://org/tiny", destination, "modelscope://org/none"),
            say=asked.append,
        )
    assert str(destination.parent) in caught.value.about
    assert not any("this source failed" in line for line in asked)


def test_what_was_verified_serves_again_while_its_source_is_down(
    hub: Hub, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = quietly(bring, "modelscope://org/tiny", destination)
    hub.models.clear()
    again = quietly(bring, "modelscope://org/tiny", destination)
    assert (again.manifest_digest, again.bytes_fetched) == (first.manifest_digest, 0)
    assert any("no source could be asked" in warning for warning in again.warnings)


def test_weights_that_are_there_are_not_fetched_from_a_mirror_with_other_files_beside_them(
    hub: Hub, claim: Path, destination: Path
) -> None:
    (claim / "models/tiny/README.md").write_text("only here")
    claims = {"shared": str(claim)}
    first = quietly(bring, "modelscope://org/none", destination, "pvc://shared/models/tiny", claims=claims)
    second = quietly(bring, "modelscope://org/tiny", destination, "pvc://shared/models/tiny", claims=claims)
    assert (second.manifest_digest, second.bytes_fetched) == (first.manifest_digest, 0)
