"""What people rely on in what is made: images from mirrors, definitions, nodes, Secrets, rights."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.errors import UsageError
from slipway.manifests.mirror import merged, mirrored, mirrored_reference, mirrored_values
from slipway.prepare import definitions, parts
from slipway.prepare.target import Target
from tests.unit.prepare_fakes import CATALOG, COMPANY, MIRROR, Live, target, with_setup

# -- images from a mirror

IMAGES = [
    ("vllm/vllm-openai:v0.12.0", f"{MIRROR}/vllm/vllm-openai:v0.12.0"),
    ("docker.io/vllm/vllm-openai:v1", f"{MIRROR}/vllm/vllm-openai:v1"),
    ("busybox", f"{MIRROR}/library/busybox"),
    ("quay.io/a/b:1", "quay.io/a/b:1"),
    ("localhost:5000/a", "localhost:5000/a"),
]


@pytest.mark.parametrize(("image", "taken"), IMAGES)
def test_an_image_comes_from_the_clusters_mirror_of_its_registry(image: str, taken: str) -> None:
    assert mirrored(image, COMPANY) == taken


VALUES = [
    # HAMi
    (
        {"devicePlugin": {"image": {"registry": "docker.io", "repository": "projecthami/hami", "tag": ""}}},
        {
            "devicePlugin": {
                "image": {
                    "registry": "registry.company.com",
                    "repository": "mirror/docker.io/projecthami/hami",
                }
            }
        },
    ),
    # csi-driver-nfs, of another registry
    ({"image": {"baseRepo": "registry.k8s.io", "nfs": {"repository": "registry.k8s.io/a/b"}}}, {}),
    ({"image": {"baseRepo": "docker.io", "nfs": {"repository": "/a/b"}}}, {"image": {"baseRepo": MIRROR}}),
    ({"global": {"imageRegistry": ""}, "image": "a/b:1"}, {"image": f"{MIRROR}/a/b:1"}),
    ({"sidecarImage": "a/b:1", "repository": 3, "image": None}, {"sidecarImage": f"{MIRROR}/a/b:1"}),
    ({"jobs": [{"image": "a/b", "x": 1}, "text"]}, {"jobs": [{"image": f"{MIRROR}/a/b", "x": 1}, "text"]}),
    ({"resourceName": "docker.io/not-an-image", "command": "image a/b"}, {}),
]


@pytest.mark.parametrize(("values", "changed"), VALUES)
def test_images_in_chart_values_come_from_the_mirror_and_nothing_else_changes(
    values: dict[str, Any], changed: dict[str, Any]
) -> None:
    assert mirrored_values(values, COMPANY) == changed
    assert mirrored_values(values, CATALOG.clusters["sandbox"]) == {}
    # What comes from the mirror already is left there.
    assert mirrored_values(merged(values, changed), COMPANY) == {}


def test_a_chart_of_an_oci_registry_comes_from_the_mirror_too() -> None:
    assert mirrored_reference("oci://docker.io/a/b", COMPANY) == f"oci://{MIRROR}/a/b"
    assert mirrored_reference("hami-charts/hami", COMPANY) == "hami-charts/hami"


# -- the Gateway API


def definition(version: str, *, channel: str = "standard", kind: str = "Gateway") -> dict[str, Any]:
    annotations = {definitions.VERSION_ANNOTATION: version, definitions.CHANNEL_ANNOTATION: channel}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.lower()}s.gateway.networking.k8s.io", "annotations": annotations},
        "spec": {"group": "gateway.networking.k8s.io", "names": {"kind": kind}},
        "status": {"conditions": []},
    }


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Target]:
    """A cluster whose record names a file with these definitions."""

    def make(*inside: dict[str, Any], live: Live | None = None, file: str = "g.yaml") -> Target:
        content = yaml.safe_dump_all([*inside, {"kind": "ConfigMap", "metadata": {"name": "x"}}])
        (tmp_path / "g.yaml").write_text(content, encoding="utf-8")
        with tarfile.open(tmp_path / "g.tgz", "w:gz") as archive:
            archive.add(tmp_path / "g.yaml", "gateway-api/config/g.yaml")
        record = with_setup(gateway_api={"version": "1.2.1", "file": file})
        return target(record, live, packages=tmp_path)

    return make


LIVE_DEFINITIONS = [
    (None, True, ""),
    (definition("v1.1.0"), True, ""),
    (definition("v1.2.1"), True, ""),
    (definition("v1.3.0"), False, "Gateway is there in v1.3.0, newer than v1.2.1"),
    (definition("v1.10.0"), False, "newer than v1.2.1"),
    (definition("v1.2.1", channel="experimental"), False, "experimental channel"),
    (definition("nonsense"), True, ""),
]


@pytest.mark.parametrize("file", ["g.yaml", "g.tgz"])
@pytest.mark.parametrize(("live", "applied", "note"), LIVE_DEFINITIONS)
def test_definitions_never_go_back_to_an_older_version(
    bundle: Callable[..., Target], live: dict[str, Any] | None, applied: bool, note: str, file: str
) -> None:
    known = Live(*([live] if live else []))
    listed, told = definitions.gateway_definitions(bundle(definition("v1.2.1"), live=known, file=file))

    assert [one["metadata"]["name"] for one in listed] == ["gateways.gateway.networking.k8s.io"] * applied
    assert note in told and all("status" not in one for one in listed)


def test_of_a_whole_release_the_standard_channel_counts(bundle: Callable[..., Target]) -> None:
    both = [definition("v1.2.1"), definition("v1.2.1", channel="experimental")]
    for inside in (both, both[::-1]):
        (only,), _ = definitions.gateway_definitions(bundle(*inside))
        assert only["metadata"]["annotations"][definitions.CHANNEL_ANNOTATION] == "standard"


WRONG_BUNDLES = [
    ((definition("v1.2.0"),), "g.yaml", "holds another version than the record says.*v1.2.0"),
    ((), "g.yaml", "no definitions of the Gateway API"),
    ((definition("v1.2.1"),), "missing.yaml", "the package is not there .*missing.yaml"),
]


@pytest.mark.parametrize(("inside", "file", "told"), WRONG_BUNDLES)
def test_a_wrong_file_is_named(
    bundle: Callable[..., Target], inside: tuple[dict[str, Any], ...], file: str, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        definitions.gateway_definitions(bundle(*inside, file=file))


def test_without_a_packages_directory_the_variable_is_named() -> None:
    record = with_setup(gateway_api={"version": "1.2.1", "file": "g.yaml"})

    with pytest.raises(UsageError, match="SLIPWAY_PACKAGES is not set"):
        definitions.gateway_definitions(target(record))


# -- nodes, Secrets, rights


def node(name: str, **labels: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}}


NODES = Live(node("a", card="h20"), node("b", card="h20", zone="x"), node("c"))
NODE_CHOICES: list[tuple[dict[str, Any], list[str] | str]] = [
    ({"names": ["c"]}, ["c"]),
    ({"labels": {"card": "h20"}}, ["a", "b"]),
    ({"names": ["c"], "labels": {"card": "h20", "zone": "x"}}, ["b", "c"]),
    ({}, "nobody has said which nodes get the labels.*There are: a, b, c"),
    ({"names": ["c", "d"]}, r"there is no such node \(d\)"),
    ({"labels": {"card": "a100"}}, "no node has the labels"),
]


@pytest.mark.parametrize(("choice", "expected"), NODE_CHOICES)
def test_only_nodes_that_are_chosen_and_there_get_labels(
    choice: dict[str, Any], expected: list[str] | str
) -> None:
    wanted = target(with_setup(node_labels={"gpu": "on"}, labelled_nodes=choice), NODES)
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected):
            parts.labelled_nodes(wanted)
    else:
        listed, _ = parts.labelled_nodes(wanted)
        assert [one["metadata"]["name"] for one in listed] == expected
        assert all(set(one) == {"apiVersion", "kind", "metadata"} for one in listed)
        assert all(one["metadata"]["labels"] == {"gpu": "on"} for one in listed)


SECRET = {"name": "s", "namespace": "n", "connection": "my_s3", "keys": {"ID": "login", "KEY": "extra.key"}}
CONNECTIONS = [
    ({"conn_type": "generic", "login": "me", "extra": {"key": "hush"}}, ""),
    ({"conn_type": "generic", "login": "me", "extra": '{"key": "hush"}'}, ""),
    ("generic://me@host?key=hush", ""),
    (
        {"conn_type": "generic", "login": "me", "password": "hush"},
        "it has no extra.key.*it has: login, password",
    ),
    ("{broken hush", "it is not JSON"),
    (None, "no such connection .*my_s3.*AIRFLOW_CONN_MY_S3"),
]


@pytest.mark.parametrize(("connection", "told"), CONNECTIONS)
def test_a_secret_is_made_of_a_connection_and_its_values_are_never_told(
    monkeypatch: pytest.MonkeyPatch, connection: Any, told: str
) -> None:
    if connection is not None:
        text = connection if isinstance(connection, str) else json.dumps(connection)
        monkeypatch.setenv("AIRFLOW_CONN_MY_S3", text)
    wanted = target(with_setup(secrets=[SECRET]))
    if told:
        with pytest.raises(UsageError, match=told) as caught:
            parts.secrets(wanted)
        assert "hush" not in str(caught.value)
    else:
        ((made,), _) = parts.secrets(wanted)
        assert {key: base64.b64decode(value) for key, value in made["data"].items()} == {
            "ID": b"me",
            "KEY": b"hush",
        }


def test_rights_are_those_of_the_clusters_endpoints_and_go_to_whom_the_record_names(include: Path) -> None:
    account = {"kind": "ServiceAccount", "name": "airflow-worker", "namespace": "airflow"}
    wanted = target(with_setup(rights=account))
    listed, _ = parts.rights(Target(**{**wanted.__dict__, "include": include}))
    subjects = [one["subjects"] for one in listed if one["kind"].endswith("Binding")]

    assert {one["metadata"].get("namespace") for one in listed if one["kind"] == "Role"} == {"models"}
    assert subjects and all(one == [account] for one in subjects)
