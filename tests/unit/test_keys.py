"""Rotating an endpoint's API key: both keys accepted in between, nothing told to Airflow, each key printed once."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway.catalog.read import read_catalog
from slipway.cli import keys, main
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render
from slipway.manifests.validation import validate_catalog

ENDPOINT = "qwen3-tiny"
OLD = "sk-old"
BOTH = {"api_key": {"secret": "endpoint-api-key", "accepted": "accepted.yaml"}}
ONE = {"api_key": {"secret": "endpoint-api-key"}}


class Secret:
    """A cluster with one Secret, and what it held at each moment."""

    def __init__(self) -> None:
        self.values: dict[str, str] | None = None
        self.runs: list[tuple[str, list[str]]] = []
        self.fails = False

    def get(self, **_: Any) -> Any:
        if self.values is None:
            return None
        return {
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in self.values.items()}
        }

    def create(self, obj: Any) -> None:
        self.values = {}
        self.patch(None, obj)

    def patch(self, ref: Any, changes: Any, **_: Any) -> None:
        assert self.values is not None
        self.values |= {key: base64.b64decode(value).decode() for key, value in changes["data"].items()}

    def accepted(self) -> list[str]:
        held = yaml.safe_load((self.values or {}).get("accepted.yaml", "{}"))
        return list(held.get("api-key", []))

    def redeploy(self, options: Any, *, reason: str) -> int:
        """A run that starts the pods anew; notes what they accept from then on, and what probes use."""
        self.runs.append(((self.values or {})["api-key"], self.accepted()))
        return 1 if self.fails else 0


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> Secret:
    found = Secret()
    monkeypatch.setattr(keys, "cluster_of", lambda plan, options: found)
    monkeypatch.setattr(keys, "redeploy_anew", found.redeploy)
    return found


@pytest.fixture
def key(
    include: Path, change: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `slipway key`; returns its status and what it printed."""
    change(f"endpoints/{ENDPOINT}", **BOTH)

    def run(what: str, *arguments: str) -> tuple[int, str, str]:
        status = main(["--include", str(include), "key", what, ENDPOINT, *arguments])
        streams = capsys.readouterr()
        return status, streams.out.strip(), streams.err

    return run


Key = Callable[..., tuple[int, str, str]]


def test_a_key_is_made_once_and_printed_once(secret: Secret, key: Key) -> None:
    status, made, _ = key("create")

    assert status == 0 and made.startswith("sk-") and len(made) > 40
    assert secret.values == {"api-key": made, "accepted.yaml": json.dumps({"api-key": [made]})}
    again, out, error = key("create")
    assert again == 2 and out == "" and "has a key already" in error and made not in error


def test_a_key_that_was_there_before_gets_its_list_and_is_not_shown(secret: Secret, key: Key) -> None:
    secret.values = {"api-key": OLD}

    assert key("create")[:2] == (0, "") and secret.accepted() == [OLD]


def test_both_keys_are_accepted_before_anybody_uses_the_new_one(secret: Secret, key: Key) -> None:
    secret.values = {"api-key": OLD, "accepted.yaml": json.dumps({"api-key": [OLD]})}

    status, new, error = key("rotate")

    assert status == 0 and secret.runs == [(OLD, [OLD, new])], "probes had the old key while the pods changed"
    assert secret.values["api-key"] == new and secret.accepted() == [OLD, new]
    assert new not in error and OLD not in error
    assert key("rotate")[0] == 2, "the old key is retired first"
    assert key("retire")[:2] == (0, "")
    assert secret.runs[1] == (new, [new]) and secret.accepted() == [new]
    assert key("retire")[0] == 2


def test_a_rotation_that_was_interrupted_goes_on_with_its_key(secret: Secret, key: Key) -> None:
    secret.values = {"api-key": OLD, "accepted.yaml": json.dumps({"api-key": [OLD, "sk-made"]})}

    assert key("rotate")[:2] == (0, "sk-made")


@pytest.mark.parametrize(
    ("what", "held"), [("rotate", (OLD, [OLD])), ("retire", ("sk-new", [OLD, "sk-new"]))]
)
def test_a_run_that_fails_leaves_the_keys_as_they_were(
    secret: Secret, key: Key, what: str, held: tuple[str, list[str]]
) -> None:
    secret.values = {"api-key": held[0], "accepted.yaml": json.dumps({"api-key": held[1]})}
    secret.fails = True

    status, out, error = key(what)

    assert (status, out) == (1, "") and "the pods were not replaced" in error
    assert (secret.values["api-key"], secret.accepted()) == held


def test_a_program_with_one_key_changes_it_at_once_only_where_a_person_says_so(
    secret: Secret, key: Key, change: Callable[..., None]
) -> None:
    change(f"endpoints/{ENDPOINT}", **ONE)
    secret.values = {"api-key": OLD}

    refused, _, error = key("rotate")
    assert refused == 2 and "one key at a time" in error and secret.values == {"api-key": OLD}

    status, new, _ = key("rotate", "--at-once")
    assert status == 0 and secret.values == {"api-key": new} and secret.runs == [(new, [])]


def test_the_pods_read_the_accepted_keys_from_a_file_and_no_key_is_in_the_release(
    include: Path, change: Callable[..., None]
) -> None:
    change(f"endpoints/{ENDPOINT}", **BOTH)
    rendered = render(make_plan(read_catalog(include), ENDPOINT, include=include), include=include)
    [pod] = [one["spec"]["template"]["spec"] for one in rendered.objects() if one["kind"] == "StatefulSet"]
    [server] = pod["containers"]

    place = server["args"].index("--config")
    assert server["args"][place + 1] == "/run/slipway/keys.yaml"
    assert {"name": "api-keys", "mountPath": "/run/slipway", "readOnly": True} in server["volumeMounts"]
    items = [{"key": "accepted.yaml", "path": "keys.yaml"}]
    assert {"name": "api-keys", "secret": {"secretName": "endpoint-api-key", "items": items}} in pod[
        "volumes"
    ]
    assert not any("KEY" in one["name"] and "valueFrom" in one for one in server["env"])


def test_several_keys_are_refused_where_the_program_takes_one(
    include: Path, change: Callable[..., None]
) -> None:
    change("endpoints/qwen3-235b-a22b", **BOTH)

    found = [str(one) for one in validate_catalog(include).problems]

    assert any("vllm 0.12.0 does not know it yet, 0.32.0 does" in one for one in found), found
