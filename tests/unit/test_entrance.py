"""How clients outside come in: the listener that is chosen, what is waited for, and the probe that goes that way."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from slipway.errors import ClusterError, ProbeError
from slipway.operators.entrance import Entrance, entrance_of, find_entrance, why_not_taken
from slipway.probes import ProbeOrder, probe
from slipway.probes.orders import Outside
from slipway.probes.shared import API_KEY
from tests.unit.servers import serve

HTTP = {"name": "http", "port": 80, "protocol": "HTTP"}
HTTPS = {"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "*.models.example"}
HOST = "qwen3.models.example"


def gateway(*listeners: dict[str, Any], addresses: tuple[str, ...] = ("192.0.2.1",)) -> dict[str, Any]:
    status = {"addresses": [{"value": one} for one in addresses]}
    return {"spec": {"listeners": list(listeners)}, "status": status}


@pytest.mark.parametrize(
    ("listeners", "section", "host", "base_url"),
    [
        ((HTTP, HTTPS), None, HOST, f"https://{HOST}"),
        ((HTTP, HTTPS), "http", HOST, f"http://{HOST}"),
        ((HTTP, HTTPS), None, "qwen3.other.example", "http://qwen3.other.example"),
        ((HTTP,), None, None, "http://192.0.2.1"),
        ((HTTPS,), None, None, "https://probe.models.example"),
        (({**HTTP, "port": 8080},), None, HOST, f"http://{HOST}:8080"),
        (({**HTTPS, "port": 8443, "hostname": HOST},), None, None, f"https://{HOST}:8443"),
    ],
)
def test_https_comes_before_http_among_the_listeners_that_the_route_hangs_on(
    listeners: tuple[dict[str, Any], ...], section: str | None, host: str | None, base_url: str
) -> None:
    found = entrance_of(gateway(*listeners), section=section, host=host, about="Gateway")
    assert found == Entrance(base_url=base_url, address="192.0.2.1")


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (gateway(HTTP, addresses=()), "the Gateway has no address"),
        (gateway(HTTPS), r"no listener for the route .*host qwen3\.other\.example"),
        (gateway({**HTTP, "protocol": "TCP"}), "no listener for the route"),
    ],
)
def test_a_gateway_without_a_way_in_says_what_it_lacks(there: dict[str, Any], why: str) -> None:
    with pytest.raises(ClusterError, match=why):
        entrance_of(there, section=None, host="qwen3.other.example", about="Gateway")


def route(generation: int = 2, **conditions: tuple[str, int, str]) -> dict[str, Any]:
    states = [
        {"type": kind, "status": status, "observedGeneration": seen, "message": message}
        for kind, (status, seen, message) in conditions.items()
    ]
    parents = [{"parentRef": {"name": "gateway"}, "conditions": states}] if states else []
    return {"metadata": {"generation": generation}, "status": {"parents": parents}}


TAKEN = {"Accepted": ("True", 2, ""), "ResolvedRefs": ("True", 2, "")}


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (route(**TAKEN), None),
        (route(), "Gateway gateway says nothing of it"),
        (route(3, **TAKEN), "Gateway gateway has not looked at its latest form"),
        (
            route(**{**TAKEN, "ResolvedRefs": ("False", 2, "no Service x")}),
            "ResolvedRefs is False: no Service x",
        ),
        (
            route(**{**TAKEN, "Accepted": ("False", 2, "no such listener")}),
            "Accepted is False: no such listener",
        ),
    ],
)
def test_a_route_counts_when_its_latest_form_was_taken(found: dict[str, Any], why: str | None) -> None:
    assert why_not_taken(found, gateway="gateway") == why


class Api:
    """A cluster whose route is taken at the third look."""

    def __init__(self, *routes: dict[str, Any]) -> None:
        self.routes = list(routes)

    def get(self, *, kind: str, **place: Any) -> dict[str, Any]:
        if kind == "Gateway":
            return gateway(HTTP, HTTPS)
        return self.routes.pop(0) if self.routes[1:] else self.routes[0]


class Plan:
    object_name = namespace = "models"

    class publication:  # noqa: N801 - stands for an attribute
        class route:  # noqa: N801
            gateway, gateway_namespace, section = "gateway", "gateways", None

            class exposure:  # noqa: N801
                host = HOST


def test_the_way_in_is_known_when_the_controller_has_taken_the_route() -> None:
    api = Api(route(), route(3, **TAKEN), route(**TAKEN))
    found = find_entrance(api, Plan, sleep=lambda seconds: None)  # type: ignore[arg-type]
    assert found.base_url == f"https://{HOST}"


def test_a_route_that_is_never_taken_is_told_with_the_controllers_own_words() -> None:
    refused = route(**{**TAKEN, "Accepted": ("False", 2, "no such listener")})
    with pytest.raises(ClusterError, match=r"does not take the route .*Accepted is False: no such listener"):
        find_entrance(Api(refused), Plan, seconds=0, sleep=lambda seconds: None)  # type: ignore[arg-type]


class Published(BaseHTTPRequestHandler):
    """A server that knows one name, and that only after a moment; it keeps the names that it was asked for."""

    seen: list[tuple[str, str]]
    refusals: int

    def do_GET(self) -> None:
        self.answer({"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not body.get("stream"):
            return self.answer({"choices": [{"text": "a"}], "usage": {"completion_tokens": 1}})
        done = {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}
        return self.answer(f"data: {json.dumps(done)}\n\ndata: [DONE]\n\n")

    def answer(self, body: Any) -> None:
        host = self.headers["Host"].partition(":")[0]
        type(self).seen.append((host, self.path))
        status = 200
        if host == HOST and type(self).refusals:
            type(self).refusals -= 1
            status = 404
        if self.headers.get("Authorization") != "Bearer right" and self.path != "/health":
            status = 401
        self.send_response(status)
        self.end_headers()
        self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def right_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY, "right")


def asked(*, refusals: int, deadline: float = 60) -> tuple[list[str], list[tuple[str, str]]]:
    handler = type("Published", (Published,), {"seen": [], "refusals": refusals})
    with serve(handler) as port:
        outside = Outside(base_url=f"http://{HOST}:{port}", address="127.0.0.1")
        order = ProbeOrder(
            base_url=f"http://127.0.0.1:{port}",
            outside=outside,
            served_name="m",
            metrics_path=None,
            deadline_seconds=deadline,
        )
        result = probe(order, say=lambda line: None, sleep=lambda seconds: None)
    return [step.name for step in result.outside], handler.seen


def test_what_is_published_is_asked_again_by_its_name_at_the_gateways_address(right_key: None) -> None:
    steps, seen = asked(refusals=3)
    assert steps == ["health", "models", "wrong key", "completion", "streamed chat", "still serving"]
    inside = [path for host, path in seen if host != HOST]
    outside = [path for host, path in seen if host == HOST]
    assert "/health" in inside
    assert set(outside) == {"/v1/models", "/v1/completions", "/v1/chat/completions"}


def test_a_route_that_leads_nowhere_is_told_as_one(right_key: None) -> None:
    with pytest.raises(ProbeError, match=rf"http://{HOST}:\d+.*status 404.*look at its route, its Gateway"):
        asked(refusals=1_000_000, deadline=1.5)
