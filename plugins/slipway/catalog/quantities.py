"""Kubernetes quantities (``250m``, ``16Gi``, ``4``) as numbers, and numbers as people read them."""

from __future__ import annotations

import re
from fractions import Fraction

from slipway.errors import UsageError

_SUFFIXES: dict[str, Fraction] = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    **{f"{prefix}i": Fraction(1024 ** (power + 1)) for power, prefix in enumerate("KMGTPE")},
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([A-Za-z]*)")
_BYTES = ("memory", "ephemeral-storage", "storage", "hugepages-")


def quantity(text: str) -> Fraction:
    """Return a quantity as an exact number.

    Raises:
        UsageError: it is none.
    """
    found = _QUANTITY.fullmatch(str(text))
    if found is None or found[2] not in _SUFFIXES:
        raise UsageError("not a quantity", about=text, remedy="Write it as 250m, 4 or 16Gi")
    return Fraction(found[1]) * _SUFFIXES[found[2]]


def readable(resource: str, amount: Fraction) -> str:
    """Return an amount of a resource in the unit that people use for it."""
    if resource.startswith(_BYTES):
        for suffix in ("Ti", "Gi", "Mi", "Ki"):
            unit = _SUFFIXES[suffix]
            if abs(amount) >= unit:
                return f"{_short(amount / unit)}{suffix}"
        return _short(amount)
    if resource == "cpu" and amount.denominator != 1:
        return f"{round(amount * 1000)}m"
    return _short(amount)


def _short(amount: Fraction) -> str:
    return str(amount.numerator) if amount.denominator == 1 else f"{float(amount):.1f}"


def quantity_bytes(text: str) -> int:
    """Return the bytes of a quantity such as ``16Mi`` or ``1.5G``."""
    return int(quantity(text))
