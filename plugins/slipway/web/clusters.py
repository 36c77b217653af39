"""Pages of clusters: what the checks found, now and before. Whoever may read ``check_infrastructure`` may read them."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from slipway.releases.infrastructure import KEPT, Infrastructure, InspectionRecord
from slipway.web.looks import as_counts, compared
from slipway.web.pages import page

DAG = "check_infrastructure"
_LISTED = 60
may_read = requires_access_dag("GET", param_dag_id=DAG)
router = APIRouter(dependencies=[Depends(may_read)])


@cache
def history() -> Infrastructure:
    """What was found, opened once."""
    return Infrastructure.open()


@router.get("/clusters", response_class=HTMLResponse)
def clusters(request: Request) -> HTMLResponse:
    """List the clusters, each with its latest look."""
    return page(request, "clusters.html.j2", dag=DAG, looks=history().latest(), as_counts=as_counts)


@router.get("/clusters/{cluster}", response_class=HTMLResponse)
def cluster(request: Request, cluster: str, look: Annotated[int | None, Query(ge=1)] = None) -> HTMLResponse:
    """Show one look at a cluster, the latest if none is named, what changed since the one before, and all others."""
    looks = history().list(cluster=cluster, limit=_LISTED)
    shown = looks[0] if looks and look is None else next((one for one in looks if one.id == look), None)
    if shown is None:
        raise HTTPException(
            404, "There is no such look at this cluster" if looks else "Nothing is known of it"
        )
    before: InspectionRecord | None = next((one for one in looks if one.id < shown.id), None)
    return page(
        request,
        "cluster.html.j2",
        dag=DAG,
        cluster=cluster,
        shown=shown,
        findings=compared(shown, before),
        mended=compared(before, shown, only_new=True) if before else [],
        looks=looks,
        kept_days=KEPT.days,
        as_counts=as_counts,
    )
