"""Pages of clusters: what the checks found, now and before.

Server-side HTML without scripts. Whoever may read the DAG ``check_infrastructure`` may read what it found: by Airflow's
own users, sessions and rights. The pages only read, so they need no token against forged requests.
"""

from __future__ import annotations

import secrets
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException as StarletteHTTPException

from slipway.errors import SlipwayError
from slipway.releases.infrastructure import KEPT, Infrastructure, InspectionRecord
from slipway.web.looks import SEVERITIES, as_counts, compared

DAG = "check_infrastructure"
_LISTED = 60
_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
app = FastAPI(title="Slipway", openapi_url=None, docs_url=None, redoc_url=None)
may_read = requires_access_dag("GET", param_dag_id=DAG)
_Reader = Depends(may_read)


@cache
def _history() -> Infrastructure:
    return Infrastructure.open()


@app.get("/clusters", response_class=HTMLResponse, dependencies=[_Reader])
def clusters(request: Request) -> HTMLResponse:
    """List the clusters, each with its latest look."""
    return _page(request, "clusters.html.j2", looks=_history().latest())


@app.get("/clusters/{cluster}", response_class=HTMLResponse, dependencies=[_Reader])
def cluster(request: Request, cluster: str, look: Annotated[int | None, Query(ge=1)] = None) -> HTMLResponse:
    """Show one look at a cluster, the latest if none is named, what changed since the one before, and all others."""
    looks = _history().list(cluster=cluster, limit=_LISTED)
    shown = looks[0] if looks and look is None else next((one for one in looks if one.id == look), None)
    if shown is None:
        raise HTTPException(
            404, "There is no such look at this cluster" if looks else "Nothing is known of it"
        )
    before: InspectionRecord | None = next((one for one in looks if one.id < shown.id), None)
    return _page(
        request,
        "cluster.html.j2",
        cluster=cluster,
        shown=shown,
        findings=compared(shown, before),
        mended=compared(before, shown, only_new=True) if before else [],
        looks=looks,
    )


@app.exception_handler(StarletteHTTPException)
def refused(request: Request, error: StarletteHTTPException) -> HTMLResponse:
    """Say why there is no page."""
    told = "Log into Airflow first" if error.status_code == 401 else str(error.detail)
    return _page(request, "refused.html.j2", status=error.status_code, told=told)


@app.exception_handler(SlipwayError)
def failed(request: Request, error: SlipwayError) -> HTMLResponse:
    """Say that the history cannot be read, and why."""
    return _page(request, "refused.html.j2", status=503, told=str(error))


def _page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    base = request.scope.get("root_path", "").rstrip("/")
    text = _environment.get_template(template).render(
        **values,
        status=status,
        nonce=nonce,
        base=base,
        # Airflow itself, above the pages.
        airflow=base.rpartition("/")[0],
        dag=DAG,
        kept_days=KEPT.days,
        severities=SEVERITIES,
        as_counts=as_counts,
    )
    headers = {
        "Content-Security-Policy": f"default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    return HTMLResponse(text, status_code=status, headers=headers)
