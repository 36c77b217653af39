"""What is wrong with a record when it is held against others: the field, and a sentence about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A fault of an endpoint's record.

    Attributes:
        field: the field of the record, with dots (``parallel.tensor``); an editor jumps to its line.
        message: what does not fit and what would, with the numbers.
    """

    field: str
    message: str
