"""Links from a task: to the page of its endpoint, to the pod that serves, and to the API where clients reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

if TYPE_CHECKING:
    from slipway.manifests.plan import Plan

PAGES = "/slipway"


class EndpointLink(BaseOperatorLink):
    """To the endpoint's page, at the release that the task works on."""

    name = "Endpoint"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The page's address within Airflow; "" for a task that never knew its endpoint."""
        base = urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/") + PAGES
        release, endpoint = getattr(operator, "release", None), getattr(operator, "endpoint", None)
        if isinstance(release, dict) and "release" in release:
            return f"{base}/releases/{int(release['release'])}"
        return f"{base}/endpoints/{quote(endpoint)}" if isinstance(endpoint, str) and endpoint else ""


class PodLink(BaseOperatorLink):
    """To the page of the pod that the task saw, in the cluster's own console."""

    name = "Pod"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Its address; "" where the cluster's record names no console."""
        return str(getattr(operator, "pod_address", ""))


class ApiLink(BaseOperatorLink):
    """To where clients outside the cluster reach the endpoint."""

    name = "API"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Its address; "" where only clients inside do."""
        return str(getattr(operator, "api_address", ""))


def pod_address(plan: Plan, pod: str) -> str:
    """The address of a pod's page, as the cluster's record says; "" where that names none."""
    from slipway.catalog.read import read_catalog

    cluster = read_catalog().clusters.get(plan.cluster)
    page = cluster.pod_page if cluster else None
    return page.format(namespace=quote(plan.namespace), pod=quote(pod)) if page else ""
