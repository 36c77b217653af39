"""The pods of the regular probes: which are made, when, and what is known when one breaks off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import SlipwayError
from slipway.operators import watch_pods
from slipway.operators.watch_pods import look_at
from slipway.releases.records import Release
from tests.unit.life_api import ENDPOINT, Life, make_life


def copies(release: Release, count: int) -> list[Release]:
    """The release of so many endpoints of other names."""
    names = [f"{ENDPOINT}-{n}" for n in range(count)]
    return [
        release.model_copy(update={"endpoint": name, "plan": {**release.plan, "endpoint": name}})
        for name in names
    ]


@pytest.fixture
def life(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Life:
    return make_life(monkeypatch, tmp_path)


def test_a_pod_that_broke_off_speaks_for_the_endpoints_that_it_reached(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = life.good("deploy_endpoint/1")
    life.api.probe_message = lambda pod: {"error": {"what": "terminated", "kind": "SlipwayError"}}

    [[seen]] = look_at(life.api.cluster(), [release], run="now")
    monkeypatch.setattr(life.api, "_sights", lambda pod: ["no sight of anything"])
    [[unseen]] = look_at(life.api.cluster(), [release], run="then")

    assert seen.values["state"] == "serving" and not seen.not_made
    assert unseen.values == {} and "terminated" in unseen.not_made
    assert not [path for path in life.api.objects if "/pods/" in path]


def test_more_endpoints_than_an_order_holds_go_to_several_pods(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = copies(life.good("deploy_endpoint/1"), 7)
    monkeypatch.setattr(watch_pods, "MOST_IN_A_POD", 3)

    groups = list(look_at(life.api.cluster(), many, run="now"))

    seen = {one.release.endpoint: one.values["state"] for group in groups for one in group}

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


def test_what_a_pod_has_said_counts_when_the_time_is_over_and_the_rest_is_not_known(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = copies(life.good("deploy_endpoint/1"), 3)
    said = life.api._sights
    monkeypatch.setattr(watch_pods, "has_ended", lambda pod: False)
    monkeypatch.setattr(watch_pods, "ALL_SECONDS", 0.1)
    monkeypatch.setattr(life.api, "_sights", lambda pod: said(pod)[:2])

    [group] = look_at(life.api.cluster(), many, run="now")

    assert [one.values.get("state") for one in group] == ["serving", "serving", None]
    assert group[2].not_made.startswith("the probe's pod did not end in time")
    assert not [path for path in life.api.objects if "/pods/" in path]


def test_pods_for_which_no_time_is_left_are_not_begun(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_pods, "ALL_SECONDS", -1.0)

    [[seen]] = look_at(life.api.cluster(), [life.good("deploy_endpoint/1")], run="now")

    assert "took all of the" in seen.not_made
    assert not [write for write in life.api.writes if write.endswith("/pods")]


def test_the_comparison_goes_on_while_pods_start_and_a_fault_in_it_leaves_none(life: Life) -> None:
    release, pods = life.good("deploy_endpoint/1"), list[str]()

    def meanwhile() -> None:
        pods.extend(path for path in life.api.objects if "/pods/" in path)
        raise SlipwayError("the history is away")

    with pytest.raises(SlipwayError, match="the history is away"):
        list(look_at(life.api.cluster(), [release], run="now", meanwhile=meanwhile))

    assert len(pods) == 1 and not [path for path in life.api.objects if "/pods/" in path]


def test_a_pod_that_waits_for_slow_endpoints_keeps_no_other_from_starting(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, most = copies(life.good("deploy_endpoint/1"), 3), list[int]()

    def has_ended(pod: Any) -> bool:
        most.append(sum("/pods/" in path for path in life.api.objects))
        return max(most) == 3

    monkeypatch.setattr(watch_pods, "has_ended", has_ended)
    for name, value in {
        "MOST_IN_A_POD": 1,
        "PODS_AT_ONCE": 1,
        "BUSY_SECONDS": 0.0,
        "ALL_SECONDS": 20.0,
    }.items():
        monkeypatch.setattr(watch_pods, name, value)

    groups = list(look_at(life.api.cluster(), many, run="now"))

    assert max(most) == 3 and len(groups) == 3
    assert not [path for path in life.api.objects if "/pods/" in path]


def test_pods_that_do_not_start_are_not_joined_by_more(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    many, most = copies(life.good("deploy_endpoint/1"), 3), list[int]()

    def has_ended(pod: Any) -> bool:
        most.append(sum("/pods/" in path for path in life.api.objects))
        return False

    monkeypatch.setattr(watch_pods, "has_ended", has_ended)
    for name, value in {
        "MOST_IN_A_POD": 1,
        "PODS_AT_ONCE": 1,
        "BUSY_SECONDS": 0.0,
        "ALL_SECONDS": 1.0,
    }.items():
        monkeypatch.setattr(watch_pods, name, value)
    monkeypatch.setattr(life.api, "_sights", lambda pod: list[str]())
    life.api.pod_phase = "Pending"

    groups = list(look_at(life.api.cluster(), many, run="now"))

    assert max(most) == 1
    assert [one.not_made for one in groups[0]]
