"""The regular probes: many endpoints from one pod, and what is known when that pod breaks off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from life_api import ENDPOINT, Life, make_life
from small_runtime import KEY, NAME, Reply, Runtime, serve

from slipway.operators import watch_pods
from slipway.operators.watch_pods import look_at
from slipway.probes.orders import ProbeOrder, Sight, WatchedEndpoint, WatchOrder
from slipway.probes.watch import sights_in, watch

CRASHED = {"/v1/completions": lambda body: Reply(500, {"error": {"message": "out of memory"}})}


def watched(name: str, base_url: str, **more: Any) -> WatchedEndpoint:
    order = ProbeOrder(base_url=base_url, served_name=NAME, deadline_seconds=1, **more)
    return WatchedEndpoint(endpoint=name, probe=order)


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    (tmp_path / "api-key").write_text(f"{KEY}\n")
    return str(tmp_path / "api-key")


def test_each_of_many_endpoints_is_probed_and_a_failing_one_hides_no_other(key_file: str) -> None:
    lines = list[str]()
    with serve(Runtime()) as good, serve(Runtime(replies=dict(CRASHED))) as bad:
        endpoints = [watched(f"good-{n}", good, api_key_file=key_file) for n in range(40)]
        endpoints.append(watched("bad", bad, api_key_file=key_file))
        endpoints.append(watched("without-key", good, api_key_file=f"{key_file}-missing"))
        result = watch(WatchOrder(endpoints=endpoints, at_once=8), say=lines.append)

    seen = {sight.endpoint: sight for sight in sights_in(lines)}
    assert (result.probed, result.failing, len(seen)) == (42, 2, 42)
    assert all(seen[f"good-{n}"].state == "serving" and seen[f"good-{n}"].ttft_seconds for n in range(40))
    assert "out of memory" in seen["bad"].reason
    assert "is empty or not there" in seen["without-key"].reason


def test_a_log_that_was_cut_off_still_tells_what_is_whole() -> None:
    whole = Sight(endpoint="a", state="serving", seconds=1.5, ttft_seconds=0.5)
    lines = [
        "something else",
        f"2026-11-21T12:00:00Z sight: {whole.model_dump_json()}",
        'sight: {"endpoint": "b", "sta',
    ]

    assert list(sights_in(lines)) == [whole]


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    return make_life(monkeypatch, tmp_path)


def test_a_pod_that_broke_off_speaks_for_the_endpoints_that_it_reached(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = life.good("deploy_endpoint/1")
    life.api.probe_message = lambda pod: {"error": {"what": "terminated", "kind": "SlipwayError"}}

    [seen] = look_at(life.api.cluster(), [release], run="now")
    monkeypatch.setattr(life.api, "_sights", lambda pod: ["no sight of anything"])
    [unseen] = look_at(life.api.cluster(), [release], run="then")

    assert seen.values["state"] == "serving" and not seen.not_made
    assert unseen.values == {} and "terminated" in unseen.not_made
    assert not [path for path in life.api.objects if "/pods/" in path]


def test_more_endpoints_than_an_order_holds_go_to_several_pods(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = life.good("deploy_endpoint/1")
    many = [
        release.model_copy(update={"endpoint": name, "plan": {**release.plan, "endpoint": name}})
        for name in [f"{ENDPOINT}-{n}" for n in range(7)]
    ]
    monkeypatch.setattr(watch_pods, "MOST_IN_A_POD", 3)

    seen = {
        seen.release.endpoint: seen.values["state"] for seen in look_at(life.api.cluster(), many, run="now")
    }

    assert seen == {one.endpoint: "serving" for one in many}
    assert sum(write.startswith("POST") and write.endswith("/pods") for write in life.api.writes) == 3


def test_keys_come_as_files_and_the_pod_carries_no_endpoints_name(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, pods = life.good("deploy_endpoint/1"), list[dict[str, Any]]()
    message = life.api.probe_message
    monkeypatch.setattr(life.api, "probe_message", lambda pod: (pods.append(pod), message(pod))[1])

    list(look_at(life.api.cluster(), [release], run="now"))

    [pod] = pods
    assert pod["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "slipway",
        "app.kubernetes.io/component": "watch",
    }
    [volume] = [one for one in pod["spec"]["volumes"] if one["name"] == "api-keys"]
    [source] = volume["projected"]["sources"]
    assert source["secret"]["optional"] is True
    [item] = source["secret"]["items"]
    order = json.loads(
        {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}["SLIPWAY_ORDER"]
    )
    assert order["endpoints"][0]["probe"]["api_key_file"] == f"/api-keys/{item['path']}"
