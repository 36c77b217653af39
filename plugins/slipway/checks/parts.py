"""Parts of a check: what one of them may not read does not hide what the others find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from slipway.checks.findings import Report
from slipway.checks.permissions import apply_this, rights_yaml
from slipway.checks.rights import Rule
from slipway.checks.view import View
from slipway.cluster.faults import ApiError
from slipway.errors import SlipwayError, bounded

_FORBIDDEN = 403


@contextmanager
def part(report: Report, view: View, about: str, *rules: Rule) -> Iterator[None]:
    """Turn an error in a part of a check into "not checked".

    Args:
        report: where it is noted.
        view: the cluster.
        about: what this part looks at.
        rules: the rights that it reads with.
    """
    try:
        yield
    except SlipwayError as error:
        remedy = remedy_of(
            error, rules, view=view, name=f"{report.check}-{rules[0].resources[0]}" if rules else report.check
        )
        report.add("not checked", about, bounded(error.why or str(error)), remedy)


def remedy_of(error: SlipwayError, rules: Sequence[Rule], *, view: View, name: str) -> str:
    """Return what mends an error of a check: the rights that it lacks, ready to apply, or the error's own words."""
    if isinstance(error, ApiError) and error.status == _FORBIDDEN and rules:
        user = view.user()
        return f"{apply_this(user)}\n{rights_yaml(rules, name=f'slipway-check-{name}', user=user)}"
    return error.remedy
