"""A cluster as it was when it was first looked at: many of Slipway's objects from few lists."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from slipway.cluster.client import Cluster
from slipway.cluster.faults import ApiError, UnknownKindError, UnreachableError
from slipway.cluster.objects import ENDPOINT_LABEL, MANAGED_BY_LABEL, MANAGER, Object, labels_of
from slipway.cluster.transport import Answer, Request

_Place = tuple[str, str, str | None]


class ListedCluster(Cluster):
    """Reads an endpoint's objects out of one list for each kind and namespace; nothing in it is ever read again.

    For a look at many endpoints at one moment. What a list does not have is asked for by name, because somebody may
    have taken its labels off; where listing is not allowed, everything is. A server that is away is waited for once,
    not once for each endpoint.

    Args:
        cluster: the cluster itself.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._connection, self._discovered = cluster._connection, {}
        self._lists: dict[_Place, dict[str, Object] | None] = {}
        self._of_endpoint: dict[_Place, dict[str, list[Object]]] = {}
        self._unknown: dict[tuple[str, str], UnknownKindError] = {}
        self._away: ApiError | UnreachableError | None = None

    def send(self, request: Request) -> Answer:
        """Send a request; a server that was away for as long as patience lasts is not asked again."""
        if self._away is not None:
            raise self._away
        try:
            return super().send(request)
        except (ApiError, UnreachableError) as error:
            self._away = error if error.is_transient else None
            raise

    def get(self, *, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """Return an object as it was when its kind was listed."""
        listed = self._list_once((api_version, kind, namespace))
        if listed is not None and name in listed:
            return listed[name]
        return super().get(api_version=api_version, kind=kind, name=name, namespace=namespace)

    def list(
        self,
        *,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        field_selector: str = "",
    ) -> list[Object]:
        """Return the objects of one endpoint as they were; any other question is asked anew."""
        if set(labels or ()) == {ENDPOINT_LABEL} and not field_selector:
            place = (api_version, kind, namespace)
            if self._list_once(place) is not None:
                return self._of_endpoint[place].get((labels or {})[ENDPOINT_LABEL], [])
        return super().list(
            api_version=api_version,
            kind=kind,
            namespace=namespace,
            labels=labels,
            field_selector=field_selector,
        )

    def _list_once(self, place: _Place) -> dict[str, Object] | None:
        """All of Slipway's objects of a kind in a namespace by name; None where they may not be listed."""
        if place not in self._lists:
            api_version, kind, namespace = place
            if (api_version, kind) in self._unknown:
                raise self._unknown[api_version, kind]
            try:
                found = super().list(
                    api_version=api_version,
                    kind=kind,
                    namespace=namespace,
                    labels={MANAGED_BY_LABEL: MANAGER},
                )
            except UnknownKindError as error:
                self._unknown[api_version, kind] = error
                raise
            except ApiError as error:
                if error.status != 403:
                    raise
                self._lists[place] = None
                return None
            self._lists[place] = {obj["metadata"]["name"]: obj for obj in found}
            by_endpoint = defaultdict(list)
            for obj in found:
                by_endpoint[labels_of(obj).get(ENDPOINT_LABEL, "")].append(obj)
            self._of_endpoint[place] = dict(by_endpoint)
        return self._lists[place]
