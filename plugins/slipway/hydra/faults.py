"""What cannot be carried over between Hydra and the catalog, and where it stands."""

from __future__ import annotations

from collections.abc import Callable

from slipway.errors import UsageError

# From a line of a template, counted from 1, to what a person is told: "config.yaml:14".
Where = Callable[[int], str]


class HydraError(UsageError):
    """Something of Hydra's documents or of a runtime that has no counterpart; ``about`` names file and line."""
