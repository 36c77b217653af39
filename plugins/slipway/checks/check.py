"""What a check is: data and one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from slipway.checks.findings import Finding, Severity
from slipway.checks.rights import Rule
from slipway.checks.subject import Site, Subject
from slipway.checks.view import View

Function = Callable[[View, Site], list[Finding]]
Asked = Literal["cluster", "endpoint", "active"]
BOTH: tuple[Asked, ...] = ("cluster", "endpoint")
DEADLINE_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: data and one function.

    Attributes:
        id: what findings carry.
        title: what it makes sure of.
        scope: what it is about.
        function: looks and returns what it found; "ok" findings too, so that a table shows what was looked at.
        severity: the worst that it finds.
        remedy: what mends it in general; a finding has the exact one.
        asked: whether it is part of a look at a cluster, at what one endpoint needs right now, of both, or of what
            makes pods to try things out ("active").
        needs: whether there is anything to look at; where not, nothing is reported.
        rights: what it reads besides what Slipway's jobs may; printed when the cluster refuses.
        deadline: seconds until it is "not checked".
    """

    id: str
    title: str
    scope: Literal["cluster", "node", "endpoint"]
    function: Function
    severity: Severity = "blocking"
    remedy: str = ""
    asked: tuple[Asked, ...] = ("cluster",)
    needs: Callable[[Site], bool] = lambda site: True
    rights: tuple[Rule, ...] = ()
    deadline: float = DEADLINE_SECONDS


def per_endpoint(function: Callable[[View, Subject], list[Finding]]) -> Function:
    """Make a check of one endpoint's needs a check of all endpoints of a site."""

    def check(view: View, site: Site) -> list[Finding]:
        return [finding for subject in site.endpoints for finding in function(view, subject)]

    return check
