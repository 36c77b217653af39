"""The check that says which endpoints were not looked at, because they cannot be planned."""

from __future__ import annotations

from slipway.checks.findings import Finding, Report
from slipway.checks.subject import Site
from slipway.checks.view import View


def check_plans(view: View, site: Site) -> list[Finding]:
    """Every endpoint that the catalog has for the cluster has a plan; what it needs is known by that alone."""
    report = Report("plans")
    for endpoint, reason in sorted(site.unplanned.items()):
        report.add("not checked", f"endpoint {endpoint}", f"it has no plan: {reason}", "slipway validate")
    if not site.unplanned and site.endpoints:
        names = ", ".join(one.endpoint for one in site.endpoints[:5])
        more = f" and {len(site.endpoints) - 5} more" if len(site.endpoints) > 5 else ""
        report.add("ok", f"{len(site.endpoints)} endpoints", f"planned: {names}{more}")
    return report.findings
