"""From outside the cluster to a pod: Traefik, a Gateway and a route as Slipway renders it, HTTP and HTTPS."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import httpx
import pytest

from sandbox import settings, traefik
from slipway.catalog.read import include_directory, read_catalog
from slipway.checks.gateway import check_gateway_api, check_gateways
from slipway.checks.plan import site_of
from slipway.checks.routes import check_routes
from slipway.checks.subject import RouteNeed, Site
from slipway.checks.view import View
from slipway.cluster.access import Access, can_i
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object
from tests.cluster import gateway
from tests.cluster.gateway import PORT, Published, make_route, make_server, publish


@pytest.fixture(scope="module")
def place(cluster: Cluster, make_namespace: Callable[..., str], deployment: Callable[..., Object]) -> str:
    """A namespace with a server that no test changes."""
    namespace = make_namespace()
    make_server(cluster, deployment, namespace=namespace, name="server")
    return namespace


@pytest.fixture(scope="module")
def published(cluster: Cluster, place: str) -> Published:
    """The server, reached from outside."""
    return publish(cluster, namespace=place, service="server")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_from_outside_reaches_the_pod_under_its_own_name(published: Published, scheme: str) -> None:
    with published.client(scheme) as client:
        assert client.get("/v1/models").json() == {"host": published.host, "path": "/v1/models"}
        answer = client.post("/v1/chat/completions", json={"a": 1}, headers={"Authorization": "Bearer k"})
        assert answer.json() == {"authorization": "Bearer k", "asked": {"a": 1}}


def test_the_certificate_is_the_names_own_and_not_everybodys(published: Published) -> None:
    with published.client("https", trusted=False) as client, pytest.raises(httpx.ConnectError, match="CERT"):
        client.get("/v1/models")
    context = ssl.create_default_context(cafile=str(gateway.authority()))
    with (
        httpx.Client(verify=context, trust_env=False) as client,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get(f"https://{published.address}/v1/models", extensions={"sni_hostname": "bank.example"})


def test_what_is_not_published_is_not_there(published: Published) -> None:
    with published.client() as client:
        assert client.get("/metrics").status_code == 404
    with published.client(host=f"other.{traefik.DOMAIN}") as client:
        assert client.get("/v1/models").status_code == 404


def test_a_streamed_answer_comes_piece_by_piece(published: Published) -> None:
    with (
        published.client("https") as client,
        published.client() as other,
        client.stream("POST", "/v1/chat/completions", json={"stream": True}) as answer,
    ):
        lines = (line for line in answer.iter_lines() if line)
        # The server holds the second piece back until it hears that the first has arrived.
        assert next(lines) == "data: one"
        other.get("/v1/go")
        assert next(lines) == "data: two"


def test_the_checks_see_a_gateway_and_a_route_that_work(
    as_slipway: Callable[..., Cluster], published: Published
) -> None:
    include = include_directory()
    site = site_of(read_catalog(include), "sandbox", include=include)
    need = RouteNeed(
        namespace=published.namespace,
        name=published.name,
        gateway_namespace=settings.SYSTEM_NAMESPACE,
        gateway=traefik.GATEWAY,
        backends=((published.namespace, "server", PORT),),
    )
    site = Site(record=site.record, routes=(need,))
    view = View(cluster=as_slipway(published.namespace, infrastructure=True))
    found = [*check_gateway_api(view, site), *check_gateways(view, site), *check_routes(view, site)]
    unread = "this connection may not read Secret slipway-sandbox/gateway-certificate"
    assert [(one.severity, one.reason) for one in found if one.severity != "ok"] == [("not checked", unread)]
    told = {one.about: one.reason for one in found}
    assert told[f"Gateway {settings.SYSTEM_NAMESPACE}/gateway"] == f"programmed, address {published.address}"


WRONG = {
    "no such Service": ({"service": "nowhere"}, "blocking", "ResolvedRefs is False"),
    "no such port": ({"port": 81}, "blocking", "ResolvedRefs is False"),
    "no such listener": ({"section": "ftp"}, "blocking", "Accepted is False"),
    "no host of the listener": (
        {"section": "https", "host": "bank.example"},
        "blocking",
        "Accepted is False",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_route_that_the_controller_refuses_is_found_with_its_own_words(
    cluster: Cluster, as_slipway: Callable[..., Cluster], place: str, fault: str
) -> None:
    more, severity, reason = WRONG[fault]
    name = f"wrong-{fault.replace(' ', '-').lower()}"
    wanted = {"service": "server", "host": f"{name}.{traefik.DOMAIN}", **more}
    cluster.create(make_route(namespace=place, name=name, **wanted))  # type: ignore[arg-type]
    need = RouteNeed(
        namespace=place,
        name=name,
        gateway_namespace=settings.SYSTEM_NAMESPACE,
        gateway=traefik.GATEWAY,
    )
    slipway = as_slipway(place, infrastructure=True)
    gateway.until(
        lambda: (
            [
                (one.severity, reason in one.reason)
                for one in check_routes(View(cluster=slipway), Site(routes=(need,)))
            ]
            == [(severity, True)]
        ),
        what=fault,
    )


RIGHTS = [
    ("traefik", "", "services", "watch", "", True),
    ("traefik", "gateway.networking.k8s.io", "httproutes", "update", "status", True),
    ("traefik", "gateway.networking.k8s.io", "httproutes", "update", "", False),
    ("traefik", "", "pods", "list", "", False),
    ("traefik", "", "secrets", "create", "", False),
    ("metallb", "", "services", "update", "status", True),
    ("metallb", "", "services", "update", "", False),
    ("metallb", "", "secrets", "get", "", False),
    ("metallb", "metallb.io", "ipaddresspools", "delete", "", False),
    ("kwok", "", "nodes", "patch", "status", True),
    ("kwok", "", "nodes", "delete", "", False),
    ("kwok", "", "nodes", "patch", "", False),
    ("kwok", "", "secrets", "get", "", False),
    ("keda", "apps", "statefulsets", "update", "scale", True),
    ("keda", "apps", "statefulsets", "update", "", False),
    ("keda", "autoscaling", "horizontalpodautoscalers", "create", "", True),
    ("keda", "", "secrets", "get", "", False),
    ("keda", "", "pods", "delete", "", False),
    ("prometheus", "", "pods", "watch", "", True),
    ("prometheus", "", "services", "update", "", False),
    ("prometheus", "", "secrets", "get", "", False),
    ("prometheus-adapter", "", "pods", "list", "", True),
    ("prometheus-adapter", "", "secrets", "get", "", False),
    ("prometheus-adapter", "", "pods", "delete", "", False),
]


@pytest.mark.parametrize(("user", "group", "resource", "verb", "subresource", "allowed"), RIGHTS)
def test_a_controller_has_no_right_that_it_has_no_use_for(
    as_user: Callable[[str], Cluster],
    user: str,
    group: str,
    resource: str,
    verb: str,
    subresource: str,
    allowed: bool,
) -> None:
    access = Access(
        verb=verb, group=group, resource=resource, subresource=subresource, namespace=None, name=None
    )
    assert can_i(as_user(f"system:{user}"), [access]) == {access: allowed}
