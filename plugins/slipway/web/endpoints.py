"""Pages of endpoints: how each stands, its releases and what they changed, probes, benchmarks, what others changed.

Whoever may read the DAG ``deploy_endpoint`` may read them.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from slipway.cluster.redact import redact
from slipway.releases.difference import difference
from slipway.releases.lines import line_of_difference
from slipway.releases.records import ReleaseLine
from slipway.releases.store import History
from slipway.web.looks import addresses
from slipway.web.pages import base_of, page

DAG = "deploy_endpoint"
_HOURS = 48
_MOST_LINES = 2000
may_read = requires_access_dag("GET", param_dag_id=DAG)
router = APIRouter(dependencies=[Depends(may_read)])


@cache
def history() -> History:
    """The history, opened once."""
    return History.open()


@router.get("/endpoints", response_class=HTMLResponse)
def endpoints(request: Request) -> HTMLResponse:
    """List the endpoints, each with how it stands."""
    return page(request, "endpoints.html.j2", dag=DAG, endpoints=history().endpoints())


@router.get("/endpoints/{endpoint}", response_class=HTMLResponse)
def endpoint(
    request: Request, endpoint: str, release: Annotated[int | None, Query(ge=1)] = None
) -> HTMLResponse:
    """Show an endpoint, and one of its releases: the one that serves, else the newest, if none is named."""
    kept = history()
    releases = kept.lines(endpoint)
    if not releases:
        raise HTTPException(404, "Nothing is known of this endpoint")
    good = next((one for one in releases if one.status == "good"), None)
    shown = (
        good or releases[0]
        if release is None
        else next((one for one in releases if one.number == release), None)
    )
    if shown is None:
        raise HTTPException(404, "There is no such release of this endpoint among the latest")
    before, changed = _compared(kept, shown)
    states, drifts = kept.states(endpoint, limit=20), kept.drifts(endpoint)
    return page(
        request,
        "endpoint.html.j2",
        dag=DAG,
        endpoint=endpoint,
        good=good,
        shown=shown,
        releases=releases,
        # What probes saw of a release before this one says nothing of it.
        state=states[0] if states and good and states[0].release_number == good.number else None,
        states=states,
        drift=drifts[0] if drifts and good else None,
        drifts=drifts,
        hours=kept.hours(endpoint, limit=_HOURS),
        changes=kept.changes(endpoint, limit=20),
        benchmarks=kept.measured(endpoint),
        findings=kept.findings(shown.id),
        probes=kept.probes(shown.id),
        addresses=addresses(kept.get(good.id).plan) if good else [],
        line_of_difference=line_of_difference,
        before=before,
        difference=changed,
    )


@router.get("/releases/{release_id}")
def release(request: Request, release_id: int) -> RedirectResponse:
    """Lead to the page of a release's endpoint: tasks know the release alone."""
    found = history().line(release_id)
    if found is None:
        raise HTTPException(404, "There is no such release")
    return RedirectResponse(f"{base_of(request)}/endpoints/{found.endpoint}?release={found.number}#release")


def _compared(kept: History, shown: ReleaseLine) -> tuple[int | None, list[str]]:
    """What a release changed about the good one before it, and that one's number."""
    before = kept.last_good(shown.endpoint, before=shown.number)
    if before is None:
        return None, []
    lines = difference(before, kept.get(shown.id))
    return before.number, [redact(line) for line in lines[:_MOST_LINES]]
