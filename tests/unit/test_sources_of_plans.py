"""Which sources a plan names, in which order, and where its weights lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.catalog.read import read_catalog
from slipway.errors import UsageError
from slipway.manifests.downloads import plan_download
from slipway.manifests.overrides import Overrides
from slipway.manifests.plan import Weights
from slipway.manifests.planning import make_plan

ENDPOINT, MODEL = "qwen3-tiny", "models/qwen3-tiny"
HUB, BUCKET, OSS = "modelscope://org/tiny", "s3://models/tiny", "oss://bucket/tiny"
Change = Callable[..., None]


def weights(include: Path, **overrides: str) -> Weights:
    return make_plan(read_catalog(include), ENDPOINT, Overrides(**overrides), include=include).weights  # type: ignore[arg-type]


def test_all_sources_that_the_cluster_can_read_are_tried_in_the_models_order(
    include: Path, change: Change
) -> None:
    change(MODEL, sources=[HUB, OSS, BUCKET, "nfs://server/export/tiny?nfsport=12049"])
    assert weights(include).fetch == [HUB, BUCKET, "nfs://server/export/tiny?nfsport=12049"]


def test_without_an_object_store_no_bucket_is_tried(include: Path, change: Change) -> None:
    change(MODEL, sources=[BUCKET, HUB])
    change("clusters/sandbox", object_store=None)
    assert weights(include).fetch == [HUB]


def test_the_endpoints_own_source_comes_first_and_a_runs_is_the_only_one(
    include: Path, change: Change
) -> None:
    change(MODEL, sources=[BUCKET])
    change(f"endpoints/{ENDPOINT}", source=HUB)
    assert weights(include).fetch == [HUB, BUCKET]
    assert weights(include, source="https://server/tiny").fetch == ["https://server/tiny"]


@pytest.mark.parametrize(
    ("sources", "model_revision", "asked", "expected"),
    [
        ([HUB], None, None, [HUB]),
        ([HUB], "v1", None, [f"{HUB}?revision=v1"]),
        ([f"{HUB}?revision=v2", BUCKET], "v1", None, [f"{HUB}?revision=v2", BUCKET]),
        ([f"{HUB}?revision=v2"], "v1", "v3", [f"{HUB}?revision=v3"]),
        ([BUCKET], "v1", "v3", [BUCKET]),
    ],
)
def test_a_revision_reaches_the_hub_and_nothing_else(
    include: Path,
    change: Change,
    sources: list[str],
    model_revision: str | None,
    asked: str | None,
    expected: list[str],
) -> None:
    change(MODEL, sources=sources, revision=model_revision)
    assert weights(include, **({"revision": asked} if asked else {})).fetch == expected


def test_weights_are_found_again_when_another_mirror_is_first(include: Path, change: Change) -> None:
    change(MODEL, sources=[BUCKET, HUB])
    before = weights(include).path
    change(MODEL, sources=[HUB, BUCKET, "https://mirror/tiny"])
    assert weights(include).path == before


@pytest.mark.parametrize("other", [{"revision": "v2"}, {"source": "s3://models/other"}])
def test_another_version_is_another_directory(include: Path, other: dict[str, str]) -> None:
    assert weights(include, **other).path != weights(include).path


def test_weights_in_the_endpoints_own_claim_are_served_from_where_they_are(
    include: Path, change: Change
) -> None:
    change(
        f"endpoints/{ENDPOINT}", source="pvc://shared/models/tiny", volume={"size": "1Gi", "claim": "shared"}
    )
    found = weights(include)
    assert (found.path, found.fetch) == ("models/tiny", ["pvc://shared/models/tiny"])


def test_a_download_goes_where_the_endpoint_of_the_model_will_look(include: Path, change: Change) -> None:
    change(f"endpoints/{ENDPOINT}", volume={"size": "2Gi", "claim": "mine"}, namespace="here")
    catalog = read_catalog(include)
    download = plan_download(
        catalog, model="qwen3-tiny", cluster="sandbox", namespace="here", include=include
    )
    plan = make_plan(catalog, ENDPOINT, include=include)
    assert (download.namespace, download.volume) == ("here", plan.volume)
    assert download.weights == plan.weights


def test_a_download_without_an_endpoint_needs_a_namespace_and_gets_room(include: Path) -> None:
    catalog = read_catalog(include)
    with pytest.raises(UsageError, match="no namespace"):
        plan_download(catalog, model="qwq-32b", cluster="sandbox", include=include)
    download = plan_download(catalog, model="qwq-32b", cluster="sandbox", namespace="models", include=include)
    assert (download.endpoint, download.volume.claim) == (None, "qwq-32b-weights")
    assert download.volume.size == "78Gi", "the model takes 62Gi"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"model": "none", "cluster": "sandbox"}, "no such model"),
        ({"model": "qwen3-tiny", "cluster": "none"}, "no such cluster"),
        ({"model": "qwen3-tiny", "cluster": "sandbox", "source": OSS}, "not one that a download reads"),
    ],
)
def test_what_cannot_be_meant_is_refused(include: Path, asked: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_download(read_catalog(include), include=include, **asked)  # type: ignore[arg-type]
