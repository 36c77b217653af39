"""The pages inside Airflow's UI: clusters, and what the checks found in them; endpoints, and their releases.

Server-side HTML without scripts. Who may read a page is a matter of Airflow's own users, sessions and rights: whoever
may read the DAG whose results it shows. The pages only read, so they need no token against forged requests.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from slipway.errors import SlipwayError
from slipway.web import clusters, endpoints
from slipway.web.pages import page

app = FastAPI(title="Slipway", openapi_url=None, docs_url=None, redoc_url=None)
app.include_router(clusters.router)
app.include_router(endpoints.router)


@app.exception_handler(StarletteHTTPException)
def refused(request: Request, error: StarletteHTTPException) -> HTMLResponse:
    """Say why there is no page."""
    told = "Log into Airflow first" if error.status_code == 401 else str(error.detail)
    return page(request, "refused.html.j2", status=error.status_code, told=told)


@app.exception_handler(SlipwayError)
def failed(request: Request, error: SlipwayError) -> HTMLResponse:
    """Say that the history cannot be read, and why."""
    return page(request, "refused.html.j2", status=503, told=str(error))
