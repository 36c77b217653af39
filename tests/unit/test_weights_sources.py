"""Sources other than S3 and plain HTTP: ModelScope by its real SDK, NFS by a real server, claims, and several."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from weights_gateway import files_in, model, read_range, sums

from sandbox import nfs
from sandbox.settings import load
from slipway.errors import SlipwayError, UsageError, WeightsError
from slipway.weights import FetchOrder, FetchResult, fetch, parts
from slipway.weights.bring import bring
from slipway.weights.manifest import READY, SUMS
from slipway.weights.sources import libnfs, open_source
from tests.hub.server import Hub, Repository, commit_id, serving

OLD, NEW = commit_id("old"), commit_id("new")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No login of this machine's, no long waits."""
    monkeypatch.setattr(parts, "_LONGEST_WAIT", 0.01)
    for name in [name for name in os.environ if name.startswith(("MODELSCOPE", "SLIPWAY_CREDENTIALS"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "volume" / "tiny" / "0123456789ab"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model whose branch master is at the old commit."""
    files = model() | {"sub/目录.txt": b"x"}
    repository = Repository(
        commits={OLD: files, NEW: files | {"config.json": b'{"new": true}'}}, branches={"master": OLD}
    )
    with serving(Hub(models={"org/tiny": repository})) as running:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", running.url)
        yield running


def order(source: str, destination: Path, *fallbacks: str, **more: object) -> FetchOrder:
    return FetchOrder.model_validate(
        {"source": source, "fallbacks": fallbacks, "destination": str(destination), **more}
    )


def quietly(
    work: Callable[..., FetchResult], source: str, destination: Path, *fallbacks: str, **more: object
) -> FetchResult:
    return work(order(source, destination, *fallbacks, **more), say=lambda line: None)


# ModelScope


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


# NFS


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A directory that a real NFS server exports, and the beginning of its sources."""
    work = tmp_path_factory.mktemp("nfs")
    made = nfs.ensure(load().cache)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory, state, config, log = (work / name for name in ("export", "state", "g.conf", "log"))
    directory.mkdir(mode=0o755)
    state.mkdir()
    config.write_text(
        nfs.configuration(made, address="127.0.0.1", port=port, directory=directory, state=state)
    )
    before = os.environ.get(libnfs.LIBRARY)
    os.environ[libnfs.LIBRARY] = str(made.client)
    libnfs._library.cache_clear()
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *nfs.command(made, config=config, state=state)],
            env={**os.environ, **made.environment},
            stdout=output,
            stderr=output,
        )
    try:
        nfs.wait("127.0.0.1", port, log=log)
        yield directory, f"nfs://127.0.0.1{nfs.EXPORT}/%s?version=4&nfsport={port}"
    finally:
        server.kill()
        server.wait()
        os.environ.pop(libnfs.LIBRARY)
        if before:
            os.environ[libnfs.LIBRARY] = before


def fill(directory: Path, files: dict[str, bytes]) -> None:
    """Write files readable for everybody."""
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755)


def test_a_model_arrives_from_a_real_nfs_server_without_a_mount(
    export: tuple[Path, str], destination: Path
) -> None:
    directory, source = export
    files = model(size=5_000_000) | {"目录/深/a b.txt": b"x"}
    fill(directory / "whole", files | {SUMS: sums(files)})
    (directory / "whole" / "link.txt").symlink_to("config.json")
    result = quietly(bring, source % "whole", destination)
    again = quietly(bring, source % "whole", destination)
    assert files_in(destination) == files | {"link.txt": files["config.json"]}
    assert not any(path.is_symlink() for path in destination.rglob("*"))
    assert "sha256 for" in result.verified
    assert again.bytes_fetched == 0


def test_many_streams_read_from_nfs_at_once_and_every_byte_is_right(
    export: tuple[Path, str], destination: Path
) -> None:
    directory, source = export
    files = model(size=60_000_000)
    fill(directory / "large", files | {SUMS: sums(files)})
    result = quietly(bring, source % "large", destination, streams=16)
    assert (result.verified, result.bytes_fetched) == ("sha256", sum(map(len, files.values())))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none", r"no such directory.*pseudo root"),
        ("closed", r"denied access.*insecure"),
        ("loop", r"symbolic link to a directory"),
    ],
)
def test_nfs_says_in_one_line_what_is_wrong(
    export: tuple[Path, str], destination: Path, path: str, message: str
) -> None:
    directory, source = export
    fill(directory / "closed", {"config.json": b"{}"})
    (directory / "closed").chmod(0o700)
    fill(directory / "loop", {"config.json": b"{}"})
    if not (directory / "loop" / "again").is_symlink():
        (directory / "loop" / "again").symlink_to(".")
    with pytest.raises(WeightsError, match=message):
        quietly(bring, source % path, destination)


def test_a_file_that_is_replaced_on_nfs_after_the_listing_is_not_taken(
    export: tuple[Path, str], destination: Path
) -> None:
    directory, source = export
    fill(directory / "moving", model())
    opened = open_source(order(source % "moving", destination))
    entry = next(entry for entry in opened.manifest().files if entry.path == "config.json")
    (directory / "moving" / "config.json").write_bytes(b"[]")
    with pytest.raises(WeightsError, match="changed during the download"):
        list(opened.read(entry, start=0, stop=entry.size))


def test_an_nfs_server_that_is_not_there_is_told_at_once(destination: Path) -> None:
    with pytest.raises(WeightsError, match=r"NFS server cannot be reached.*refused"):
        quietly(bring, "nfs://127.0.0.1/export/m?nfsport=1", destination)


@pytest.mark.parametrize(
    "source",
    ["nfs://server", "nfs://server/export?debug=9", "nfs://server/export?nfsport=x", "nfs:///export"],
)
def test_an_nfs_source_that_says_too_little_is_refused(destination: Path, source: str) -> None:
    with pytest.raises(UsageError, match="needs a server and an exported directory"):
        open_source(order(source, destination))


# Claims


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    """A claim's mount with a model in it, as a cache of links would hold it."""
    files = model()
    mount = tmp_path / "claim"
    fill(mount / "models" / "tiny", files | {SUMS: sums(files)})
    return mount


def test_a_mounted_claim_is_copied_and_verified(claim: Path, destination: Path) -> None:
    blobs = claim / "blobs"
    blobs.mkdir()
    (claim / "models/tiny/config.json").rename(blobs / "c0ffee")
    (claim / "models/tiny/config.json").symlink_to("../../blobs/c0ffee")
    result = quietly(bring, "pvc://shared/models/tiny", destination, claims={"shared": str(claim)})
    assert files_in(destination) == model()
    assert not (destination / "config.json").is_symlink()
    assert (result.verified, result.source) == ("sha256", "pvc://shared/models/tiny")


def test_a_directory_that_slipway_made_is_verified_by_its_marker(claim: Path, destination: Path) -> None:
    made, claims = claim / "made" / "key", {"shared": str(claim)}
    quietly(bring, "pvc://shared/models/tiny", made, claims=claims)
    result = quietly(bring, "pvc://shared/made/key", destination, claims=claims)
    assert (result.verified, files_in(destination)) == ("sha256", model())
    (made / "merges.txt").unlink()
    with pytest.raises(WeightsError, match=r"lacks files.*merges\.txt"):
        quietly(bring, "pvc://shared/made/key", destination.with_name("other"), claims=claims)


def test_the_serving_volume_itself_is_verified_where_it_is_and_nothing_is_copied(claim: Path) -> None:
    place = claim / "models" / "tiny"
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    again: list[str] = []
    work = {"source": "pvc://shared/models/tiny", "destination": str(place), "claims": {"shared": str(claim)}}
    first = bring(FetchOrder.model_validate(work), say=lambda line: None)
    second = bring(FetchOrder.model_validate(work), say=again.append)
    assert (place / READY).is_file()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (first.bytes_fetched, second.bytes_fetched) == (0, 0)
    assert "nobody has touched it" in again[0]


def test_a_download_that_is_verified_in_place_stays_what_its_source_knows(
    hub: Hub, destination: Path
) -> None:
    first = quietly(bring, "modelscope://org/tiny", destination)
    claims = {"volume": str(destination.parent.parent)}
    place = "/".join(destination.parts[-2:])
    found = quietly(bring, f"pvc://volume/{place}", destination, claims=claims)
    again = quietly(bring, "modelscope://org/tiny", destination)
    assert found.manifest_digest == again.manifest_digest == first.manifest_digest
    assert (found.bytes_fetched, again.bytes_fetched, found.verified) == (0, 0, "sha256")


@pytest.mark.parametrize("name", ["config.json", "model-00001-of-00002.safetensors"])
def test_damage_in_the_serving_volume_is_told_and_never_marked_ready(claim: Path, name: str) -> None:
    place = claim / "models" / "tiny"
    work = {"source": "pvc://shared/models/tiny", "destination": str(place), "claims": {"shared": str(claim)}}
    (place / name).write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="does not have the digest"):
        bring(FetchOrder.model_validate(work), say=lambda line: None)
    assert not (place / READY).exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../outside", "/dev/null"])
def test_a_link_out_of_a_claim_is_refused(claim: Path, destination: Path, target: str) -> None:
    (claim.parent / "outside").write_text("secret")
    (claim / "models/tiny/generation_config.json").symlink_to(target)
    with pytest.raises(WeightsError, match="no file of this volume"):
        quietly(bring, "pvc://shared/models/tiny", destination, claims={"shared": str(claim)})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("pvc://shared", "needs the path in it"),
        ("pvc://shared/../etc", "needs the path in it"),
        ("pvc://other/models/tiny", "not mounted here"),
        ("pvc://shared/none", "no such directory"),
    ],
)
def test_a_claim_that_cannot_be_read_is_told(
    claim: Path, destination: Path, source: str, message: str
) -> None:
    with pytest.raises(SlipwayError, match=message):
        quietly(bring, source, destination, claims={"shared": str(claim)})


# Several sources


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
