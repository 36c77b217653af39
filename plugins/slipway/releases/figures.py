"""From the JSON of vLLM's benchmark client to the figures that the history compares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from slipway.releases.records import Figures


def figures_of(raw: Mapping[str, Any]) -> Figures:
    """Read the canonical figures; what is missing or no finite number is None.

    vLLM names the 50th percentile ``median`` where it was not asked for as a percentile.
    """
    values: dict[str, Any] = {}
    for name, field in Figures.model_fields.items():
        value = _number(raw.get(name))
        if value is None and name.startswith("p50_"):
            value = _number(raw.get(f"median_{name.removeprefix('p50_')}"))
        whole = "int" in str(field.annotation)
        values[name] = int(value) if whole and value is not None else value
    values["completed"], values["failed"] = values["completed"] or 0, values["failed"] or 0
    return Figures(**values)


def is_valid(raw: Mapping[str, Any]) -> bool:
    """Say whether a result may be compared with others.

    The client ends well when every request failed, and a latency of no request is 0.0, the best there is; so the
    counts decide, and no figure may be NaN or infinite.
    """
    figures = figures_of(raw)
    wanted = raw.get("num_prompts", figures.completed)
    measured = figures.completed == wanted and figures.failed == 0 and (figures.total_output_tokens or 0) > 0
    return measured and all(math.isfinite(value) for value in raw.values() if isinstance(value, float))


def without_lists(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a row of the history keeps of the raw JSON.

    Lists have an entry for each request and belong into the artefact store; NaN and infinity become text, because
    JSON in a database has no word for them.
    """
    return {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in raw.items()
        if not isinstance(value, list | dict)
    }


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
