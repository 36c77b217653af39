"""Claims as a source: copied, or verified where they serve from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slipway.errors import SlipwayError, WeightsError
from slipway.weights import FetchOrder, parts
from slipway.weights.bring import bring
from slipway.weights.manifest import READY
from tests.hub.server import Hub
from tests.unit.weights_gateway import files_in, model, quietly


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No login of this machine's, no long waits."""
    monkeypatch.setattr(parts, "_LONGEST_WAIT", 0.01)
    for name in [name for name in os.environ if name.startswith(("MODELSCOPE", "SLIPWAY_CREDENTIALS"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "volume" / "tiny" / "0123456789ab"


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
