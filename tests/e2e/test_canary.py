"""A canary behind a real Gateway: its share of the requests grows, and they all go back when too many of its fail."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import pytest

from sandbox import s3, traefik
from sandbox.settings import load
from slipway.airflow_rest import AirflowRest, Outcome
from slipway.catalog.names import ENDPOINT_LABEL, RELEASE_LABEL
from slipway.cluster.client import Cluster
from slipway.releases.records import Release
from tests.cluster.gateway import API, Published, gateway_address
from tests.e2e import small
from tests.e2e.own_catalog import catalog_with
from tests.e2e.small import NAME, NAMESPACE, Small, answer_of, patiently

pytestmark = pytest.mark.e2e

WEIGHTS = [1, 10, 50]
GOES_WELL, GOES_BACK = "small-canary", "small-canary-back"
NEW = "the-new"


@pytest.fixture(scope="module")
def small_catalog(airflow: AirflowRest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Airflow's catalog has endpoints of the small server that are published on the Gateway."""
    folder = tmp_path_factory.mktemp("small")
    small.put_weights(folder, s3.connection(load()))
    records = small.records()
    plain = next(record for path, record in records.items() if path.startswith("endpoints/"))
    for name in (GOES_WELL, GOES_BACK):
        records[f"endpoints/{name}"] = {
            **plain,
            "exposure": {"route": {"host": host_of(name)}},
            "canary": {"weights": WEIGHTS, "seconds": 5},
        }
    with catalog_with(records, airflow=airflow, folder=folder):
        yield


def host_of(endpoint: str) -> str:
    return f"{endpoint}.{traefik.DOMAIN}"


@dataclass
class Outside:
    """A client outside the cluster that asks through the Gateway all the time, and somebody who watches the route.

    Attributes:
        answers: the release's own word in each answer, in order.
        failures: what went wrong instead.
        shares: what part of the requests the route gave to another release than the first, each as it changed.
    """

    of: Small
    first: Release
    answers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def ask(self, gateway: str) -> None:
        """Ask until it is over."""
        endpoint = self.of.endpoint
        published = Published(namespace=NAMESPACE, name=endpoint, host=host_of(endpoint), address=gateway)
        headers = {"Authorization": f"Bearer {self.of.api_key}"}
        with published.client() as client:
            while not self.over.wait(0.05):
                try:
                    answer = client.post(
                        "/v1/completions", json={"model": NAME, "prompt": "Who are you?"}, headers=headers
                    )
                    self.answers.append(answer.raise_for_status().json()["choices"][0]["text"])
                except httpx.HTTPError as error:
                    self.failures.append(f"{time.strftime('%X')} {type(error).__name__} {error}")

    def watch(self) -> None:
        """Note each share until it is over."""
        while not self.over.wait(0.2):
            share = patiently(self.share)
            if self.shares[-1:] != [share]:
                self.shares.append(share)

    def share(self) -> float:
        """In percent."""
        cluster, place = self.of.cluster, {"namespace": NAMESPACE}
        route = cluster.get(api_version=API, kind="HTTPRoute", name=self.of.endpoint, **place)
        assert route is not None
        weights = {"first": 0, "other": 0}
        for backend in route["spec"]["rules"][0]["backendRefs"]:
            service = cluster.get(api_version="v1", kind="Service", name=backend["name"], **place)
            assert service is not None
            leads = service["spec"]["selector"][RELEASE_LABEL]
            weights["first" if leads == self.first.label else "other"] += backend["weight"]
        return 100 * weights["other"] / sum(weights.values())


@contextmanager
def outside(of: Small, first: Release) -> Iterator[Outside]:
    """Ask and watch meanwhile."""
    seen = Outside(of=of, first=first)
    gateway = gateway_address(of.cluster)
    threads = [
        threading.Thread(target=seen.ask, args=(gateway,), daemon=True),
        threading.Thread(target=seen.watch, daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        seen.over.set()
        for thread in threads:
            thread.join(timeout=60)
        print(f"{len(seen.answers)} answers, {len(seen.failures)} failed: {seen.failures[:3]}; {seen.shares}")


@dataclass(frozen=True)
class Seen:
    """What was seen of a canary.

    Attributes:
        pods: of the first release, before.
        after: answers that clients outside got when the run was over.
        wrong: about how the endpoint stands when the run is over.
    """

    first: Release
    pods: set[str]
    outcome: Outcome
    outside: Outside
    after: list[str]
    wrong: list[str]


def canary(of: Small, *args: str) -> Seen:
    """Deploy an endpoint, and then another release of it as a canary, while clients ask."""
    first = of.good()
    pods = {pod["metadata"]["uid"] for pod in of.pods()}
    with outside(of, first) as clients:
        outcome = of.run("redeploy_endpoint", strategy="canary", overrides={"args": [*args]})
        wrong = of.settle()
        before, failed = len(clients.answers), len(clients.failures)
        deadline = time.monotonic() + 60
        while len(clients.answers) < before + 50 and len(clients.failures) == failed:
            assert time.monotonic() < deadline, "nobody answers outside"
            time.sleep(0.1)
    wrong += clients.failures[failed:]
    return Seen(first, pods, outcome, clients, clients.answers[before:], wrong)


@pytest.fixture(scope="module")
def canaries(make_small: Callable[[str], Small]) -> Iterator[dict[str, Future[Seen]]]:
    """One that goes well and one that does not, side by side."""
    well, back = make_small(GOES_WELL), make_small(GOES_BACK)
    with ThreadPoolExecutor() as threads:
        yield {
            GOES_WELL: threads.submit(canary, well, f"--answer={NEW}"),
            GOES_BACK: threads.submit(canary, back, f"--answer={NEW}", "--fault=tires"),
        }


def test_a_canary_gets_a_growing_share_until_it_serves_alone_and_no_request_fails(
    canaries: dict[str, Future[Seen]],
) -> None:
    seen = canaries[GOES_WELL].result(timeout=600)
    of, old = seen.outside.of, answer_of(seen.first)

    assert (seen.outcome.state, seen.outcome.failures) == ("success", [])
    assert seen.outside.shares == [0, *WEIGHTS, 100]
    assert seen.outside.failures == []
    assert set(seen.outside.answers) == {old, NEW}
    assert set(seen.after) == {NEW} and seen.wrong == []
    new = of.history.last_good(of.endpoint)
    assert new is not None and answer_of(new) == NEW
    assert seen.pods.isdisjoint(pod["metadata"]["uid"] for pod in of.pods())


def test_a_canary_whose_requests_fail_goes_back_and_says_how_many_of_how_many(
    canaries: dict[str, Future[Seen]],
) -> None:
    seen = canaries[GOES_BACK].result(timeout=600)
    of, old = seen.outside.of, answer_of(seen.first)

    assert seen.outcome.state == "failed"
    shares = seen.outside.shares
    assert shares in [[0, *WEIGHTS[: steps + 1], 0] for steps in range(len(WEIGHTS))]
    part = r"(\d+) of (\d+)"
    found = re.fullmatch(
        rf"publish: too many requests to the new release failed at {max(shares):.0f} % of the requests "
        rf"\({of.endpoint}\): {part} requests of our own failed \(([\d.]+) %\), {part} that its pods counted "
        rf"\(([\d.]+) %\), and 1 % may(; the first: status 500: tired)?\. .*",
        seen.outcome.failures[0],
    )
    assert found, seen.outcome.failures
    numbers = [float(one) for one in found.groups()[:6]]
    for failed, requests, percent in (numbers[:3], numbers[3:]):
        assert percent == pytest.approx(100 * failed / requests, abs=0.06)

    assert set(seen.after) == {old} and seen.wrong == []
    assert {pod["metadata"]["uid"] for pod in of.pods()} == seen.pods
    assert of.history.last_good(of.endpoint) == seen.first
    release = of.history.list(endpoint=of.endpoint, limit=1)[0]
    assert (release.status, release.returning_to) == ("failed", seen.first.number)
    assert (release.failure or "").partition(" | ")[0] == seen.outcome.failures[0]
    assert left_of(release, of.cluster, of.endpoint) == []


def left_of(release: Release, cluster: Cluster, endpoint: str) -> list[str]:
    """What is there of a release."""
    own = {ENDPOINT_LABEL: endpoint, RELEASE_LABEL: release.label}
    kinds = (("v1", "Service"), ("v1", "Pod"), ("v1", "ConfigMap"), ("apps/v1", "StatefulSet"))
    found = [
        one
        for api_version, kind in kinds
        for one in cluster.list(api_version=api_version, kind=kind, namespace=NAMESPACE, labels=own)
    ]
    return [f"{one['kind']} {one['metadata']['name']}" for one in found]
