"""Registers Slipway's pages and the notes of its runs with Airflow, and nothing else.

Every Airflow process loads this file, also each one that parses DAGs; so the pages themselves are imported by the API
server alone, with the first request.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from slipway.operators.notes import RunNotes

PREFIX = "/slipway"


async def pages(scope: Any, receive: Any, send: Any) -> None:
    """Hand a request to the pages."""
    from slipway.web.app import app

    await app(scope, receive, send)


class SlipwayPlugin(AirflowPlugin):
    """The pages of endpoints and clusters, in Airflow's navigation, and what is noted when a run ends."""

    name = "slipway"
    fastapi_apps = [{"app": pages, "url_prefix": PREFIX, "name": "Slipway"}]  # noqa: RUF012 - Airflow's own form
    listeners = [RunNotes()]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {
            "name": "Endpoints",
            "href": f"{PREFIX}/endpoints",
            "destination": "nav",
            "category": "browse",
            "url_route": "slipway-endpoints",
        },
        {
            "name": "Clusters",
            "href": f"{PREFIX}/clusters",
            "destination": "nav",
            "category": "browse",
            "url_route": "slipway-clusters",
        },
    ]
