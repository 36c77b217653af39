"""What pages say: findings in their order and what is new among them, counts in words, addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slipway.checks.findings import BY_URGENCY
from slipway.releases.infrastructure import InspectionRecord

SEVERITIES: tuple[str, ...] = BY_URGENCY


@dataclass(frozen=True)
class Shown:
    """A finding as a page shows it.

    Attributes:
        new: whether the look before had none of this check, object and severity.
    """

    check: str
    severity: str
    about: str
    reason: str
    remedy: str
    new: bool


def compared(
    look: InspectionRecord, other: InspectionRecord | None, *, only_new: bool = False
) -> list[Shown]:
    """Return a look's findings, the most urgent first, held against another look's.

    Args:
        look: whose findings.
        other: what they are compared with; None compares with nothing, so that nothing is new.
        only_new: leave out what the other look has too, and what is no fault.
    """
    known = {_key(one) for one in other.findings} if other else set()
    found = [
        Shown(**{key: one[key] for key in ("check", "severity", "about", "reason", "remedy")}, new=new)
        for one in look.findings
        for new in [other is not None and _key(one) not in known]
        if not only_new or (new and one["severity"] in ("blocking", "warning"))
    ]
    return sorted(found, key=lambda one: _urgency(one.severity))


def _key(finding: Mapping[str, str]) -> tuple[str, str, str]:
    return finding["check"], finding["about"], finding["severity"]


def _urgency(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def as_counts(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Return the counts that are not nought, the most urgent first."""
    return [(severity, counts[severity]) for severity in SEVERITIES if counts.get(severity)]


def addresses(plan: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return where clients reach an endpoint, by who reaches it, from a release's plan as it is stored."""
    server, publication = plan.get("server") or {}, plan.get("publication") or {}
    inside = f"http://{plan['object_name']}.{plan['namespace']}.svc:{server.get('port')}/v1"
    found = [("Inside the cluster", inside)]
    if ingress := publication.get("ingress"):
        exposure = ingress["exposure"]
        scheme = "https" if ingress.get("tls_secret") else "http"
        found.append(("By the Ingress", f"{scheme}://{exposure['host']}{exposure['path']}"))
    if route := publication.get("route"):
        exposure = route["exposure"]
        host = exposure["host"] or f"the hosts of Gateway {route['gateway']}"
        found.append((f"By Gateway {route['gateway']}", f"{host}{exposure['path']}"))
    return [
        *found,
        *((f"By Service {one['name']}", one["exposure"]["type"]) for one in publication.get("services", [])),
    ]
