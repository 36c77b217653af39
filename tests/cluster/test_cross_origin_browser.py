"""Web pages of another origin, in Chromium: with a key they may call what a route allows, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from sandbox import settings, traefik
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from tests.cluster import browser
from tests.cluster.browser import Page
from tests.cluster.gateway import Published, gateway_address, make_server, publish, until

pytestmark = pytest.mark.browser

HEADERS = {"Authorization": "Bearer k", "Content-Type": "application/json"}
ASKED = {"model": "m"}


@pytest.fixture(scope="module")
def place(cluster: Cluster, make_namespace: Callable[..., str], deployment: Callable[..., Object]) -> str:
    """A namespace with two servers: one answers preflights, one refuses them as vLLM does unless it is told."""
    namespace = make_namespace()
    make_server(cluster, deployment, namespace=namespace, name="answers")
    make_server(cluster, deployment, namespace=namespace, name="refuses", preflight=400)
    return namespace


@pytest.fixture(scope="module")
def page(cluster: Cluster) -> Iterator[Page]:
    """A page of this machine, in a browser that knows the names of the Gateway and takes its certificate."""
    certificate = x509.load_pem_x509_certificate(
        (settings.load(recorded=True).pki / traefik.GATEWAY / "tls.crt").read_bytes()
    )
    key = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    pin = base64.b64encode(hashlib.sha256(key).digest()).decode()
    with browser.page(names={f"*.{traefik.DOMAIN}": gateway_address(cluster)}, trusted_key=pin) as one:
        yield one


def call(page: Page, published: Published, scheme: str = "http") -> dict[str, Any]:
    return page.calls(f"{scheme}://{published.host}/v1/chat/completions", headers=HEADERS, body=ASKED)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("everybody", [True, False])
def test_a_page_whose_origin_is_allowed_calls_with_its_key(
    cluster: Cluster, place: str, page: Page, scheme: str, everybody: bool
) -> None:
    origin = "*" if everybody else page.origin
    published = publish(cluster, namespace=place, service="answers", allow_origin=origin)
    seen = call(page, published, scheme)
    assert seen["status"] == 200, seen
    assert json.loads(seen["text"]) == {"authorization": "Bearer k", "asked": ASKED}


def test_a_page_of_another_origin_is_refused(cluster: Cluster, place: str, page: Page) -> None:
    published = publish(cluster, namespace=place, service="answers", allow_origin="https://chat.example")
    assert "refused" in call(page, published)


def test_a_star_alone_does_not_let_the_key_through(cluster: Cluster, place: str, page: Page) -> None:
    published = publish(cluster, namespace=place, service="answers", allow_origin="*")
    route = cluster.get(
        api_version="gateway.networking.k8s.io/v1",
        kind="HTTPRoute",
        name=published.name,
        namespace=place,
    )
    assert route is not None
    # As the documents have it: every header but the one that is needed.
    for header in route["spec"]["rules"][0]["filters"][0]["responseHeaderModifier"]["set"]:
        if header["name"] == "Access-Control-Allow-Headers":
            header["value"] = "*"
    cluster.replace(route)

    def allowed() -> str:
        with published.client() as client:
            return client.options("/v1/chat/completions").headers["Access-Control-Allow-Headers"]

    until(lambda: allowed() == "*", what="the changed route")
    assert "refused" in call(page, published)
    # Without the key the same route is open: it is the header that the browser minds.
    seen = page.calls(
        f"http://{published.host}/v1/chat/completions",
        headers={"Content-Type": "application/json"},
        body=ASKED,
    )
    assert seen["status"] == 200, seen


def test_headers_on_a_refused_preflight_help_nobody(cluster: Cluster, place: str, page: Page) -> None:
    """Why vLLM gets an argument: a browser asks for a preflight that succeeds, not only for its headers."""
    published = publish(cluster, namespace=place, service="refuses", allow_origin="*")
    assert "refused" in call(page, published)


def test_there_is_one_allowed_origin_although_the_server_names_one_itself(
    cluster: Cluster, place: str, page: Page
) -> None:
    published = publish(cluster, namespace=place, service="answers", allow_origin=page.origin)
    with published.client() as client:
        for answer in (
            client.post("/v1/chat/completions", json=ASKED, headers={"Origin": page.origin}),
            client.options("/v1/chat/completions", headers={"Origin": page.origin}),
        ):
            assert answer.headers.get_list("Access-Control-Allow-Origin") == [page.origin]


def test_a_route_that_allows_no_origin_is_for_no_page(cluster: Cluster, place: str, page: Page) -> None:
    published = publish(cluster, namespace=place, service="refuses")
    assert "refused" in call(page, published)
