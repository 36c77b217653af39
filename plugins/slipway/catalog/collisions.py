"""Endpoints whose Kubernetes objects would have the same names: one would take the other's place."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from slipway.catalog.faults import Fault
from slipway.catalog.names import object_name
from slipway.catalog.records import Endpoint

# What the names of an endpoint's Services and workload end in, besides nothing.
SUFFIXES = ("-pods", "-nodes", "-public", "-private", "-group", "-green")
# The Service of a release ends in its label; a LeaderWorkerSet makes a StatefulSet for each of its groups.
RELEASE_SERVICE = re.compile(r"(.+)-r-[0-9a-f]{8}")
_GROUP = re.compile(r"(.+)-(?:group|green)-[0-9]+")


def collisions(endpoints: Iterable[Endpoint]) -> Iterator[tuple[str, Fault]]:
    """Say which endpoints get in the way of others in the same namespace of the same cluster.

    Returns:
        The name of the later endpoint (in the order of names) and its fault, which names the other.
    """
    places: dict[tuple[str, str], list[Endpoint]] = defaultdict(list)
    for endpoint in sorted(endpoints, key=lambda one: one.name):
        places[endpoint.cluster, endpoint.namespace].append(endpoint)
    for together in places.values():
        if len(together) > 1:
            yield from _in_one_place(together)
            yield from _with_one_claim(together)


def _in_one_place(endpoints: list[Endpoint]) -> Iterator[tuple[str, Fault]]:
    taken: dict[str, str] = {}
    owners = {object_name(one.name): one.name for one in endpoints}
    for endpoint in endpoints:
        for field, name in object_names(endpoint):
            other = (
                taken.get(name)
                or _made_later(RELEASE_SERVICE, name, owners, endpoint.name)
                or _made_later(_GROUP, name, owners, endpoint.name)
            )
            if other and other != endpoint.name:
                message = f"its object {name!r} would be named like one of endpoint {other!r}"
                yield endpoint.name, Fault(field, message)
                break
            taken.setdefault(name, endpoint.name)


def object_names(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """The names of an endpoint's Services and workload with the field that decides each, without its releases'."""
    name = object_name(endpoint.name)
    yield "name", name
    for suffix in SUFFIXES:
        yield "name", f"{name}{suffix}"
    for number, service in enumerate(endpoint.exposure.services):
        if service.name:
            yield f"exposure.services.{number}.name", service.name


def _made_later(pattern: re.Pattern[str], name: str, owners: dict[str, str], own: str) -> str | None:
    """The other endpoint that could make an object of that name while it lives."""
    found = pattern.fullmatch(name)
    owner = owners.get(found[1]) if found else None
    return owner if owner != own else None


def _with_one_claim(endpoints: list[Endpoint]) -> Iterator[tuple[str, Fault]]:
    """Endpoints may share a claim, but then they say the same of it."""
    first: dict[str, Endpoint] = {}
    for endpoint in endpoints:
        claim = claim_name(endpoint)
        other = first.setdefault(claim, endpoint)
        if other.volume.model_dump(exclude={"path"}) != endpoint.volume.model_dump(exclude={"path"}):
            message = f"claim {claim!r} is also endpoint {other.name!r}'s, which says something else of it"
            yield endpoint.name, Fault("volume", message)


def claim_name(endpoint: Endpoint) -> str:
    """The claim of an endpoint's weights: one for all endpoints of a model unless it is named."""
    by_model = endpoint.model if endpoint.volume.dataset else f"{object_name(endpoint.model)}-weights"
    return endpoint.volume.claim or by_model
