"""Registers Slipway's pages with Airflow, and nothing else.

Every Airflow process loads this file, also each one that parses DAGs; so the pages themselves are imported by the API
server alone, with the first request.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

PREFIX = "/slipway"


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """Hand a request to the pages."""
    from slipway.web.app import app

    await app(scope, receive, send)


class SlipwayPlugin(AirflowPlugin):
    """The page of clusters, in Airflow's navigation."""

    name = "slipway"
    fastapi_apps = [{"app": pages, "url_prefix": PREFIX, "name": "Slipway"}]  # noqa: RUF012 - Airflow's own form
    external_views = [  # noqa: RUF012
        {
            "name": "Clusters",
            "href": f"{PREFIX}/clusters",
            "destination": "nav",
            "category": "browse",
            "url_route": "slipway-clusters",
        }
    ]
