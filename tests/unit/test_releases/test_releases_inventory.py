"""A release in the cluster, and the history restored from it."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from slipway.cluster.objects import Ref
from slipway.errors import ReleaseError
from slipway.releases.inventory import LARGEST_MANIFESTS, inventory_object, read_inventory
from slipway.releases.records import Release
from slipway.releases.store import History

Pend = Callable[..., Release]


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "models", "name": name},
        "spec": spec,
    }


def rendered(*objects: dict[str, Any]) -> bytes:
    return json.dumps({"release": "0123456789ab", "stages": {"workload": list(objects)}}).encode()


@pytest.fixture
def release(pend: Pend) -> Release:
    return pend(endpoint="qwen3-0.6b", objects=rendered(service("a"), service("b")))


def test_a_release_comes_back_from_its_config_map(release: Release) -> None:
    obj = inventory_object(release)
    assert obj == inventory_object(release)
    assert obj["metadata"]["name"] == "slipway-release-qwen3-0-6b-1"
    assert obj["metadata"]["namespace"] == "models"
    assert obj["metadata"]["labels"]["slipway.io/endpoint"] == "qwen3-0-6b"
    read, refs = read_inventory(json.loads(json.dumps(obj)))
    assert read == release.model_copy(update={"id": 0})
    assert refs == [
        Ref(apiVersion="v1", kind="Service", namespace="models", name="a"),
        Ref(apiVersion="v1", kind="Service", namespace="models", name="b"),
    ]


def test_a_release_that_does_not_fit_is_refused_with_its_size(pend: Pend) -> None:
    noise = base64.b64encode(os.urandom(1_200_000)).decode()
    with pytest.raises(ReleaseError, match=r"does not fit into a ConfigMap.*bytes compressed.*1048576"):
        inventory_object(pend(objects=rendered(service("a", noise=noise))))


def test_a_large_release_that_compresses_fits(pend: Pend) -> None:
    release = pend(objects=rendered(*(service(f"s{n}", selector={"app": "x"}) for n in range(20_000))))
    assert len(release.objects) > 2 * 1024 * 1024
    with pytest.raises(ReleaseError, match="does not fit"):  # its list of references does not
        inventory_object(release)
    small = pend(objects=rendered(service("a", note="x" * 4_000_000)))
    assert read_inventory(inventory_object(small))[0].objects == small.objects


@pytest.mark.parametrize("damage", ["manifests", "record", "name", "base64", "gzip", "missing", "bomb"])
def test_a_changed_config_map_is_not_believed(release: Release, damage: str) -> None:
    obj = inventory_object(release)
    if damage == "manifests":
        other = rendered(service("evil"))
        obj["binaryData"]["manifests.json.gz"] = base64.b64encode(gzip.compress(other)).decode()
    elif damage == "record":
        obj["data"]["release.json"] = obj["data"]["release.json"].replace('"actor"', '"actress"')
    elif damage == "name":
        obj["metadata"]["name"] = "slipway-release-other-1"
    elif damage == "base64":
        obj["binaryData"]["manifests.json.gz"] = "%%%"
    elif damage == "gzip":
        obj["binaryData"]["manifests.json.gz"] = base64.b64encode(b"plain").decode()
    elif damage == "missing":
        del obj["data"]["inventory.json"]
    else:
        bomb = gzip.compress(b"\0" * (LARGEST_MANIFESTS + 1))
        obj["binaryData"]["manifests.json.gz"] = base64.b64encode(bomb).decode()
    with pytest.raises(ReleaseError, match="cannot be read from its ConfigMap"):
        read_inventory(obj)


def test_the_history_is_restored_from_the_cluster(history: History, pend: Pend) -> None:
    history.mark_good(pend().id)
    history.mark_failed(pend().id, failure="no memory")
    history.mark_good(pend().id)
    before = [release.model_copy(update={"id": 0}) for release in history.list()]
    kept = [inventory_object(release) for release in history.list()]
    with history.database.writing() as session:
        from slipway.releases.tables import ReleaseRow

        session.query(ReleaseRow).delete()
    assert history.list() == []
    for _ in range(2):
        for obj in kept:
            history.restore(read_inventory(obj)[0])
    after = sorted(history.list(), key=lambda release: -release.number)
    assert [release.model_copy(update={"id": 0}) for release in after] == before
    assert pend().number == 4


def test_of_two_good_releases_the_newer_stays_good(history: History, pend: Pend) -> None:
    first = history.mark_good(pend().id)
    history.mark_good(pend().id)
    with history.database.writing() as session:
        from slipway.releases.tables import ReleaseRow

        session.query(ReleaseRow).filter_by(number=1).delete()
    assert history.restore(first).status == "superseded"
    good = history.last_good("qwen3-tiny")
    assert good is not None
    assert good.number == 2


def test_another_release_under_the_same_number_is_refused(history: History, pend: Pend) -> None:
    release = pend()
    with pytest.raises(ReleaseError, match="another release under this number"):
        history.restore(release.model_copy(update={"run_id": "another"}))
