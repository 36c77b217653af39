"""Checks of what Hydra itself has on record: the models that this cluster serves, and their vendors.

Asked of Hydra's API as its OpenAPI description of version 0.15.2 has it: ``GET /apis/hydra.io/v1alpha1/models`` and
``…/providers``, a page size of -1 for all, answers with ``items`` of ``modelId`` and ``modelName``, and of
``providerId`` and ``providerName``. No Hydra was there to try it on: an answer of another form is "not checked". A
vendor's name may be a word or have one for each language.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from slipway.checks.findings import Finding, Report
from slipway.checks.hydra import chart_of
from slipway.checks.hydra_server import server_chart_of
from slipway.checks.subject import HydraAccess, Site
from slipway.checks.view import View
from slipway.errors import SlipwayError

PATH = "/apis/hydra.io/v1alpha1"
_ALL = {"page.page": "1", "page.pageSize": "-1"}
_SECONDS = 10.0
_SHOWN = 20


class HydraError(SlipwayError):
    """Hydra did not say what it has."""


def belongs_to_hydra(site: Site) -> bool:
    """Whether the cluster is one of Hydra's, or its record says how Hydra is asked."""
    return site.hydra is not None or chart_of(site) is not None or server_chart_of(site) is not None


def check_hydra_records(view: View, site: Site) -> list[Finding]:
    """Hydra has a model of one of the names that each served model goes by, and a vendor of its vendor's name."""
    report, about = Report("hydra-records"), "Hydra's records of models and vendors"
    access = site.hydra
    if access is None or access.token is None:
        told = access.why if access else "the cluster's record does not say how Hydra's API is asked"
        remedy = "Set setup.hydra (url, connection) in the record; the connection's password is an access key"
        report.add("not checked", about, told, remedy)
        return report.findings
    try:
        models, vendors = (_listed(access, kind) for kind in ("models", "providers"))
    except HydraError as error:
        report.add("not checked", about, error.why, error.remedy)
        return report.findings
    _models(report, site, models)
    _vendors(report, site, vendors)
    return report.findings


def _models(report: Report, site: Site, items: list[dict[str, Any]]) -> None:
    known = {
        word.lower(): item
        for item in items
        for key in ("modelId", "modelName")
        for word in _words(item.get(key))
    }
    _held(report, len(items), "models")
    for model in site.models:
        if any(name.lower() in known for name in model.names):
            report.add("ok", f"Model {model.name} in Hydra", "it is registered")
            continue
        reason = f"Hydra has no model called {' or '.join(model.names)}; it has {_some(items, 'modelName')}"
        remedy = "Register it in Hydra's operations platform, with that name as its id"
        report.add("warning", f"Model {model.name} in Hydra", reason, remedy)


def _vendors(report: Report, site: Site, items: list[dict[str, Any]]) -> None:
    known = {word.lower() for item in items for word in _words(item.get("providerName"))}
    if items and not known:
        told = "its vendors have no providerName: this version of its API calls it something else"
        report.add("not checked", "Hydra's vendors", told)
        return
    _held(report, len(items), "vendors")
    for vendor in sorted({model.vendor for model in site.models if model.vendor}):
        about = f"Vendor {' / '.join(vendor)} in Hydra"
        if any(name.lower() in known for name in vendor):
            report.add("ok", about, "it is registered")
        else:
            reason = f"Hydra has no such vendor; it has {_some(items, 'providerName')}"
            report.add(
                "warning", about, reason, "Add it in Hydra's operations platform; newer versions make it"
            )


def _held(report: Report, count: int, what: str) -> None:
    if not count:
        remedy = f"Register {what} in Hydra's operations platform"
        report.add("warning", f"Hydra's {what}", f"it has no {what} at all", remedy)


def _some(items: list[dict[str, Any]], key: str) -> str:
    names = sorted({" / ".join(words) for item in items if (words := list(_words(item.get(key))))})
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def _words(value: Any) -> Iterator[str]:
    """The names that a value holds: itself, or those of its languages."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, dict):
        yield from (one for one in value.values() if isinstance(one, str) and one)


def _listed(access: HydraAccess, kind: str) -> list[dict[str, Any]]:
    assert access.token is not None  # the caller has looked
    headers = {"Authorization": f"Bearer {access.token.get_secret_value()}", "Accept": "application/json"}
    try:
        answer = httpx.get(
            f"{access.url}{PATH}/{kind}", params=_ALL, headers=headers, timeout=_SECONDS, trust_env=False
        )
    except httpx.HTTPError as error:
        why = f"{access.url} does not answer from here: {error or type(error).__name__}"
        raise HydraError(
            "no answer", why=why, remedy="Correct setup.hydra.url in the cluster's record"
        ) from error
    if answer.status_code in (401, 403):
        remedy = "Put an access key of somebody who may read models into the connection's password"
        raise HydraError("refused", why=f"Hydra refuses the access key ({answer.status_code})", remedy=remedy)
    try:
        items = answer.json()["items"] if answer.status_code == 200 else None
    except (ValueError, KeyError, TypeError):
        items = None
    if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
        why = f"{access.url}{PATH}/{kind} answers {answer.status_code} with something else than a list"
        raise HydraError("not a list", why=why, remedy="Correct setup.hydra.url: it is the console's address")
    return items
