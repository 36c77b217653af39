"""What checks report: findings, and the table that people read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from textwrap import indent
from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["blocking", "warning", "not checked", "info", "ok"]
BY_URGENCY: tuple[Severity, ...] = ("blocking", "warning", "not checked", "info", "ok")


class Finding(BaseModel):
    """What one check found about one object.

    Attributes:
        check: the check's id.
        severity: "blocking" ends a run before it changes anything. "not checked" is never taken for a pass: it
            says why nobody knows.
        about: the object.
        reason: what was found, with the numbers.
        remedy: what to do, with the exact command where there is one; "" when nothing is to be done.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    severity: Severity
    about: str
    reason: str
    remedy: str = ""


class Report:
    """The findings of one check as they come up.

    Args:
        check: its id, which every finding carries.
    """

    def __init__(self, check: str) -> None:
        self.check = check
        self.findings: list[Finding] = []

    def add(self, severity: Severity, about: str, reason: str, remedy: str = "") -> None:
        """Note one finding."""
        self.findings.append(
            Finding(check=self.check, severity=severity, about=about, reason=reason, remedy=remedy)
        )

    def has_faults(self, about: str) -> bool:
        """Whether something else than "ok" was found about an object."""
        return any(one.about == about and one.severity != "ok" for one in self.findings)


def blocking(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that end a run."""
    return [finding for finding in findings if finding.severity == "blocking"]


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the most urgent first; equals keep the order of the checks."""
    return sorted(findings, key=lambda finding: BY_URGENCY.index(finding.severity))


def counted(findings: Iterable[Finding]) -> dict[str, int]:
    """Return how many findings there are of each severity, the most urgent first; those without any are left out."""
    counts = Counter(finding.severity for finding in findings)
    return {severity: counts[severity] for severity in BY_URGENCY if counts[severity]}


def table(findings: Sequence[Finding]) -> str:
    """Return findings as text: one line each, its remedy below it, and a last line that counts them."""
    ordered = sorted_findings(findings)
    cells = [(finding.severity, finding.check, finding.about) for finding in ordered]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(3)]
    lines = []
    for row, finding in zip(cells, ordered, strict=True):
        columns = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append(f"{columns}  {finding.reason}")
        if finding.remedy:
            lines.append(indent(finding.remedy, " " * (widths[0] + 2)))
    told = ", ".join(f"{count} {severity}" for severity, count in counted(ordered).items())
    return "\n".join([*lines, f"{len(ordered)} findings: {told}" if ordered else "nothing was checked"])
