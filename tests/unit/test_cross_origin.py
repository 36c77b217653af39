"""Web pages of another origin: what a route and a server are told so that a browser lets them call with a key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slipway.catalog.read import read_catalog
from slipway.manifests.planning import make_plan
from slipway.manifests.render import render

GATEWAY = {"name": "gateway", "namespace": "default", "gateway_class": "any"}
MIDDLEWARE = {"group": "traefik.io", "kind": "Middleware", "name": "cross-origin"}
ORIGIN = "https://chat.example"


Published = Callable[..., tuple[list[dict[str, Any]], list[str]]]


@pytest.fixture
def published(include: Path, change: Callable[..., None]) -> Published:
    """Render an endpoint with a route; give back the filters of the route and the server's arguments."""

    def render_route(
        *, origin: str | None, gateway: dict[str, Any] | None = None, **more: Any
    ) -> tuple[list[dict[str, Any]], list[str]]:
        change("clusters/sandbox", gateway={**GATEWAY, **(gateway or {})})
        change("endpoints/qwen3-tiny", exposure={"route": {"allow_origin": origin}}, **more)
        release = render(make_plan(read_catalog(include), "qwen3-tiny", include=include), include=include)
        found = {one["kind"]: one["spec"] for one in release.objects()}
        [rule] = found["HTTPRoute"]["rules"]
        [server] = found["StatefulSet"]["template"]["spec"]["containers"]
        return rule.get("filters", []), server["args"]

    return render_route


def test_one_origin_and_the_header_with_the_key_are_allowed_by_name(published: Published) -> None:
    [cors], _ = published(origin=ORIGIN)
    headers = {one["name"]: one["value"] for one in cors["responseHeaderModifier"]["set"]}
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    # Fetch: a * stands for any header but Authorization.
    assert {"Authorization", "Content-Type"} <= set(headers["Access-Control-Allow-Headers"].split(", "))
    assert "add" not in cors["responseHeaderModifier"]


def test_vllm_is_told_whose_preflights_to_answer(published: Published) -> None:
    _, arguments = published(origin=ORIGIN)
    assert f'--allowed-origins=["{ORIGIN}"]' in arguments


def test_an_endpoints_own_argument_counts_more(published: Published) -> None:
    own = '--allowed-origins=["https://other.example"]'
    _, arguments = published(origin=ORIGIN, args=[own], resources={"cpu": "1", "memory": "4Gi"})
    assert [one for one in arguments if one.startswith("--allowed-origins")] == [own]


def test_a_filter_of_the_controllers_takes_it_all_over(published: Published) -> None:
    filters, arguments = published(origin=ORIGIN, gateway={"cors_filter": MIDDLEWARE})
    assert filters == [{"type": "ExtensionRef", "extensionRef": MIDDLEWARE}]
    assert not [one for one in arguments if one.startswith("--allowed-origins")]


def test_without_an_origin_nothing_is_said(published: Published) -> None:
    filters, arguments = published(origin=None, gateway={"cors_filter": MIDDLEWARE})
    assert filters == []
    assert not [one for one in arguments if one.startswith("--allowed-origins")]
