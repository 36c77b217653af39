"""Addresses for Services of type LoadBalancer: MetalLB's own controller gives them, and they lead to pods."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from sandbox import settings
from slipway.catalog.read import include_directory, read_catalog
from slipway.catalog.records import Cluster as ClusterRecord
from slipway.checks.balancers import addresses_of_service, check_balancers
from slipway.checks.subject import Site, Subject
from slipway.checks.view import View
from slipway.cluster.client import Cluster
from slipway.cluster.objects import Object, Ref
from tests.cluster.gateway import PORT, gateway_address, make_server, until

POOL = settings.SYSTEM_NAMESPACE


@pytest.fixture(scope="module")
def record() -> ClusterRecord:
    return read_catalog(include_directory()).clusters["sandbox"]


@pytest.fixture(scope="module")
def place(cluster: Cluster, make_namespace: Callable[..., str], deployment: Callable[..., Object]) -> str:
    """A namespace with a server."""
    namespace = make_namespace()
    make_server(cluster, deployment, namespace=namespace, name="server")
    return namespace


@pytest.fixture
def balanced(cluster: Cluster, place: str) -> Iterator[Callable[..., Callable[[], Object]]]:
    """Make a Service of type LoadBalancer to the server; gives what reads it. It is deleted after the test."""
    made: list[Ref] = []

    def make(name: str, **annotations: str) -> Callable[[], Object]:
        metadata = {"name": name, "namespace": place, "annotations": annotations}
        spec = {
            "type": "LoadBalancer",
            "selector": {"slipway.io/endpoint": "server"},
            "ports": [{"name": "http", "port": 80, "targetPort": PORT}],
        }
        cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
        made.append(Ref(apiVersion="v1", kind="Service", namespace=place, name=name))

        def read() -> Object:
            found = cluster.get(api_version="v1", kind="Service", name=name, namespace=place)
            assert found is not None
            return found

        return read

    yield make
    for ref in made:
        cluster.delete(ref)


def left(cluster: Cluster) -> int:
    pool = cluster.get(api_version="metallb.io/v1beta1", kind="IPAddressPool", name="sandbox", namespace=POOL)
    assert pool is not None
    return int(pool["status"]["availableIPv4"])


def of_pool(record: ClusterRecord, address: str) -> bool:
    [pool] = record.setup.address_pools
    [(first, _, last)] = [one.partition("-") for one in pool.addresses]
    return ipaddress.ip_address(first) <= ipaddress.ip_address(address) <= ipaddress.ip_address(last)


def test_a_service_gets_an_address_of_the_pool_that_leads_to_its_pods_and_gives_it_back(
    cluster: Cluster, balanced: Callable[..., Callable[[], Object]], record: ClusterRecord
) -> None:
    before = left(cluster)
    read = balanced("outside")
    until(lambda: bool(addresses_of_service(read())), what="an address")
    [address] = addresses_of_service(read())
    assert of_pool(record, address)
    assert ipaddress.ip_address(address) in ipaddress.ip_network(settings.LOAD_BALANCER_CIDR)
    until(lambda: left(cluster) == before - 1, what="one address less")

    def answers() -> bool:
        try:
            return httpx.get(f"http://{address}/v1/models", trust_env=False, timeout=5).is_success
        except httpx.HTTPError:
            return False

    until(answers, what=f"an answer at {address}")

    metadata = read()["metadata"]
    cluster.delete(
        Ref(apiVersion="v1", kind="Service", namespace=metadata["namespace"], name=metadata["name"])
    )
    until(lambda: left(cluster) == before, what="the address back in the pool")


def test_the_gateways_address_is_one_that_metallb_gave(cluster: Cluster, record: ClusterRecord) -> None:
    service = cluster.get(api_version="v1", kind="Service", name="traefik", namespace=POOL)
    assert service is not None
    assert addresses_of_service(service) == [gateway_address(cluster)]
    assert of_pool(record, gateway_address(cluster))
    assert "metallb.io/ip-allocated-from-pool" in service["metadata"]["annotations"]


def endpoint(place: str, *balancers: str) -> Subject:
    return Subject.model_validate({"endpoint": "one", "namespace": place, "balancers": balancers})


def test_the_checks_tell_who_waits_for_an_address(
    as_slipway: Callable[..., Cluster],
    balanced: Callable[..., Callable[[], Object]],
    record: ClusterRecord,
    place: str,
) -> None:
    good = balanced("good")
    # An address that no pool has: MetalLB says so in an event, and the Service waits.
    waiting = balanced("waiting", **{"metallb.io/loadBalancerIPs": "203.0.113.9"})
    until(lambda: bool(addresses_of_service(good())), what="an address")
    assert addresses_of_service(waiting()) == []

    site = Site(record=record, endpoints=(endpoint(place, "good", "waiting"),))
    view = View(cluster=as_slipway(place, infrastructure=True))
    found: dict[str, Any] = {one.about: one for one in check_balancers(view, site)}

    assert found[f"Service {place}/good"].severity == "ok"
    told = found[f"Service {place}/waiting"]
    assert (told.severity, told.reason) == ("blocking", "no load balancer has given it an address")
    pool = found[f"IPAddressPool {POOL}/sandbox"]
    assert pool.severity == "ok" and "of 20 addresses are left" in pool.reason
