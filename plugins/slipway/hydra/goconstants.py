"""Go's constants as templates have them: whole numbers and strings, by the rules of strconv."""

from __future__ import annotations

import re

from slipway.errors import bounded
from slipway.hydra.faults import HydraError, Where
from slipway.hydra.gotokens import Token

_INTEGER = re.compile(r"[+-]?(0|[1-9](_?[0-9])*|0[xX](_?[0-9a-fA-F])+|0[oO]?(_?[0-7])+|0[bB](_?[01])+)")
_ESCAPE = re.compile(
    r"\\(?:(?P<plain>[abfnrtv\\\"])|x(?P<hex>[0-9a-fA-F]{2})|(?P<octal>[0-3][0-7]{2})"
    r"|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8})|(?P<wrong>.?))",
    re.DOTALL,
)
_PLAIN = {"a": 7, "b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 92, '"': 34}


def number(token: Token, where: Where) -> int:
    """A whole number as Go writes it; 0 in front means octal."""
    text = token.text
    if not _INTEGER.fullmatch(text):
        raise HydraError(
            f"{bounded(text, limit=60)!r} in a template", about=where(token.line), why="not a whole number"
        )
    digits = text.lstrip("+-").replace("_", "").lower()
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    value = int(digits, 8) if octal else int(digits, 0)
    value = -value if text.startswith("-") else value
    if not -(2**63) <= value < 2**63:
        raise HydraError(
            f"{bounded(text, limit=60)!r} in a template", about=where(token.line), why="too large"
        )
    return value


def unquoted(token: Token, where: Where) -> str:
    """The value of an interpreted string, by the rules of Go's strconv.Unquote."""
    made = bytearray()
    text, position = token.text[1:-1], 0
    for escape in _ESCAPE.finditer(text):
        made += text[position : escape.start()].encode("utf-8", "surrogatepass")
        position = escape.end()
        if escape["wrong"] is not None:
            fault = f"{escape.group()!r} is no escape of Go's"
            raise HydraError("a string in a template", about=where(token.line), why=fault)
        if escape["plain"]:
            made.append(_PLAIN[escape["plain"]])
        elif escape["short"] or escape["long"]:
            code = int(escape["short"] or escape["long"], 16)
            made += (chr(code) if code < 0x110000 else "\ud800").encode("utf-8", "surrogatepass")
        else:
            made.append(int(escape["hex"], 16) if escape["hex"] else int(escape["octal"], 8))
    made += text[position:].encode("utf-8", "surrogatepass")
    try:
        value = made.decode("utf-8")
    except UnicodeDecodeError:
        raise HydraError("a string in a template", about=where(token.line), why="not UTF-8") from None
    if "\r" in value or "\0" in value:
        raise HydraError(
            "a carriage return or a NUL in a template", about=where(token.line), remedy="Take it out"
        )
    return value
